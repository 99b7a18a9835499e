from pathlib import Path

import pytest

from registry.saved_states import SavedStates


def write(text: str):
    def fill(folder: Path) -> None:
        (folder / "part").mkdir()
        (folder / "part" / "weights").write_text(text)

    return fill


def test_states_are_read_back_in_their_order_and_the_newest_are_kept(tmp_path: Path) -> None:
    states = SavedStates(tmp_path / "states")
    assert states.numbers() == []
    for number in (2, 10, 7):
        states.save(number, write(str(number)))
    assert states.numbers() == [2, 7, 10]
    states.keep_newest(2)
    assert states.numbers() == [7, 10]
    assert (states.path(10) / "part" / "weights").read_text() == "10"


def test_a_state_saved_again_replaces_the_old_one(tmp_path: Path) -> None:
    states = SavedStates(tmp_path / "states")
    states.save(1, write("old"))
    states.save(1, write("new"))
    assert states.numbers() == [1] and (states.path(1) / "part" / "weights").read_text() == "new"


@pytest.mark.parametrize("damage", ["changed", "missing", "foreign", "unsummed"])
def test_a_torn_state_is_skipped_aloud(tmp_path: Path, damage: str) -> None:
    said: list[str] = []
    states = SavedStates(tmp_path / "states", said.append)
    states.save(1, write("first"))
    states.save(2, write("second"))
    weights = states.path(2) / "part" / "weights"
    if damage == "changed":
        weights.write_text("secone")
    elif damage == "missing":
        weights.unlink()
    elif damage == "foreign":
        (states.path(2) / "more").write_text("x")
    else:
        (states.path(2) / "complete.json").unlink()
    assert states.numbers() == [1]
    assert said == [f"the saved state {states.path(2)} is torn, and is skipped"]


def test_a_state_that_was_being_written_is_none(tmp_path: Path) -> None:
    states = SavedStates(tmp_path / "states")

    def stop(folder: Path) -> None:
        (folder / "weights").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        states.save(1, stop)
    assert states.numbers() == []
    states.save(1, write("whole"))
    assert states.numbers() == [1]

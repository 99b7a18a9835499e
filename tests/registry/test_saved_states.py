from pathlib import Path

import pytest

from registry.saved_states import SavedStates, SaveEvery
from registry.store import Registry


def write(text: str):
    def fill(folder: Path) -> None:
        (folder / "part").mkdir()
        (folder / "part" / "weights").write_text(text)

    return fill


def test_states_are_read_back_in_their_order_and_the_newest_are_kept(tmp_path: Path) -> None:
    states = SavedStates(tmp_path / "states")
    assert states.numbers() == []
    for number in (2, 7, 10):
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


@pytest.mark.parametrize(
    ("text", "every"),
    [
        ("90s", SaveEvery(seconds=90)),
        ("10m", SaveEvery(seconds=600)),
        ("2h", SaveEvery(seconds=7200)),
        ("200", SaveEvery(steps=200)),
        (" 1m ", SaveEvery()),
    ],
)
def test_an_interval_is_a_time_or_a_number_of_steps(text: str, every: SaveEvery) -> None:
    assert SaveEvery.parse(text) == every


@pytest.mark.parametrize("text", ["soon", "", "0", "0m", "-5", "-5m", "1.5", "10 m", "10d", "m", "200 steps"])
def test_an_interval_that_is_neither_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"between saved states is '.*'; it is a time such as 90s, 10m or 2h, or a number of"):
        SaveEvery.parse(text)


def test_a_state_is_due_when_its_time_has_come(tmp_path: Path) -> None:
    now = [1000.0]
    states = SavedStates(tmp_path / "states", every=SaveEvery(seconds=90), clock=lambda: now[0])
    assert not states.due(1)
    now[0] += 89
    assert not states.due(500)
    now[0] += 1
    assert states.due(501)
    states.save(501, write("x"))
    assert not states.due(502)


def test_a_state_is_due_after_so_many_steps_wherever_the_loop_began(tmp_path: Path) -> None:
    states = SavedStates(tmp_path / "states", every=SaveEvery(steps=3), clock=lambda: 0.0)
    assert [step for step in range(1, 10) if states.due(step)] == [3, 6, 9]
    states.save(6, write("x"))
    assert [step for step in range(7, 10) if SavedStates(tmp_path / "states", every=SaveEvery(steps=3)).due(step)] == [9]


def test_a_draft_has_the_interval_that_was_asked_for(tmp_path: Path) -> None:
    with Registry(tmp_path).draft("policy", "sft", "ab", save_every=SaveEvery(steps=7)) as draft:
        assert draft.states.every == SaveEvery(steps=7)
    with Registry(tmp_path).draft("policy", "sft", "ab") as draft:
        assert draft.states.every == SaveEvery(seconds=60)


def test_states_after_a_torn_one_give_way_to_the_new(tmp_path: Path) -> None:
    states = SavedStates(tmp_path / "states")
    for number in (20, 29, 30):
        states.save(number, write(str(number)))
    for number in (29, 30):
        (states.path(number) / "complete.json").unlink()
    states.save(21, write("again"))
    states.keep_newest(2)
    assert states.numbers() == [20, 21]

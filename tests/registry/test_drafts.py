import fcntl
import multiprocessing
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from registry_folders import RUN, put, run_until_killed

from registry.drafts import discard, unfinished
from registry.errors import CannotWrite, DraftInUse, RegistryError
from registry.store import Registry
from registry.writing import check_locks

ASKED = {"stage": "sft", "config": {"epochs": 2}}


def save_text(text: str):
    return lambda folder: (folder / "weights").write_text(text) and None


def stop_after_saving(registry: Registry, number: int = 1) -> None:
    with pytest.raises(KeyboardInterrupt), registry.draft("policy", "sft", "ab", ASKED) as draft:
        (draft.path / "half").write_text("written")
        draft.states.save(number, save_text("saved"))
        raise KeyboardInterrupt


def test_what_a_stopped_stage_saved_is_there_for_the_next_run(registry: Registry) -> None:
    stop_after_saving(registry)
    (left,) = unfinished(registry.root)
    assert (left.artifact, left.fingerprint, left.asked, left.held, left.num_states) == ("policy/sft", "ab", ASKED, False, 1)
    assert str(os.getpid()) in left.process
    with registry.draft("policy", "sft", "ab", ASKED) as draft:
        assert list(draft.path.iterdir()) == []
        assert draft.states.numbers() == [1]
        assert (draft.states.path(1) / "weights").read_text() == "saved"
        (draft.path / "model").write_text("whole")
        draft.commit(RUN, {})
    assert unfinished(registry.root) == () and not (registry.root / ".drafts" / "ab").exists()


def test_a_fresh_draft_goes_on_from_what_a_fresh_one_saved_alone(registry: Registry) -> None:
    stop_after_saving(registry)
    with registry.draft("policy", "sft", "ab", ASKED, fresh=True) as draft:
        assert draft.states.numbers() == []
        draft.states.save(7, lambda folder: (folder / "weights").write_text("forced"))
    (left,) = unfinished(registry.root)
    assert left.num_states == 2
    with registry.draft("policy", "sft", "ab", ASKED) as draft:
        assert draft.states.numbers() == [1]
    with registry.draft("policy", "sft", "ab", ASKED, fresh=True) as draft:
        assert draft.states.numbers() == [7]
        (draft.path / "model").write_text("whole")
        draft.commit(RUN, {})
    assert unfinished(registry.root) == ()


def test_drafts_that_nobody_holds_can_be_discarded(registry: Registry) -> None:
    stop_after_saving(registry)
    with registry.draft("policy", "sft", "cd", ASKED) as held:
        assert [(left.fingerprint, left.held) for left in unfinished(registry.root)] == [("ab", False), ("cd", True)]
        assert discard(registry.root, "ab") and not discard(registry.root, "cd") and not discard(registry.root, "ef")
        assert held.path.is_dir()
    assert unfinished(registry.root) == ()


@pytest.mark.parametrize("content", [None, "", '{"artifact": "policy/s', "[1]", "17", '{"artifact": "policy/sft"}'])
def test_a_draft_that_cannot_tell_what_it_is_is_shown_and_can_be_discarded(registry: Registry, content: str | None) -> None:
    stop_after_saving(registry)
    path = registry.root / ".drafts" / "ab" / "draft.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    (left,) = unfinished(registry.root)
    assert (left.artifact, left.fingerprint, left.process, left.held, left.num_states) == ("unknown", "ab", "unknown", False, 1)
    with registry.draft("policy", "sft", "ab", ASKED) as draft:  # the states are whole all the same
        assert draft.states.numbers() == [1]
    path.unlink()
    assert discard(registry.root, "ab") and unfinished(registry.root) == ()


def _make_slowly(root: str, started) -> None:
    with Registry(root).draft("policy", "sft", "ab", ASKED) as draft:
        started.set()
        time.sleep(0.3)
        (draft.path / "model").write_text("theirs")
        draft.commit(RUN, {})


def test_a_draft_that_another_process_holds_is_waited_for_by_name(registry: Registry) -> None:
    context = multiprocessing.get_context("fork")
    started = context.Event()
    other = context.Process(target=_make_slowly, args=(str(registry.root), started))
    other.start()
    assert started.wait(10)
    with pytest.raises(DraftInUse, match=f"process {other.pid} on "), registry.draft("policy", "sft", "ab"):
        pass
    told: list[str] = []
    with registry.draft("policy", "sft", "ab", waiting=told.append):
        assert registry.find_fingerprint("ab", "policy", "sft") is not None
    other.join()
    assert len(told) == 1 and f"being made by another process (process {other.pid} on " in told[0]


def test_a_kill_while_a_state_is_saved_leaves_the_one_before_and_no_payload(registry: Registry) -> None:
    code = (
        "import sys, os, signal; from registry.store import Registry\n"
        "with Registry(sys.argv[1]).draft('policy', 'sft', 'ab') as draft:\n"
        "    (draft.path / 'stale').write_text('half')\n"
        "    draft.states.save(1, lambda folder: (folder / 'weights').write_text('first'))\n"
        "    def half(folder):\n"
        "        (folder / 'weights').write_text('sec')\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    draft.states.save(2, half)\n"
    )
    run_until_killed(code, registry)
    assert (registry.root / ".drafts" / "ab" / "out" / "stale").exists() and registry.references() == ()
    with registry.draft("policy", "sft", "ab") as draft:
        assert draft.states.numbers() == [1] and list(draft.path.iterdir()) == []


def test_a_file_system_without_locks_is_refused(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda file, how: None)
    with pytest.raises(RegistryError, match="no working locks"):
        put(registry, "policy/sft", {"model": "w"})
    monkeypatch.undo()
    check_locks(registry.root)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_commits_nothing_and_says_how_to_go_on(small_disk: Path) -> None:
    registry = Registry(small_disk / "registry")
    with pytest.raises(CannotWrite, match="is full, and nothing was committed; free some space"):
        put(registry, "policy/sft", {"model": "w" * 400_000})
    assert registry.references() == () and unfinished(registry.root) == ()
    put(registry, "policy/sft", {"model": "w"})


def test_a_registry_that_may_only_be_read_can_be_read(small_disk: Path) -> None:
    registry = Registry(small_disk / "registry")
    made = put(registry, "policy/sft", {"model": "w"})
    stop_after_saving(registry)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert registry.open("policy/sft") == made and registry.verify("policy/sft") == () and registry.list() == (made,)
    assert [left.held for left in unfinished(registry.root)] == [False]
    with pytest.raises(CannotWrite, match=r"cannot be written.*another --registry"):
        put(registry, "policy/other", {"model": "w"})
    with pytest.raises(CannotWrite, match="cannot be written"):
        registry.set_alias("policy/chat", "policy/sft")

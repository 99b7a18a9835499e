"""A file is scored to the same bytes however often the work was stopped; what was made of something else is never mixed in."""

import errno
import io
import json
import math
import re
import tracemalloc
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes import ConstantScorer, tiny_policy, tiny_tokenizer
from filelock import FileLock
from rich.console import Console
from scored_files import CHUNK, ChunkScorer, Killed, run
from transformers import LlamaForSequenceClassification

from preference_data.files.opening import AnnotationFileError
from registry.errors import CannotWrite
from reward_model.scoring import RewardScorer, TooLong
from stages.scoring.score import ScoringModel, score_file
from stages.terminal.progress import Progress

BAD = {
    1: b"not json",
    4: b'{"prompt": "hi"}',
    5: b"[1, 2]",
    9: b'{"prompt": "hi", "response": "\xff"}',
    10: b'{"prompt": 5, "response": "five"}',
    11: b'{"messages": 5}',
    12: b'{"prompt": "say [INST]", "response": "no"}',
    17: b'{"prompt": "hi", "response": "\\ud800"}',
    18: b"[" * 5000,
    21: b'{"prompt": "a NUL", "response": "\0"}',
}
BLANK = (7, 13, 14, 15, 16)
NUM_LINES = 22


def row(number: int, more: str = "") -> bytes:
    return json.dumps({"id": number, "prompt": f"Question {number}?", "response": f"é{'a' * number}{more}"}).encode()


def lines(count: int = NUM_LINES) -> list[bytes]:
    return [BAD.get(number) or (b"  " if number in BLANK else row(number)) for number in range(1, count + 1)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b"\n".join(lines()) + b"\n")
    return path


def results(path: Path, name: str = "answers") -> tuple[bytes, bytes]:
    return tuple(path.with_name(f"{name}.scored.{end}").read_bytes() for end in ("jsonl", "rejects.jsonl"))


@pytest.fixture
def whole(path: Path) -> tuple[bytes, bytes]:
    """What an uninterrupted run makes of ``path``."""
    run(path, ChunkScorer(), name="whole")
    return results(path, "whole")


def stop(path: Path, call: int, **options) -> None:
    with pytest.raises(Killed):
        run(path, ChunkScorer(call), **options)
    assert not path.with_name("answers.scored.jsonl").exists()


def test_rows_keep_their_fields_and_get_scores(path: Path) -> None:
    rows = [
        {"prompt": "a?", "response": "b", "id": 1},
        {"prompt": [{"role": "user", "content": "c?"}], "response": "d", "is_safety": True},
        {"messages": [{"role": "user", "content": "e?"}, {"role": "assistant", "content": "f"}]},
    ]
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    done = run(path, ConstantScorer(2.0), ConstantScorer(-1.0))
    assert (done.read, done.scored, done.rejected, done.rejects_file, done.up_to_date) == (3, 3, 0, None, False)
    scored = [json.loads(line) for line in done.output.read_text().splitlines()]
    for before, after in zip(rows, scored, strict=True):
        scores = after.pop("scores")
        assert after == before
        assert [scores[f"reward_model/m{i}@1"]["logit"] for i in (0, 1)] == [2.0, -1.0]
        assert scores["reward_model/m0@1"]["sigmoid"] == pytest.approx(1 / (1 + math.exp(-2)))
        assert scores["combined"]["logit"] == (-1.0 if before.get("is_safety") else 2.0)
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "answers.jsonl", "answers.scored.jsonl", "answers.scored.record.json",
    ]  # fmt: skip


def test_of_two_models_of_one_axis_neither_is_combined(path: Path) -> None:
    path.write_text('{"prompt": "a?", "response": "b"}\n')
    scorers = (ConstantScorer(1.0), ConstantScorer(-2.0), ConstantScorer(3.0))
    done = run(path, *scorers, axes=("helpfulness", "helpfulness", "safety"))
    assert list(json.loads(done.output.read_text())["scores"]) == [f"reward_model/m{i}@1" for i in range(3)]


def test_every_row_is_scored_or_rejected_with_its_line(path: Path, whole: tuple[bytes, bytes]) -> None:
    scored, rejects = ([json.loads(line) for line in part.decode().splitlines()] for part in whole)
    assert {each["line"] for each in rejects} == set(BAD) and [each["line"] for each in rejects] == sorted(BAD)
    assert [each["id"] for each in scored] == [n for n in range(1, NUM_LINES + 1) if n not in BAD and n not in BLANK]
    texts = {each["line"]: each["row"] for each in rejects}
    assert texts[5] == "[1, 2]" and "\\xff" in texts[9]
    reasons = {each["line"]: each["reason"] for each in rejects}
    assert "this one has prompt" in reasons[4] and "a JSON list" in reasons[5] and "not UTF-8" in reasons[9]
    assert "it is 5" in reasons[10] and "it is 5" in reasons[11] and "[INST]" in reasons[12]
    assert "not JSON" in reasons[1] and "not UTF-8" in reasons[17] and "NUL" in reasons[21]


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_stopped_run_goes_on_to_the_same_bytes(path: Path, whole: tuple[bytes, bytes], call: int) -> None:
    every = ChunkScorer()
    run(path, every, name="count")
    assert every.calls == 4, "of five chunks of four rows, one has only rows that are rejected"
    stop(path, call)
    stop(path, 1)
    said: list[str] = []
    rest = ChunkScorer()
    done = run(path, rest, said=said)
    assert results(path) == whole and rest.calls == every.calls - (call - 1)
    assert (done.read, done.scored, done.rejected) == (17, 7, 10)
    after = {1: None, 2: 4, 3: 12, 4: 16}[call]
    assert said[:-2] == ([f"{done.output} goes on after row {after} of {path}"] if after else [])
    assert said[-2] == f"{path} holds dialogues"
    assert not list(path.parent.glob("answers.*part")) and not list(path.parent.glob("*.lock"))


@pytest.mark.parametrize("part", ["jsonl.part", "rejects.jsonl.part"])
def test_what_was_written_after_the_last_record_is_cut_off(path: Path, whole: tuple[bytes, bytes], part: str) -> None:
    stop(path, 3)
    with path.with_name(f"answers.scored.{part}").open("ab") as file:
        file.write(b'{"id": 99, "scor' * 1000)
    run(path, ChunkScorer())
    assert results(path) == whole


def test_rejects_after_the_last_record_are_cut_off_where_no_more_come(path: Path) -> None:
    path.write_bytes(b"oops\n" + b"".join(row(number) + b"\n" for number in range(12)))
    stop(path, 2)
    with path.with_name("answers.scored.rejects.jsonl.part").open("ab") as file:
        file.write(b'{"line": 5, "rea')
    run(path, ChunkScorer())
    run(path, ChunkScorer(), name="fresh")
    assert results(path) == results(path, "fresh")


class Stopping(Progress):
    """Kills the process when progress is told for the ``left``-th time."""

    def __init__(self, left: int):
        super().__init__(quiet=True)
        self.left = left

    @contextmanager
    def meter(self, *arguments):
        def advance(item, amount=1):
            self.left -= 1
            if self.left == 0:
                raise Killed

        yield advance


def test_rows_that_are_added_after_a_chunk_that_was_not_full_do_not_shift_the_chunks(path: Path) -> None:
    with pytest.raises(Killed):
        run(path, ChunkScorer(), progress=Stopping(5))
    path.write_bytes(path.read_bytes() + b"".join(row(number) + b"\n" for number in range(30, 39)))
    run(path, ChunkScorer())
    run(path, ChunkScorer(), name="fresh")
    assert results(path) == results(path, "fresh")


def test_a_last_chunk_that_is_full_ends_the_file_as_well(path: Path) -> None:
    path.write_bytes(b"".join(row(number) + b"\n" for number in range(8)))
    scorer = ChunkScorer()
    assert run(path, scorer).scored == 8 and scorer.calls == 2


def damage_record(path: Path) -> None:
    record = path.with_name("answers.scored.record.json")
    record.write_bytes(record.read_bytes()[:40])


def damage_part(path: Path) -> None:
    part = path.with_name("answers.scored.jsonl.part")
    part.write_bytes(part.read_bytes()[:-3])


def lose_part(path: Path) -> None:
    path.with_name("answers.scored.rejects.jsonl.part").unlink()


def edit_input(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"Question 2?", b"Question Z?"))


def shorten_input(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage_record, "answers.scored.record.json is no record of a scoring, and is not used"),
        (damage_part, "begins again, because .*answers.scored.jsonl.part has [0-9]+ bytes where [0-9]+ were written"),
        (lose_part, "begins again, because .*answers.scored.rejects.jsonl.part has 0 bytes where"),
        (edit_input, "begins again, because the 12 rows that were read of .*answers.jsonl are not what they were"),
        (shorten_input, "begins again, because the 12 rows that were read of"),
    ],
)
def test_where_something_is_not_what_it_was_the_work_begins_again_and_says_so(
    path: Path, change: Callable[[Path], None], message: str
) -> None:
    stop(path, 3)
    change(path)
    said: list[str] = []
    run(path, ChunkScorer(), said=said)
    run(path, ChunkScorer(), name="fresh")
    assert results(path) == results(path, "fresh")
    assert re.search(message, "\n".join(said))


def test_another_model_is_not_mixed_in(path: Path) -> None:
    stop(path, 3)
    said: list[str] = []
    run(path, ConstantScorer(1.0), said=said, digest="d2")
    assert said[0].endswith("it was made with reward_model/m0@1 (d1), and asked for is reward_model/m0@1 (d2)")
    logits = [json.loads(line)["scores"]["reward_model/m0@1"]["logit"] for line in results(path)[0].decode().splitlines()]
    assert logits == [1.0] * 7


def test_work_that_began_again_is_not_taken_for_the_work_before(path: Path, whole: tuple[bytes, bytes]) -> None:
    """Killed with another model before its first record, and run as at first: nothing is left of either."""
    stop(path, 4)
    with pytest.raises(Killed):
        run(path, ChunkScorer(1), digest="d2")
    path.with_name("answers.scored.jsonl.part").write_bytes(b"x" * 100_000)
    run(path, ChunkScorer())
    assert results(path) == whole


@pytest.mark.parametrize("change", ["more rows", "an edited row"])
def test_rows_that_were_not_yet_read_may_change(path: Path, change: str) -> None:
    stop(path, 3)
    if change == "more rows":
        path.write_bytes(path.read_bytes() + b"".join(row(number) + b"\n" for number in range(30, 39)))
    else:
        path.write_bytes(path.read_bytes().replace(b"Question 22?", b"Question 22, again?"))
    said: list[str] = []
    run(path, ChunkScorer(), said=said)
    run(path, ChunkScorer(), name="fresh")
    assert results(path) == results(path, "fresh") and "goes on after row 12" in said[0]
    assert run(path, ChunkScorer(1)).up_to_date


def test_a_whole_output_is_up_to_date_and_no_model_is_opened(path: Path, whole: tuple[bytes, bytes]) -> None:
    made = run(path, ChunkScorer())
    again = score_file(
        path, made.output, [ScoringModel("reward_model/m0@1", "d1", "helpfulness", pytest.fail)], Progress(quiet=True),
        chunk_size=CHUNK,
    )  # fmt: skip
    assert again.up_to_date and (again.read, again.scored, again.rejected) == (17, 7, 10)
    assert again.rejects_file == made.rejects_file and results(path) == whole


def test_a_process_that_ended_between_the_last_record_and_the_names_is_tidied_up_after(
    path: Path, whole: tuple[bytes, bytes]
) -> None:
    output = run(path, ChunkScorer()).output
    output.rename(output.with_name(output.name + ".part"))
    assert run(path, ChunkScorer(1)).up_to_date and results(path) == whole
    assert not list(path.parent.glob("answers*.part"))


@pytest.mark.parametrize(
    ("options", "change", "message"),
    [
        ({"digest": "d2"}, None, r"made with reward_model/m0@1 \(d1\), and asked for is reward_model/m0@1 \(d2\)"),
        ({}, edit_input, "answers.jsonl is not what it was then"),
        ({}, lambda path: path.write_bytes(path.read_bytes() + row(40)), "answers.jsonl is not what it was then"),
        ({}, lambda path: path.with_name("answers.scored.jsonl").write_bytes(b"mine"), "has 4 bytes where"),
        ({}, lambda path: path.with_name("answers.scored.record.json").unlink(), "what it was made from is not known"),
    ],
)
def test_an_output_that_was_made_of_something_else_is_replaced_only_when_told(path: Path, options, change, message) -> None:
    run(path, ChunkScorer())
    if change:
        change(path)
    before = results(path)
    with pytest.raises(ValueError, match=f"answers.scored.jsonl exists, and .*{message}.*--out, or --force"):
        run(path, ChunkScorer(), **options)
    assert results(path) == before
    with pytest.raises(Killed):
        run(path, ChunkScorer(2), force=True, **options)
    assert results(path) == before, "the old output stays until the new one is whole"
    run(path, ChunkScorer(), **options)
    run(path, ChunkScorer(), name="fresh", **options)
    assert results(path) == results(path, "fresh")


def test_an_output_that_was_taken_away_is_made_again(path: Path, whole: tuple[bytes, bytes]) -> None:
    run(path, ChunkScorer()).output.unlink()
    assert not run(path, ChunkScorer()).up_to_date and results(path) == whole


def test_rejects_of_an_older_run_do_not_stay(path: Path) -> None:
    run(path, ChunkScorer())
    path.write_bytes(row(1))
    done = run(path, ChunkScorer(), force=True)
    assert done.rejects_file is None and not path.with_name("answers.scored.rejects.jsonl").exists()


def test_where_all_rows_are_rejected_the_output_is_empty(path: Path) -> None:
    path.write_bytes(b'{"prompt": "hi", "response": ""}\n' * 9)
    done = run(path, ChunkScorer())
    assert (done.read, done.scored, done.rejected) == (9, 0, 9)
    assert results(path)[0] == b"" and results(path)[1].count(b"\n") == 9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"score .*answers\.jsonl: the file holds no rows\. Each row needs prompt and response, or messages; or a pair"),
        (b"\n" * 9, "the file holds no rows"),
        (b"not json\n" * 9, "no row can be read; line 1: the line is not JSON"),
        (
            b'{"question": "why"}\n',
            "line 1 has the fields 'question', which are no format's. Each row needs prompt and response",
        ),
    ],
)
def test_a_file_with_nothing_to_score_is_refused_and_leaves_nothing(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(AnnotationFileError, match=message):
        run(path, ChunkScorer())
    assert list(path.parent.iterdir()) == [path]


def test_a_file_is_not_scored_over_itself(path: Path) -> None:
    content = path.read_bytes()
    rejects = path.rename(path.with_name("a.rejects.jsonl"))  # which the output's rejects would be called
    for output in ("a.rejects.jsonl", "a.jsonl"):
        with pytest.raises(ValueError, match=r"would write over .*, the file to score; give another --out"):
            score_file(rejects, path.parent / "." / output, [], Progress(quiet=True), force=True)
    assert rejects.read_bytes() == content


def test_a_dialogue_too_long_for_a_model_is_rejected(path: Path) -> None:
    trunk = tiny_policy()
    trunk.config.num_labels = 1
    scorer = RewardScorer(LlamaForSequenceClassification(trunk.config), tiny_tokenizer(), max_length=60)
    path.write_bytes(b"\n".join([row(1), row(2, "b" * 300), row(3), row(4, "b" * 400), row(5)]))
    with pytest.raises(TooLong, match=r"dialogue 0 has \d{3} tokens, and this scorer takes 60 at most \(1 more are too long\)"):
        messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "b" * 300}]
        scorer.score([messages, messages])
    done = run(path, scorer, ConstantScorer(0.0))
    assert [json.loads(line)["id"] for line in done.output.read_text().splitlines()] == [1, 3, 5]
    rejects = [json.loads(line) for line in done.rejects_file.read_text().splitlines()]
    assert [each["line"] for each in rejects] == [2, 4] and "tokens, and a model takes 60 at most" in rejects[0]["reason"]
    path.write_bytes(row(1, "b" * 300))
    assert run(path, scorer, force=True).scored == 0


def test_a_full_disk_loses_nothing(path: Path, whole: tuple[bytes, bytes]) -> None:
    with pytest.raises(CannotWrite, match=r"the disk of .* is full; what was scored is kept\. Free some space and run"):
        run(path, ChunkScorer(3, OSError(errno.ENOSPC, "No space left on device")))
    said: list[str] = []
    run(path, ChunkScorer(), said=said)
    assert results(path) == whole and "goes on after row 12" in said[0]
    with pytest.raises(OSError, match="Input/output error"):
        run(path, ChunkScorer(1, OSError(errno.EIO, "Input/output error")), force=True)


def test_two_processes_do_not_write_one_output(path: Path) -> None:
    lock = FileLock(path.with_name("answers.scored.jsonl.lock"))
    with lock, pytest.raises(RuntimeError, match=r"another process is scoring into .*answers\.scored\.jsonl at this moment"):
        run(path, ChunkScorer())
    run(path, ChunkScorer())


def test_memory_does_not_grow_with_the_file(path: Path) -> None:
    def peak(count: int) -> int:
        path.write_bytes(b"".join(row(n, "b" * 2000) + b"\n" for n in range(count)))
        tracemalloc.start()
        run(path, ConstantScorer(0.0), force=True)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(20)  # what is imported and cached once
    few, many = peak(20), peak(200)
    assert path.stat().st_size > 400_000 and many < few + 20_000


def test_progress_is_told_in_bytes_of_what_is_left_of_the_input(path: Path) -> None:
    rows = [row(number) + b"\n" for number in range(22)]
    path.write_bytes(b"".join(rows))
    stop(path, 4)
    screen = io.StringIO()
    run(path, ChunkScorer(), progress=Progress(console=Console(file=screen, width=200)))
    left = f"{len(b''.join(rows[12:])) / 1e3:.3g}"
    assert f"scoring: {left}/{left} kB" in screen.getvalue()

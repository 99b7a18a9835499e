"""A file is scored to the same bytes however often the work was stopped; what was made of something else is never mixed in."""

import errno
import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import ConstantScorer, tiny_policy, tiny_tokenizer
from rich.console import Console
from scored_files import CHUNK, ChunkScorer, TableScorer, lines_of, run, write
from stopped_runs import Killed
from transformers import LlamaForSequenceClassification

from preference_data.files.opening import AnnotationFileError
from registry.drafts import unfinished
from registry.errors import CannotWrite
from registry.saved_states import SavedStates
from registry.store import Registry
from reward_model.scoring import RewardScorer, TooLong
from stages.external_files import FileProblem, sha256_of
from stages.scoring.score import score_file
from stages.sections import ScoreConfig
from stages.terminal.progress import Progress

M0, M1 = "reward_model/m0@1", "reward_model/m1@1"
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


@pytest.fixture
def whole(path: Path) -> tuple[bytes, bytes]:
    """What an uninterrupted run makes of ``path``."""
    return run(path, ChunkScorer(), folder="whole").results


def stop(path: Path, call: int, **options) -> None:
    with pytest.raises(Killed):
        run(path, ChunkScorer(call), **options)
    assert not Registry(path.parent / "registry").revisions("evaluation", "scored")


def test_rows_keep_their_fields_and_get_scores(path: Path) -> None:
    rows = [
        {"prompt": "a?", "response": "b", "id": 1},
        {"prompt": [{"role": "user", "content": "c?"}], "response": "d", "is_safety": True},
        {"messages": [{"role": "user", "content": "e?"}, {"role": "assistant", "content": "f"}]},
    ]
    write(path, rows)
    done = run(path, ConstantScorer(2.0), ConstantScorer(-1.0))
    assert done.counts == (3, 3, 0) and not done.rejects.exists() and not done.up_to_date
    for before, after in zip(rows, lines_of(done.scored), strict=True):
        scores = after.pop("scores")
        assert after == before
        assert [scores[name]["logit"] for name in (M0, M1)] == [2.0, -1.0]
        assert scores[M0]["sigmoid"] == pytest.approx(1 / (1 + math.exp(-2)))
        assert scores["combined"]["logit"] == (-1.0 if before.get("is_safety") else 2.0)


def test_of_two_models_of_one_axis_neither_is_combined(path: Path) -> None:
    path.write_text('{"prompt": "a?", "response": "b"}\n')
    scorers = (ConstantScorer(1.0), ConstantScorer(-2.0), ConstantScorer(3.0))
    done = run(path, *scorers, axes=("helpfulness", "helpfulness", "safety"))
    assert list(json.loads(done.scored.read_text())["scores"]) == [f"reward_model/m{number}@1" for number in range(3)]


@pytest.mark.parametrize(("threshold", "below"), [(0.15, 1), (0.2, 2), (0.9, 3)])
def test_the_combined_score_is_the_safety_score_below_the_threshold(path: Path, threshold: float, below: int) -> None:
    safety = {text: math.log(share / (1 - share)) for text, share in (("bad", 0.1), ("doubtful", 0.18), ("good", 0.8))}
    write(path, [{"prompt": "a?", "response": text} for text in safety])
    done = run(path, ConstantScorer(5.0), TableScorer(safety), safety_threshold=threshold)
    combined = [scored["scores"]["combined"]["logit"] for scored in lines_of(done.scored)]
    assert combined == pytest.approx([*list(safety.values())[:below], *[5.0] * (3 - below)])


def test_every_row_is_scored_or_rejected_with_its_line(path: Path, whole: tuple[bytes, bytes]) -> None:
    scored, rejects = ([json.loads(line) for line in part.decode().splitlines()] for part in whole)
    assert [each["line"] for each in rejects] == sorted(BAD)
    assert [each["id"] for each in scored] == [n for n in range(1, NUM_LINES + 1) if n not in BAD and n not in BLANK]
    texts = {each["line"]: each["row"] for each in rejects}
    assert texts[5] == "[1, 2]" and "\\xff" in texts[9]
    reasons = {each["line"]: each["reason"] for each in rejects}
    assert "this one has prompt" in reasons[4] and "a JSON list" in reasons[5] and "not UTF-8" in reasons[9]
    assert "it is 5" in reasons[10] and "it is 5" in reasons[11] and "[INST]" in reasons[12]
    assert "not JSON" in reasons[1] and "not UTF-8" in reasons[17] and "NUL" in reasons[21]


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_stopped_run_resumes_to_the_same_bytes(path: Path, whole: tuple[bytes, bytes], call: int) -> None:
    every = ChunkScorer()
    run(path, every, folder="count")
    assert every.calls == 4, "of five chunks of four rows, one has only rows that are rejected"
    stop(path, call)
    stop(path, 1)
    said: list[str] = []
    rest = ChunkScorer()
    done = run(path, rest, said=said)
    assert done.results == whole and rest.calls == every.calls - (call - 1)
    assert done.counts == (17, 7, 10) and f"{path} holds dialogues" in said
    after = {1: None, 2: 4, 3: 12, 4: 16}[call]
    resumed = [f"the first {after} rows of {path} are scored already; scoring resumes after them"] if after else []
    assert [line for line in said if "scoring resumes" in line] == resumed
    assert not unfinished(path.parent / "registry")


def test_where_all_rows_were_scored_before_no_model_is_opened(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"".join(row(number) + b"\n" for number in range(2 * CHUNK)))  # a last chunk that is full ends the file
    scorer, states = ChunkScorer(), SavedStates(tmp_path / "states")
    config = ScoreConfig(file=str(path), sha256=sha256_of(path), models=((M0, ""),), rows_per_chunk=CHUNK)
    made = []
    for load in (lambda: {M0: scorer}, pytest.fail):
        out = tmp_path / str(len(made))
        out.mkdir()
        metrics = score_file(config, load, out, Progress(quiet=True), states)
        made.append(((out / "scored.jsonl").read_bytes(), metrics["accuracy"], metrics["scored"]))
    assert made[0] == made[1] and made[0][2] == 2 * CHUNK and scorer.calls == 2 and metrics["rows_per_second"] is None


def test_a_torn_chunk_and_those_after_it_are_scored_again(path: Path, whole: tuple[bytes, bytes]) -> None:
    stop(path, 4)
    states = SavedStates(next((path.parent / "registry" / ".drafts").glob("*/states")))
    assert states.numbers() == [0, 1, 2, 3]
    torn = states.path(1) / "scored.jsonl"
    torn.write_bytes(torn.read_bytes()[:-3])
    said: list[str] = []
    scorer = ChunkScorer()
    assert run(path, scorer, said=said).results == whole and scorer.calls == 3
    assert "the first 4 rows of" in "".join(said)


def edit(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"Question 2?", b"Question Z?"))


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"".join(row(number) + b"\n" for number in range(30, 39)))


@pytest.mark.parametrize(
    ("change", "options", "differs"),
    [
        (edit, {}, "sha256"),
        (append, {}, "sha256"),
        (None, {"weights": "other weights"}, "inputs.models"),
        (None, {"safety_threshold": 0.2}, "config.safety_threshold (0.15 -> 0.2)"),
        (None, {"axes": ("safety",)}, "config.models"),
    ],
)
def test_another_file_model_or_threshold_starts_from_the_first_row_and_says_so(
    path: Path, change: Callable[[Path], None] | None, options: dict, differs: str
) -> None:
    stop(path, 3)
    if change:
        change(path)
    said: list[str] = []
    done = run(path, ChunkScorer(), said=said, **options)
    (line,) = [line for line in said if line.startswith("an unfinished evaluation/scored is left alone")]
    assert differs in line and not any("scoring resumes" in line for line in said)
    fresh = run(path, ChunkScorer(), folder="fresh", **options)
    assert tuple(part.replace(b"m0@2", b"m0@1") for part in done.results) == fresh.results


def test_rows_that_change_while_they_are_scored_are_not_mixed_in(path: Path) -> None:
    """The file is changed and put back: what was scored of the changed rows is scored again."""
    path.write_bytes(b"".join(row(number, "b" * 40_000) + b"\n" for number in range(10)))
    content = path.read_bytes()
    expected = run(path, ChunkScorer(), folder="whole").results

    class Editing(ChunkScorer):
        def score(self, dialogues):
            with path.open("r+b") as file:
                file.seek(content.index(b"Question 9?"))
                file.write(b"Question Z?")
            return super().score(dialogues)

    with pytest.raises(FileProblem, match=r"answers\.jsonl has changed since this run began; put it in its place and run"):
        run(path, Editing())
    path.write_bytes(content)
    scorer = ChunkScorer()
    assert run(path, scorer).results == expected and scorer.calls == 1


def test_where_all_rows_are_rejected_the_output_is_empty(path: Path) -> None:
    path.write_bytes(b'{"prompt": "hi", "response": ""}\n' * 9)
    done = run(path, ChunkScorer())
    assert done.counts == (9, 0, 9)
    assert done.results[0] == b"" and done.results[1].count(b"\n") == 9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"score .*answers\.jsonl: the file holds no rows\. Each row needs prompt and response, or messages; or a pair"),
        (b"\n" * 9, "the file holds no rows"),
        (b"not json\n" * 9, "no row can be read; line 1: the line is not JSON"),
        (
            b'{"question": "why"}\n',
            "line 1 has the fields 'question', which fit no known format. Each row needs prompt and response",
        ),
    ],
)
def test_a_file_with_nothing_to_score_is_refused_and_leaves_nothing(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(AnnotationFileError, match=message):
        run(path, ChunkScorer(1))
    registry = Registry(path.parent / "registry")
    assert not registry.references("evaluation") and not unfinished(registry.root)


def test_a_dialogue_too_long_for_a_model_is_rejected(path: Path) -> None:
    trunk = tiny_policy()
    trunk.config.num_labels = 1
    scorer = RewardScorer(LlamaForSequenceClassification(trunk.config), tiny_tokenizer(), max_length=60)
    path.write_bytes(b"\n".join([row(1), row(2, "b" * 300), row(3), row(4, "b" * 400), row(5)]))
    with pytest.raises(TooLong, match=r"dialogue 0 has \d{3} tokens, and this scorer takes 60 at most \(1 more are too long\)"):
        messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "b" * 300}]
        scorer.score([messages, messages])
    done = run(path, scorer, ConstantScorer(0.0))
    assert [each["id"] for each in lines_of(done.scored)] == [1, 3, 5]
    rejects = lines_of(done.rejects)
    assert [each["line"] for each in rejects] == [2, 4] and "tokens, and a model takes 60 at most" in rejects[0]["reason"]
    path.write_bytes(row(1, "b" * 300))
    assert run(path, scorer).counts == (1, 0, 1)


def test_a_full_disk_loses_nothing(path: Path, whole: tuple[bytes, bytes]) -> None:
    with pytest.raises(CannotWrite, match=r"the disk of .* is full, and nothing was committed; free some space .* and run"):
        run(path, ChunkScorer(3, OSError(errno.ENOSPC, "No space left on device")))
    said: list[str] = []
    assert run(path, ChunkScorer(), said=said).results == whole
    assert any("the first 12 rows of" in line for line in said)


def test_progress_is_in_bytes_of_what_is_left_of_the_input(path: Path) -> None:
    rows = [row(number) + b"\n" for number in range(22)]
    path.write_bytes(b"".join(rows))
    stop(path, 4)
    screen = io.StringIO()
    run(path, ChunkScorer(), progress=Progress(console=Console(file=screen, width=200)))
    left = f"{len(b''.join(rows[12:])) / 1e3:.3g}"
    assert f"scoring: {left}/{left} kB" in screen.getvalue()

"""``rlhf score``: the artifact, and the copy of it that is asked for, which takes the place of nothing else."""

import errno
import json
import math
import shutil
from pathlib import Path

import pytest
from command_line import rlhf_here
from scored_files import TYPES, lines_of, write
from stage_runs import put_models

from commands.score import _default_name, default_output
from registry.store import Registry

H, S = "reward_model/helpfulness@1", "reward_model/safety@1"
MODELS = ("--model", "reward_model/helpfulness", "--model", "reward_model/safety")
ROWS = [{"id": number, "prompt": f"Question {number}?", "response": "owl " * (number + 1)} for number in range(24)]
ARTIFACT = "evaluation/answers-scored"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with a reward model of each axis."""
    folder = tmp_path_factory.mktemp("models")
    registry = Registry(folder / "registry")
    put_models(registry, "tiny", scale=-10)
    return registry.root


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    """Where the command runs: with a registry, and 24 answers in ``answers.jsonl``."""
    shutil.copytree(models, tmp_path / "rlhf-registry")
    write(tmp_path / "answers.jsonl", ROWS)
    return tmp_path


def score(folder: Path, *arguments, code: int = 0, file: str = "answers.jsonl") -> str:
    """What is printed on stdout, or on stderr where it fails."""
    done = rlhf_here("score", file, *MODELS, *arguments, cwd=folder)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def revisions(folder: Path) -> tuple[int, ...]:
    return Registry(folder / "rlhf-registry").revisions("evaluation", "answers-scored")


def test_the_scores_are_an_artifact_and_a_copy_beside_the_file(folder: Path) -> None:
    with (folder / "answers.jsonl").open("a") as file:
        file.write("not a row\n")
    printed = json.loads(score(folder, "--json", "--quiet"))
    assert printed.pop("rows_per_second") > 0
    assert printed == {
        "artifact": f"{ARTIFACT}@1", "form": "dialogues", "read": 25, "scored": 24, "rejected": 1, "accuracy": {},
        "output": "answers.scored.jsonl", "rejects_file": "answers.scored.rejects.jsonl", "up_to_date": False,
    }  # fmt: skip
    artifact = Registry(folder / "rlhf-registry").open(ARTIFACT)
    assert (folder / "answers.scored.jsonl").read_bytes() == artifact.file("scored.jsonl").read_bytes()
    assert [row["id"] for row in lines_of(folder / "answers.scored.jsonl")] == list(range(24))
    (reject,) = lines_of(folder / "answers.scored.rejects.jsonl")
    assert reject["line"] == 25 and "not JSON" in reject["reason"] and reject["row"] == "not a row"
    assert [parent.reference for parent in artifact.manifest.parents["models"]] == [H, S]
    assert sorted(path.name for path in folder.iterdir()) == [
        "answers.jsonl", "answers.scored.jsonl", "answers.scored.rejects.jsonl", "rlhf-registry",
    ]  # fmt: skip


def test_the_combined_reward_switches_at_the_threshold_of_the_recipe(folder: Path) -> None:
    def combined_by_safety(output: str) -> list[bool]:
        scores = [row["scores"] for row in lines_of(folder / output)]
        assert all(row["combined"]["logit"] in (row[H]["logit"], row[S]["logit"]) for row in scores)
        return [row["combined"]["logit"] == row[S]["logit"] for row in scores]

    score(folder, "--quiet")
    safety = [row["scores"][S]["sigmoid"] for row in lines_of(folder / "answers.scored.jsonl")]
    assert combined_by_safety("answers.scored.jsonl") == [share < 0.15 for share in safety]
    for threshold, output in ((0.12, "lower.jsonl"), (0.2, "higher.jsonl")):
        score(folder, "--set", f"ppo.safety_threshold={threshold}", "--out", output, "--quiet")
        assert combined_by_safety(output) == [share < threshold for share in safety]
    assert (
        0 < sum(share < 0.12 for share in safety) < sum(share < 0.15 for share in safety) < sum(share < 0.2 for share in safety)
    )
    assert revisions(folder) == (1, 2, 3)


def test_it_prints_counts_accuracy_and_where_everything_is(folder: Path) -> None:
    pairs = [{"prompt": f"{number}?", "chosen": "yes " * number, "rejected": "no", "rating": "better"} for number in (1, 2, 3)]
    write(folder / "pairs.jsonl", [*pairs, {"chosen": "yes"}])
    printed = score(folder, "--quiet", file="pairs.jsonl").splitlines()
    scored = lines_of(folder / "pairs.scored.jsonl")
    assert printed[0].startswith("3 of 4 pairs scored: pairs.scored.jsonl (") and printed[0].endswith(" rows/s)")
    for place, name in ((1, H), (3, S), (5, "combined")):
        right = sum(row["scores"][name]["chosen"]["logit"] > row["scores"][name]["rejected"]["logit"] for row in scored)
        assert printed[place].startswith(f"accuracy of {name}, better: {right / 3:.3f} (")
        assert printed[place + 1] == printed[place].replace(", better", "") and printed[place].endswith(" of 3 judged pairs")
    assert printed[7:] == [
        "1 pairs could not be scored, with line and reason: pairs.scored.rejects.jsonl", "kept as evaluation/pairs-scored@1",
    ]  # fmt: skip
    again = score(folder, "--quiet", file="pairs.jsonl").splitlines()
    assert again[0] == "3 of 4 pairs scored: pairs.scored.jsonl (up to date; --force scores them again)"
    assert again[1:] == printed[1:]


def test_a_model_that_is_named_twice_is_opened_once(folder: Path) -> None:
    score(folder, "--model", "reward_model/safety@1", "--quiet")
    assert list(lines_of(folder / "answers.scored.jsonl")[0]["scores"]) == [H, S, "combined"]


def test_a_copy_that_was_taken_away_or_never_made_is_made_of_the_artifact(folder: Path) -> None:
    score(folder, "--quiet")
    content = (folder / "answers.scored.jsonl").read_bytes()
    (folder / "answers.scored.jsonl").unlink()
    assert json.loads(score(folder, "--quiet", "--json"))["up_to_date"]
    assert (folder / "answers.scored.jsonl").read_bytes() == content and revisions(folder) == (1,)


@pytest.mark.parametrize("name", ["answers.scored.jsonl", "answers.scored.rejects.jsonl"])
@pytest.mark.parametrize("made_before", [False, True])
def test_a_file_with_other_content_is_replaced_only_with_force(folder: Path, name: str, made_before: bool) -> None:
    if made_before:
        score(folder, "--quiet")
    (folder / name).write_text("mine\n")
    refused = score(folder, code=2)
    assert f"the scores of answers.jsonl would replace {name}, which holds something else; move it away" in refused
    assert "give another --out, or say --force" in refused and "scoring:" not in refused
    assert (folder / name).read_text() == "mine\n" and revisions(folder) == (1,) * made_before
    score(folder, "--force", "--quiet")
    assert len(lines_of(folder / "answers.scored.jsonl")) == 24 and not (folder / "answers.scored.rejects.jsonl").exists()


def test_a_file_that_appears_while_the_scores_are_made_is_left_alone(folder: Path) -> None:
    output = folder / "answers.scored.jsonl"
    output.symlink_to(folder / "rlhf-registry" / ARTIFACT / "1" / "README.md")  # which is there once the scores are
    assert "which holds something else" in score(folder, code=2)
    assert output.is_symlink() and revisions(folder) == (1,)
    score(folder, "--out", "elsewhere.jsonl", "--quiet")
    assert len(lines_of(folder / "elsewhere.jsonl")) == 24 and revisions(folder) == (1,)


def test_a_full_disk_at_the_copy_keeps_the_artifact(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source, target):
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", full)
        refused = score(folder, code=1)
    assert f"is full; the scores are kept as {ARTIFACT}@1. Free some space and run the same command again" in refused
    assert sorted(path.name for path in folder.iterdir()) == ["answers.jsonl", "rlhf-registry"]
    assert json.loads(score(folder, "--json", "--quiet"))["up_to_date"]
    assert len(lines_of(folder / "answers.scored.jsonl")) == 24


@pytest.mark.parametrize("output", ["a.rejects.jsonl", "./a.jsonl"])
def test_a_file_is_not_scored_over_itself(folder: Path, output: str) -> None:
    file = (folder / "answers.jsonl").rename(folder / "a.rejects.jsonl")  # as the rejects of a.jsonl would be called
    content = file.read_bytes()
    refused = score(folder, "--out", output, "--force", code=2, file=file.name)
    assert "would write over a.rejects.jsonl, the file to score; give another --out" in refused and file.read_bytes() == content


def test_a_dry_run_says_what_would_be_scored_and_writes_nothing(folder: Path) -> None:
    (printed,) = json.loads(score(folder, "--dry-run", "--name", "mine", "--set", "ppo.safety_threshold=0.3"))["steps"]
    assert (printed["stage"], printed["makes"], printed["inputs"]) == ("score", "evaluation/mine", {"models": [H, S]})
    config = printed["config"]
    assert config["models"] == [[H, "helpfulness"], [S, "safety"]] and math.isclose(config["safety_threshold"], 0.3)
    assert sorted(path.name for path in folder.iterdir()) == ["answers.jsonl", "rlhf-registry"] and revisions(folder) == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "nowhere/scored.jsonl"), "there is no folder"),
        (("--set", "ppo.safety_threshold=2"), "ppo.safety_threshold"),
        (("--model", "reward_model/other"), "'reward_model/other' is not in"),
    ],
)
def test_what_cannot_be_is_refused_before_there_is_work_to_lose(folder: Path, arguments, message: str) -> None:
    assert message in score(folder, *arguments, code=2) and revisions(folder) == ()


def test_files_of_other_types_have_outputs_of_their_own() -> None:
    names = [default_output(Path(f"a{ending}")).name for ending in TYPES]
    assert names[:3] == ["a.scored.jsonl", "a.json.scored.jsonl", "a.csv.scored.jsonl"] and len({*names}) == len(TYPES)


@pytest.mark.parametrize(
    ("file", "name"),
    [("answers.csv.gz", "answers-scored"), ("My answers (2).jsonl", "my-answers-2-scored"), ("答え.jsonl", "scored"),
     ("v1.2.jsonl", "v1.2-scored")],
)  # fmt: skip
def test_the_artifact_is_called_after_the_file(file: str, name: str) -> None:
    assert _default_name(Path(file)) == name

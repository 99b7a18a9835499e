"""Pairs of responses in files of every type: both sides are scored, and accuracy is a plain count of who agrees."""

import io
import math
import shutil
import tracemalloc
from collections import defaultdict
from pathlib import Path

import pytest
from fakes import ConstantScorer, LengthScorer, tiny_policy, tiny_tokenizer
from rich.console import Console
from scored_files import TYPES, ChunkScorer, TableScorer, lines_of, run, write
from stopped_runs import Killed
from transformers import LlamaForSequenceClassification

from preference_data.comparison import RATINGS, SAFETY_BINS
from preference_data.files.opening import AnnotationFileError
from preference_data.importing import import_files
from preference_data.messages import assistant, user
from registry.store import Registry
from reward_model.scoring import RewardScorer
from stages.terminal.progress import Progress

SAMPLES = sorted(Path("tests/samples").resolve().glob("*"))
M0, M1 = "reward_model/m0@1", "reward_model/m1@1"


def native_row(number: int) -> dict:
    """A pair whose responses tell their place; of every five pairs one is a tie in length, and one is not judged."""
    prompt = f"Question {number}?" if number % 2 else [user("Hello"), assistant("Yes?"), user(f"Question {number}?")]
    longer = number % 3 + (number % 5 != 0)
    return {
        "id": number,
        "prompt": prompt,
        "response_a": f"a{number} é\n" + "x" * (number % 3),
        "response_b": f"b{number} é\n" + "y" * longer,
        "choice": None if number % 5 == 4 else "ab"[number % 7 % 2],
        "rating": RATINGS[number % 4] if number % 6 else "",
        "is_safety": number % 4 == 0,
    }


def trl_row(number: int) -> dict:
    return {
        "id": number,
        "prompt": f"Question {number}?",
        "chosen": f"c{number}" + "x" * (number % 3),
        "rejected": f"r{number}xx",
    }


def dialogue_row(number: int) -> dict:
    prompt = [user("Hello"), assistant("Yes?"), user(f"Question {number}?")]
    return {"id": number, "prompt": prompt, "response": "x" * number, "is_safety": number % 4 == 0}


ROWS = {"native": native_row, "trl": trl_row, "dialogues": dialogue_row}


def counted(rows: list[dict], scores: dict[str, float]) -> dict[str, tuple[float, int]]:
    """(share, number) by rating and in all of the judged native ``rows``, counted as one would by hand."""
    credits = defaultdict(list)
    for row in rows:
        if row["choice"]:
            chosen, other = row[f"response_{row['choice']}"], row["response_a" if row["choice"] == "b" else "response_b"]
            credit = 1.0 if scores[chosen] > scores[other] else 0.5 if scores[chosen] == scores[other] else 0.0
            credits["all"].append(credit)
            credits[row["rating"] or "unrated"].append(credit)
    return {rating: (math.fsum(each) / len(each), len(each)) for rating, each in credits.items()}


def test_accuracy_is_a_plain_count_by_model_and_rating(tmp_path: Path) -> None:
    rows = [native_row(number) for number in range(40)]
    texts = [row[name] for row in rows for name in ("response_a", "response_b")]
    by_length = {text: float(len(text)) for text in texts}
    by_hash = {text: float(sum(text.encode()) % 11) for text in texts}
    done = run(write(tmp_path / "pairs.jsonl", rows), TableScorer(by_length), TableScorer(by_hash))
    assert done.metrics["form"] == "native" and done.counts == (40, 40, 0)
    for model, scores in ((M0, by_length), (M1, by_hash)):
        expected = counted(rows, scores)
        assert list(done.accuracy[model]) == [*RATINGS, "unrated", "all"]
        for rating, (share, judged) in expected.items():
            accuracy = done.accuracy[model][rating]
            assert accuracy["share"] == pytest.approx(share) and accuracy["judged"] == judged
    assert counted(rows, by_length)["all"][1] == 32
    assert any(by_length[row["response_a"]] == by_length[row["response_b"]] for row in rows if row["choice"])
    # safety where the prompt is tagged, or where its sigmoid is below 0.15; here no logit is below 0
    combined = [row for row in rows if row["is_safety"]], [row for row in rows if not row["is_safety"]]
    halves = [counted(some, scores)["all"] for some, scores in zip(combined, (by_hash, by_length), strict=True)]
    assert done.accuracy["combined"]["all"]["share"] == pytest.approx(sum(share * n for share, n in halves) / 32)


@pytest.mark.parametrize("make", [native_row, trl_row])
def test_both_sides_get_the_scores_of_their_dialogues(tmp_path: Path, make) -> None:
    config = tiny_policy().config
    config.num_labels = 1
    scorers = [RewardScorer(LlamaForSequenceClassification(config), tiny_tokenizer()) for _ in range(2)]
    rows = [make(number) for number in range(10)]
    done = run(write(tmp_path / "pairs.jsonl", rows), *scorers)
    for before, after in zip(rows, lines_of(done.scored), strict=True):
        scores = after.pop("scores")
        assert after == before
        prompt = [user(before["prompt"])] if isinstance(before["prompt"], str) else before["prompt"]
        for side in ("chosen", "rejected") if make is trl_row else ("response_a", "response_b"):
            logits = [scorer.score([[*prompt, assistant(before[side])]]).item() for scorer in scorers]
            for name, logit in zip((M0, M1), logits, strict=True):
                assert scores[name][side]["logit"] == pytest.approx(logit, abs=1e-5)
                assert scores[name][side]["sigmoid"] == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-5)
            is_safety = before.get("is_safety") or 1 / (1 + math.exp(-logits[1])) < 0.15
            assert scores["combined"][side]["logit"] == pytest.approx(logits[is_safety], abs=1e-5)


@pytest.mark.parametrize("form", ROWS)
def test_files_of_every_type_give_the_same_scores_in_the_same_order(tmp_path: Path, form: str) -> None:
    rows = [ROWS[form](number) for number in range(1, 20)]
    if form == "native":  # a Parquet column has one type
        rows = [row for row in rows if isinstance(row["prompt"], str)]
    found = {}
    for ending in TYPES:
        done = run(write(tmp_path / f"{form}{ending}", rows), ChunkScorer(), ChunkScorer())
        assert done.metrics["form"] == form and done.counts == (len(rows), len(rows), 0), ending
        scored = lines_of(done.scored)
        assert [int(each["id"]) for each in scored] == [row["id"] for row in rows]
        found[ending] = ([each["scores"] for each in scored], [each["prompt"] for each in scored], done.accuracy)
    assert found[".jsonl"][1] == [row["prompt"] for row in rows]
    assert all(each == found[".jsonl"] for each in found.values())


@pytest.mark.parametrize("call", [1, 3])
@pytest.mark.parametrize("ending", TYPES)
def test_a_stopped_run_resumes_to_the_same_bytes_and_the_same_accuracy(tmp_path: Path, ending: str, call: int) -> None:
    path = write(tmp_path / f"pairs{ending}", [native_row(2 * number + 1) for number in range(18)])
    whole, rest = run(path, scorer := ChunkScorer(), folder="whole"), ChunkScorer()
    with pytest.raises(Killed):
        run(path, ChunkScorer(call))
    done = run(path, rest)
    assert done.results == whole.results and done.accuracy == whole.accuracy != {}
    assert done.counts == (18, 18, 0) and scorer.calls == 5 and rest.calls == 5 - (call - 1)


@pytest.mark.parametrize("ending", TYPES)
def test_rejects_have_the_lines_of_their_rows(tmp_path: Path, ending: str) -> None:
    rows = [native_row(2 * number + 1) for number in range(6)]
    rows[1]["response_b"], rows[4]["choice"] = " ", "neither"
    done = run(write(tmp_path / f"pairs{ending}", rows), ChunkScorer())
    rejects = lines_of(done.rejects)
    assert done.counts == (6, 4, 2)
    assert [int(each["id"]) for each in lines_of(done.scored)] == [1, 5, 7, 11]
    # a CSV file has a header, and a row of it three lines, as each response has two, but the second one's; one of the list nine
    places = {"j": (2, 5), "p": (2, 5), "c": (5, 13), "t": (5, 13)}[ending[1]] if ending != ".json" else (11, 38)
    assert [each["line"] for each in rejects] == list(places)
    assert "has no text" in rejects[0]["reason"] and 'choice is "neither"; write a or b' in rejects[1]["reason"]
    assert "Question 3?" in rejects[0]["row"] and "Question 9?" in rejects[1]["row"]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_pairs_of_every_format_are_those_of_the_import(tmp_path: Path, sample: Path) -> None:
    path = Path(shutil.copy(sample, tmp_path))
    imported = import_files([path], "helpfulness", max_rejected=1)
    texts = [text for each in imported.comparisons for text in (each.chosen, each.rejected)]
    lengths = {text: float(len(text)) for text in texts}

    done = run(path, LengthScorer(), axes=("helpfulness",))
    scored = lines_of(done.scored)
    assert (done.metrics["form"], done.metrics["read"]) == (imported.formats[str(path)], imported.read)
    credits = [(1 + (lengths[c.chosen] > lengths[c.rejected]) - (lengths[c.chosen] < lengths[c.rejected])) / 2
               for c in imported.comparisons]  # fmt: skip
    accuracy = done.accuracy[M0]["all"]
    assert accuracy["judged"] == len(credits) and accuracy["share"] == pytest.approx(sum(credits) / len(credits))
    logits = [{side["logit"] for side in each["scores"][M0].values()} for each in scored]
    for each in imported.comparisons:
        assert {lengths[each.chosen], lengths[each.rejected]} in logits
    for each in scored:
        for side, found in each["scores"][M0].items():
            last = each[side][-1]["content"] if isinstance(each[side], list) else each[side]
            assert done.metrics["form"] == "anthropic_hh" or found["logit"] == len(last) or last.endswith(tuple(texts))


def test_where_a_format_has_a_choice_for_each_axis_a_model_is_held_against_its_own(tmp_path: Path) -> None:
    def row(better, safer, safe=(True, True)):
        responses = {"prompt": "q?", "response_0": "long one", "response_1": "brief"}
        return responses | {"is_response_0_safe": safe[0], "is_response_1_safe": safe[1]} | {
            "better_response_id": better, "safer_response_id": safer,
        }  # fmt: skip

    rows = [row(0, 1), row(0, 1), row(1, 1), row(0, 1, (False, True)), row(1, None)]
    path = write(tmp_path / "pku.jsonl", rows)
    scores = TableScorer({"long one": 2.0, "brief": 1.0})
    done = run(path, scores, scores)
    judged = {name: (by_rating["all"]["share"], by_rating["all"]["judged"]) for name, by_rating in done.accuracy.items()}
    # of the five choices for helpfulness one is of an unsafe response over a safe one, and of those for safety one is missing
    assert judged == {M0: (0.5, 4), M1: (0.0, 4), "combined": (0.5, 4)}
    assert [each["chosen"] for each in lines_of(done.scored)] == ["long one", "long one", "brief", "long one", "brief"]
    assert run(path, scores, axes=("safety",)).metrics["rejected"] == 1


@pytest.mark.parametrize("bin_", [*SAFETY_BINS, None])
def test_what_an_import_would_not_take_is_scored_and_not_judged(tmp_path: Path, bin_: str | None) -> None:
    labels = dict(zip(("safe_a", "safe_b"), SAFETY_BINS[bin_] if bin_ else (False, True), strict=True))
    base = {"prompt": "q?", "response_a": "one", "response_b": "other", "choice": "a"}
    rows = [base | labels, base | {"response_b": "one "}, base | {"choice": ""}, {k: base[k] for k in base if k != "choice"}]
    done = run(write(tmp_path / "pairs.jsonl", rows), TableScorer({"one": 1.0, "other": 2.0, "one ": 3.0}))
    assert done.metrics["scored"] == 4 and ("all" in done.accuracy.get(M0, {})) == (bin_ is not None)
    if bin_:
        assert done.accuracy[M0]["all"].items() >= {"share": 0.0, "judged": 1}.items()
    assert [each["scores"][M0]["response_b"]["logit"] for each in lines_of(done.scored)] == [2.0, 3.0, 2.0, 2.0]


def test_a_row_of_several_judgements_is_a_line_each_that_names_its_responses(tmp_path: Path) -> None:
    answers = [{"text": text, "pm_score": score} for text, score in (("best", 3), ("middle", 2), ("worst", 0))]
    scorer = TableScorer({"best": 1.0, "middle": 2.0, "worst": 0.0})
    done = run(write(tmp_path / "questions.jsonl", [{"qid": 1, "question": "why?", "answers": answers}]), scorer)
    assert [(each["chosen"], each["rejected"], each["qid"]) for each in lines_of(done.scored)] == [
        ("best", "worst", 1), ("middle", "worst", 1), ("best", "middle", 1),
    ]  # fmt: skip
    assert done.accuracy[M0]["all"]["share"] == pytest.approx(2 / 3)
    assert sorted(scorer.scored) == ["best", "middle", "worst"], "each is scored once"


def test_the_first_row_that_is_either_says_how_all_are_read(tmp_path: Path) -> None:
    dialogue, pair = {"prompt": "q?", "response": "yes"}, {"prompt": "q?", "chosen": "yes", "rejected": "no"}
    scorer = TableScorer({"yes": 1.0, "no": 0.0})
    for rows, form, reason in (
        ([{"note": 1}, dialogue, pair], "dialogues", "this one has chosen, prompt, rejected"),
        ([{"note": 1}, pair, dialogue], "trl", "the row has no chosen, rejected"),
    ):
        said: list[str] = []
        done = run(write(tmp_path / f"{form}.jsonl", rows), scorer, said=said)
        assert (done.metrics["form"], done.metrics["scored"]) == (form, 1) and any(form in line for line in said)
        rejects = lines_of(done.rejects)
        assert [each["line"] for each in rejects] == [1, 3] and reason in rejects[1]["reason"]


def test_a_row_that_has_a_response_beside_a_pair_is_a_pair(tmp_path: Path) -> None:
    row = {"prompt": "q?", "response": "yes", "chosen": "yes", "rejected": "no"}
    done = run(write(tmp_path / "pairs.jsonl", [row]), TableScorer({"yes": 1.0, "no": 0.0}))
    assert done.metrics["form"] == "trl" and done.accuracy[M0]["all"]["share"] == 1


def test_what_json_cannot_hold_is_rejected_and_counts_nowhere(tmp_path: Path) -> None:
    good = '{"prompt": "q?", "chosen": "yes", "rejected": "no"'
    path = tmp_path / "pairs.jsonl"
    path.write_text(f'{good}}}\n{good}, "x": 1e999}}\n{good}, "y": "\\ud800"}}\n{good[:-3]}\\ud800"}}\n')
    done = run(path, TableScorer({"yes": 1.0, "no": 0.0}))
    reasons = [(each["line"], each["reason"]) for each in lines_of(done.rejects)]
    assert [line for line, _ in reasons] == [2, 3, 4] and done.accuracy[M0]["all"]["judged"] == 1
    assert all("cannot be written as JSON" in reason for _, reason in reasons[:2]) and "not UTF-8" in reasons[2][1]


def test_a_json_file_is_said_to_be_read_whole(tmp_path: Path) -> None:
    said: list[str] = []
    run(write(tmp_path / "a.json", [trl_row(number) for number in range(6)]), ChunkScorer(), said=said)
    assert any("a .json file is read into memory whole, which .jsonl is not" in line for line in said)


@pytest.mark.parametrize(("ending", "text"), [(".parquet", "scoring: 18/18 row"), (".csv.gz", " kB in "), (".tsv", "kB in ")])
def test_progress_is_told_with_throughput(tmp_path: Path, ending: str, text: str) -> None:
    path = write(tmp_path / f"pairs{ending}", [trl_row(number) for number in range(18)])
    screen = io.StringIO()
    done = run(path, ConstantScorer(0.0), progress=Progress(console=Console(file=screen, width=200)))
    assert text in screen.getvalue() and "/s)" in screen.getvalue() and done.metrics["rows_per_second"] > 0
    if ending == ".tsv":
        assert f"scoring: {path.stat().st_size / 1e3:.3g}/{path.stat().st_size / 1e3:.3g} kB" in screen.getvalue()


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet", ".jsonl.gz"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, ending: str) -> None:
    def peak(count: int) -> int:
        path = write(tmp_path / f"pairs{ending}", [trl_row(number) | {"note": "n" * 2000} for number in range(count)])
        tracemalloc.start()
        run(path, ConstantScorer(0.0), force=True, rows_per_chunk=128)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(200)  # what is imported and cached once
    few, many = peak(2100), peak(3600)  # a Parquet file is read 1024 rows at a time, and two batches of it may be in memory
    assert many < few + 200_000, "1500 more rows have 3 MB"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"{}", r"score .*a\.txt: its name ends in '\.txt'. Give a file whose name ends in \.jsonl"),
        ("a.jsonl.gz", b"{}", r"score .*: it cannot be decompressed to its end"),
        ("a.parquet", b"PAR1", r"score .*a\.parquet: after row 0 it cannot be read"),
        ("a.csv", b"prompt,prompt\na,b\n", r"score .*a\.csv: columns named twice: 'prompt'"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AnnotationFileError, match=message):
        run(tmp_path / name, ConstantScorer(0.0))
    assert not Registry(tmp_path / "registry").references("evaluation")

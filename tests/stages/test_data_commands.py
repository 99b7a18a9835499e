"""``rlhf import`` and what changes preferences, through the command line, over a sample file of every format."""

import json

import pytest
from command_line import ROOT, plain, run_here
from fakes import tiny_tokenizer
from row_files import write
from stage_runs import prompts_in, put, put_policy

from policy.chat import encode_dialogue
from preference_data.comparison import Comparison
from preference_data.formats import IMPORTERS
from preference_data.messages import assistant, user
from preference_data.parquet import read_records, write_records
from preference_data.prompt import Prompt, make_prompt
from registry.store import Registry

SAMPLES = ROOT / "tests" / "samples"
# file: (format, axis, judgements read, accepted)
FILES = {
    "native.csv": ("native", "safety", 4, 4),
    "anthropic_hh.jsonl": ("anthropic_hh", "helpfulness", 3, 2),
    "argilla.json": ("argilla", "helpfulness", 3, 3),
    "chatbot_arena.json": ("chatbot_arena", "helpfulness", 4, 2),
    "chatbot_arena_kaggle.csv": ("chatbot_arena", "helpfulness", 3, 2),
    "dahoas.jsonl": ("dahoas", "helpfulness", 2, 2),
    "dahoas_synthetic.jsonl": ("trl", "helpfulness", 2, 2),
    "helpsteer.jsonl": ("helpsteer", "helpfulness", 3, 2),
    "helpsteer3.jsonl": ("helpsteer", "helpfulness", 2, 2),
    "label_studio.json": ("label_studio", "safety", 4, 3),
    "label_studio_min.json": ("label_studio", "safety", 2, 2),
    "openai_summarize.jsonl": ("openai_summarize", "helpfulness", 3, 3),
    "pku_saferlhf.jsonl": ("pku_saferlhf", "safety", 2, 2),
    "shp.jsonl": ("shp", "helpfulness", 2, 2),
    "stack_exchange.jsonl": ("stack_exchange", "helpfulness", 4, 3),
    "trl.jsonl": ("trl", "helpfulness", 3, 3),
    "trl_implicit.jsonl": ("trl", "helpfulness", 2, 2),
    "ultrafeedback.jsonl": ("ultrafeedback", "helpfulness", 3, 2),
    "webgpt.jsonl": ("webgpt", "helpfulness", 3, 2),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RLHF_REGISTRY", str(tmp_path / "registry"))
    return tmp_path


def made(*arguments):
    return json.loads(run_here(*arguments, "--json", "--quiet").stdout)


def comparisons(reference, side="train"):
    return read_records(Registry("registry").open(reference).file(f"{side}.parquet"), Comparison)


def everything(reference):
    return sorted((each for side in ("train", "test") for each in comparisons(reference, side)), key=lambda each: each.id)


def native_file(path, count, prefix="question", **changes):
    row = {"response_a": "yes", "response_b": "no", "choice": "a"} | changes
    return write(path, [{"prompt": f"{prefix} {number}"} | row for number in range(count)])


def imported(here, name, count, prefix="question", axis="helpfulness"):
    """``count`` comparisons as preferences/``name``, none of them held out."""
    native_file(here / f"{name}.jsonl", count, prefix)
    return made("import", f"{name}.jsonl", "--axis", axis, "--heldout-share", "0")


def test_there_is_a_sample_of_every_format():
    assert {name for name, *_ in FILES.values()} == set(IMPORTERS)
    assert sorted(path.name for path in SAMPLES.iterdir()) == sorted(FILES)


@pytest.mark.parametrize("file", FILES)
def test_every_format_is_imported_measured_mixed_and_exported(here, file):
    name, axis, read, accepted = FILES[file]
    told = made("import", SAMPLES / file, "--axis", axis, "--name", "mine", "--heldout-share", "0", "--max-rejected", "60%")
    assert (told["artifact"], told["read"], told["accepted"]) == ("preferences/mine@1", read, accepted)
    assert sum(told["rejected"].values()) == read - accepted
    metrics = Registry("registry").open("preferences/mine").manifest.metrics
    assert metrics["formats"] == [name] and metrics["ignored_columns"] == {}
    if told["rejects_file"]:
        rejects = [json.loads(line) for line in (here / told["rejects_file"]).read_text().splitlines()]
        assert [reject["reason"] for reject in rejects] == [
            each for each, count in told["rejected"].items() for _ in range(count)
        ]
    assert made("data", "stats", "preferences/mine")["total"]["comparisons"] == accepted
    assert run_here("data", "agreement", "preferences/mine").exit_code == 0
    mixed = made("data", "mix", "preferences/mine=1", "--name", "blend")
    assert mixed["metrics"]["train"] == accepted
    assert everything("preferences/blend") == everything("preferences/mine")
    for format_ in ("native", "trl"):
        exported = made("data", "export", "preferences/mine", "--to", format_)
        assert exported["written"] == accepted and exported["left_out"] == {}
        again = made("import", exported["file"], "--axis", axis, "--name", f"again-{format_}", "--max-rejected", "0")
        assert again["accepted"] == accepted
        assert everything(f"preferences/again-{format_}") == everything("preferences/mine")
    exported = made("data", "export", "preferences/mine", "--to", "anthropic_hh")
    assert exported["written"] + sum(exported["left_out"].values()) == accepted
    made("import", exported["file"], "--axis", axis, "--name", "again-hh", "--max-rejected", "1")
    items = {each.item_id for each in comparisons("preferences/again-hh")}
    assert items <= {each.item_id for each in everything("preferences/mine")} and (items or exported["left_out"])


def test_an_import_that_fails_commits_nothing_and_keeps_its_rejects(here):
    path = native_file(here / "f.jsonl", 9)
    path.write_text(path.read_text() + "{\n")
    result = run_here("import", path, "--axis", "helpfulness", code=2)
    assert "1 of 10 rows are faulty, more than the 1.00% allowed" in result.output and "Nothing was imported" in result.output
    (reject,) = (here / "f.rejects.jsonl").read_text().splitlines()
    assert json.loads(reject) | {"fix": ""} == {
        "file": str(path), "line": 10, "reason": "broken_json", "fix": "", "row": "{",
    }  # fmt: skip
    assert not list((here / "registry").glob("preferences/*/*"))
    assert made("import", path, "--axis", "helpfulness", "--max-rejected", "0.1", "--rejects", "other.jsonl")[
        "rejects_file"
    ] == ("other.jsonl")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-rejected", "much"], "--max-rejected is 'much'; it is a share, from 0 to 1, or a percentage such as 5%"),
        (["--max-rejected", "200%"], "it is a share"),
        (["--heldout-share", "100%"], "from 0 and below 1"),
        (["--rejects", "nowhere/r.jsonl"], "cannot be written to nowhere/r.jsonl"),
        (["--rejects", "f.jsonl"], "written over f.jsonl, which holds something else"),
        (["--max-tokens", "9", "--model", "preferences/none"], "preferences/none"),
        (["--max-tokens", "9"], "--max-tokens and --model go together"),
        (["--format", "trl", "--map", "a=prompt"], "give one of them"),
        (["--format", "csv"], "there is no format 'csv'. Use one of argilla"),
        (["--map", "qestion=prompt"], "no row has a column 'qestion'"),
        (["--map", "question=promt"], "did you mean prompt"),
        (["--pairs", "annotations/none"], "annotations/none"),
    ],
)
def test_wrong_options_of_import(here, arguments, message):
    path = native_file(here / "f.jsonl", 2)
    result = run_here("import", path, "--axis", "safety", *arguments, code=2)
    assert message in plain(result.output)
    assert not list((here / "registry").glob("preferences/*/*"))


def test_columns_and_words_of_ones_own(here):
    (here / "votes.csv").write_text("question,left,right,winner\nq,yes,no,left\nr,yes,no,right\n")
    maps = ["question=prompt", "left=response_a", "right=response_b", "winner=choice"]
    options = [part for each in maps for part in ("--map", each)]
    values = ["--map-value", "choice:left=a", "--map-value", "choice:right=b"]
    told = made("import", "votes.csv", "--axis", "helpfulness", "--heldout-share", "0", "--source", "poll", *options, *values)
    assert told["accepted"] == 2
    kept = comparisons("preferences/votes")
    assert [(each.chosen, each.source) for each in kept] == [("yes", "poll"), ("no", "poll")]


def test_holding_out_another_share_moves_whole_dialogues(here):
    imported(here, "f", 60)
    told = made("data", "split", "preferences/f", "--heldout-share", "50%", "--name", "half")
    assert told["metrics"]["train"] + told["metrics"]["test"] == 60 and 15 < told["metrics"]["test"] < 45
    assert everything("preferences/half") == everything("preferences/f")
    back = made("data", "split", "preferences/half", "--heldout-share", "0", "--name", "none")
    assert back["metrics"] == {"train": 60, "test": 0}
    direct = made("import", "f.jsonl", "--axis", "helpfulness", "--heldout-share", "0.5", "--name", "direct")
    assert direct["accepted"] == 60
    assert {each.id for each in comparisons("preferences/direct", "test")} == {
        each.id for each in comparisons("preferences/half", "test")
    }


def test_the_papers_mix_and_one_by_shares(here):
    for name, count in (("help", 20), ("safe", 90), ("open", 40)):
        imported(here, name, count, name, "safety" if name == "safe" else "helpfulness")
    rest = ["--rest", "preferences/help", "--rest", "preferences/open"]
    told = made("data", "mix", "--paper", "safety", "--own", "preferences/safe", *rest, "--name", "safety")
    assert (told["metrics"]["drawn"], told["metrics"]["train"]) == ([90, 10], 100)
    told = made("data", "mix", "preferences/help=0.25", "preferences/safe=0.75", "--name", "mine")
    assert told["metrics"]["drawn"] == [20, 60]
    sources = [each.source for each in comparisons("preferences/mine")]
    assert sources.count("safe") == 60 and "safe" in sources[:10] and "help" in sources[:20]
    parents = Registry("registry").open("preferences/mine").manifest.parents["preferences"]
    assert [parent.reference for parent in parents] == ["preferences/help@1", "preferences/safe@1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give REF=SHARE"),
        (["preferences/f"], "names no share"),
        (["preferences/f=0.5"], "so that they sum to 1"),
        (["preferences/f=1", "--own", "preferences/f"], "give REF=SHARE"),
        (["--paper", "safety", "--own", "preferences/f"], "give REF=SHARE"),
        (["--paper", "honesty", "--own", "preferences/f", "--rest", "preferences/f"], "helpfulness or safety"),
        (
            ["--paper", "safety", "--own", "preferences/f", "--rest", "preferences/f", "--size", "2"],
            "--size is for mixes by shares",
        ),
        (["preferences/f=1", "--size", "4"], "4 comparisons was asked for, but with these shares the sources yield at most 3"),
        (["preferences/g=1"], "preferences/g"),
    ],
)
def test_wrong_mixes(here, arguments, message):
    imported(here, "f", 3)
    assert message in plain(run_here("data", "mix", *arguments, code=2).output)


def test_a_mix_of_nothing_is_refused(here):
    imported(here, "f", 3)
    made("data", "split", "preferences/f", "--heldout-share", "99.9999%", "--name", "held")
    assert "would be empty" in run_here("data", "mix", "preferences/held=1", code=2).output


def test_an_export_to_a_file_that_is_there_and_of_both_axes(here):
    imported(here, "f", 3)
    imported(here, "g", 3, "other", "safety")
    made("data", "mix", "preferences/f=0.5", "preferences/g=0.5", "--name", "both")
    assert "both axes" in run_here("data", "export", "preferences/both", code=2).output
    told = made("data", "export", "preferences/both", "--axis", "safety", "--out", "s.jsonl")
    assert told["written"] == 3 and len((here / "s.jsonl").read_text().splitlines()) == 3
    assert "there is a file s.jsonl already" in run_here("data", "export", "preferences/f", "--out", "s.jsonl", code=2).output
    assert made("data", "export", "preferences/f", "--out", "s.jsonl", "--force")["written"] == 3
    for wrong, message in ((["--to", "xml"], "it is one of native, trl"), (["--side", "left"], "train, test or all"),
                           (["--axis", "x"], "helpfulness or safety")):  # fmt: skip
        assert message in run_here("data", "export", "preferences/f", "--out", "t.jsonl", *wrong, code=2).output
    assert not (here / "t.jsonl").exists()


def test_the_example_exports_to_what_trl_reads(here):
    datasets = pytest.importorskip("datasets")
    made("import", ROOT / "docs" / "annotation-example.jsonl", "--axis", "helpfulness", "--heldout-share", "0")
    made("data", "export", "preferences/annotation-example", "--to", "trl")
    from trl.data_utils import is_conversational

    rows = datasets.load_dataset(
        "json", data_files="annotation-example.trl.jsonl", split="train", cache_dir=str(here / "cache")
    )
    assert len(rows) == 5 and is_conversational(rows[0])
    assert rows[0]["chosen"][0]["role"] == "assistant" and rows[0]["rating"] == "significantly_better"


def put_prompts(name, texts):
    """An artifact of prompts, with a file beside them that nobody reads here."""
    prompts = [make_prompt([user(text)], family="f", split="test", source="s") for text in texts]

    def write(path):
        write_records(path / "prompts.parquet", prompts, Prompt)
        (path / "cases.jsonl").write_text("{}\n")

    put(Registry("registry"), f"prompts/{name}", write)
    return prompts


def test_evaluation_prompts_in_training_data_are_told_and_left_out(here):
    leaked = "how many of the brown foxes that jumped over the lazy dog were seen again"
    evaluation = put_prompts(
        "evaluation", [leaked, "question 3", "what else is there to ask about the weather on the moon today"]
    )
    native_file(here / "f.jsonl", 5)
    native_file(here / "g.jsonl", 1, f"Say, {leaked}, please:")
    made("import", "f.jsonl", "g.jsonl", "--axis", "helpfulness", "--heldout-share", "0", "--name", "all")
    told = made("data", "overlap", "preferences/all", "--with", "prompts/evaluation")
    assert (told["read"], told["overlapping"]) == (6, 2)
    assert {row["evaluation_prompt"] for row in told["rows"]} == {prompt.id for prompt in evaluation[:2]}
    said = run_here("data", "overlap", "preferences/all", "--with", "prompts/evaluation", "--quiet").output
    assert "2 of 6 comparisons to train on of preferences/all@1 hold an evaluation prompt" in said
    assert "--words 10 --share 0.8 --remove --name all-clean" in said
    clean = made("data", "overlap", "preferences/all", "--with", "prompts/evaluation", "--remove", "--name", "clean")
    assert clean["metrics"] == {"read": 6, "kept": 4, "left_out": 2}
    ids = {row["id"] for row in told["rows"]}
    assert comparisons("preferences/clean") == [each for each in comparisons("preferences/all") if each.id not in ids]
    kept = [json.loads(line) for line in (Registry("registry").open("preferences/clean").path / "logs/overlaps.jsonl").open()]
    assert kept == told["rows"]
    assert made("data", "overlap", "preferences/clean", "--with", "prompts/evaluation")["overlapping"] == 0


def test_prompts_are_cleaned_like_preferences(here):
    put_prompts("evaluation", ["why is the sky blue"])
    training = put_prompts("training", ["Why is the sky blue?", "Why is grass green?"])
    clean = made("data", "overlap", "prompts/training", "--with", "prompts/evaluation", "--remove", "--name", "clean")
    assert clean["metrics"]["left_out"] == 1
    artifact = Registry("registry").open("prompts/clean")
    assert prompts_in(Registry("registry"), "prompts/clean") == training[1:]
    assert artifact.file("cases.jsonl").read_text() == "{}\n"


def test_overlap_is_asked_of_preferences_and_prompts(here):
    put_prompts("evaluation", ["q"])
    put_prompts("same", ["Q!"])
    for arguments, message in (
        (["prompts/evaluation", "--with", "prompts/none"], "prompts/none"),
        (["prompts/evaluation", "--with", "prompts/evaluation"], "overlaps with itself"),
        (["prompts/same", "--with", "prompts/evaluation", "--share", "0"], "above 0 to 1"),
        (["prompts/same", "--with", "prompts/evaluation", "--remove"], "nothing would be left"),
    ):
        assert message in run_here("data", "overlap", *arguments, code=2).output


def test_dialogues_that_are_too_long_for_a_model_are_left_out(here):
    registry = Registry("registry")
    put_policy(registry, "tiny")
    rows = [{"prompt": "q", "response_a": "a " * words, "response_b": "b", "choice": "b"} for words in (1, 30, 60)]
    write(here / "f.jsonl", rows)
    lengths = [len(encode_dialogue(tiny_tokenizer(), [user("q"), assistant(row["response_a"])]).ids) for row in rows]
    options = ["--axis", "helpfulness", "--model", "policy/tiny", "--heldout-share", "0"]
    told = made("import", "f.jsonl", *options, "--max-tokens", lengths[1])
    assert (told["accepted"], told["rejected"]) == (2, {"too_long": 1})
    (reject,) = (here / told["rejects_file"]).read_text().splitlines()
    assert json.loads(reject)["line"] == 3 and f"{lengths[2]} tokens, more than the {lengths[1]}" in json.loads(reject)["fix"]
    parents = registry.open(told["artifact"]).manifest.parents
    assert [parent.reference for parent in parents["model"]] == ["policy/tiny@1"]
    assert made("import", "f.jsonl", *options, "--max-tokens", lengths[1] - 1)["rejected"] == {"too_long": 2}


def test_a_dialogue_held_out_in_one_source_is_not_trained_on_out_of_another(here):
    first = [{"prompt": f"question {n}", "response_a": "yes", "response_b": "no", "choice": "a"} for n in range(60)]
    longer = [user("x"), assistant("so"), user("and?")]
    second = [row | {"prompt": [user(row["prompt"]), *longer[1:]]} for row in first]
    for name, rows, share in (("t1", first, "5%"), ("t2", second, "50%")):
        write(here / f"{name}.jsonl", rows)
        made("import", f"{name}.jsonl", "--axis", "helpfulness", "--heldout-share", share)
    told = made("data", "mix", "preferences/t1=0.5", "preferences/t2=0.5", "--name", "both")
    asked = {side: {each.prompt[0]["content"] for each in comparisons("preferences/both", side)} for side in ("train", "test")}
    assert asked["test"] and asked["train"] and not asked["test"] & asked["train"]
    assert told["metrics"]["held_out_elsewhere"] > 0
    said = run_here("data", "mix", "preferences/t1=0.5", "preferences/t2=0.5", "--name", "both", "--quiet").output
    assert f"left out: {told['metrics']['held_out_elsewhere']} comparisons that belong to dialogues that are held out" in said


def test_transcripts_hold_a_pair_once_and_say_what_they_leave_behind(here):
    rows = [
        {"prompt": "q", "response_a": "yes", "response_b": "no", "choice": choice, "annotator": annotator}
        for choice, annotator in (("a", "ada"), ("a", "ben"), ("b", "cleo"))
    ]
    write(here / "f.jsonl", rows)
    made("import", "f.jsonl", "--axis", "helpfulness", "--heldout-share", "0")
    said = run_here("data", "export", "preferences/f", "--to", "anthropic_hh", "--out", "hh.jsonl", "--quiet").output
    assert "left out: 2, because the pair is in the file already" in said
    assert "no place for ratings, safety labels, annotators" in said
    assert made("import", "hh.jsonl", "--axis", "helpfulness", "--max-rejected", "0", "--heldout-share", "0")["accepted"] == 1


def test_an_export_of_nothing_leaves_no_file(here):
    imported(here, "f", 3)
    result = run_here("data", "export", "preferences/f", "--axis", "safety", "--out", "s.jsonl", code=2)
    assert "no comparison can be written (there are none)" in result.output and not list(here.glob("s.jsonl*"))


def test_nothing_accepted_is_never_committed(here):
    native_file(here / "f.jsonl", 3, choice="tie")
    result = run_here("import", "f.jsonl", "--axis", "helpfulness", "--max-rejected", "1", code=2)
    assert "none of the 3 rows can be used (3 tie)" in result.output
    assert not list((here / "registry").glob("preferences/*/*"))


def test_files_that_are_none_are_named_for_what_they_are(here):
    (here / "folder.jsonl").mkdir()
    assert "it is a folder. Name each file in it" in run_here("import", "folder.jsonl", "--axis", "safety", code=2).output
    assert "there is no file none.jsonl" in run_here("import", "none.jsonl", "--axis", "safety", code=2).output
    (here / "f.csv").write_text("Prompt|Response A|response_b|CHOICE\nq|x|y|a\n")
    said = plain(run_here("import", "f.csv", "--axis", "safety", code=2).output)
    assert "--map Prompt=prompt --map 'Response A'=response_a --map response_b=response_b --map CHOICE=choice" in said
    maps = ["--map", "Prompt=prompt", "--map", "Response A=response_a", "--map", "CHOICE=choice"]
    assert made("import", "f.csv", "--axis", "safety", *maps)["accepted"] == 1

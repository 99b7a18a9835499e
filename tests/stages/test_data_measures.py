"""``rlhf data stats``, ``agreement`` and ``show`` on small artifacts, against counts made by hand."""

import json
import re
from statistics import fmean

import pytest
from click.testing import Result
from fakes import tiny_policy, tiny_tokenizer
from stage_runs import put, put_dialogues, put_policy, put_preferences
from transformers import LlamaConfig
from typer.testing import CliRunner

from commands.data import data_app
from commands.printing.measures import NOBODY_AGREES
from policy.chat import encode_dialogue
from policy.checkpoint import save_checkpoint
from preference_data.comparison import Comparison
from preference_data.judgement import make_comparison
from preference_data.measuring.agreement import gwet
from preference_data.measuring.statistics import wilson
from preference_data.messages import assistant, user
from preference_data.prompt import make_dialogue
from registry.store import Registry
from stages.engine.model_text import ModelText, open_model, seen_text, token_counter

runner = CliRunner()
LONG = "the fox sleeps nine hours and the owl is older than the fox"
PROMPT = [user("What is brown?"), assistant("The fox.\n\nAnd the pot."), user("And the owl?")]


def judged(item, annotator, chosen, rating="better", batch="week-1", safe=(True, False)):
    texts = {"a": f"It is brown, {LONG}.", "b": "No."}
    return make_comparison(
        prompt=[*PROMPT[:2], user(f"And the owl, number {item}?")] if item % 2 else [user(f"Which one is older, {item}?")],
        chosen=texts[chosen],
        rejected=texts["b" if chosen == "a" else "a"],
        axis="safety",
        source="team.jsonl",
        rating=rating,
        annotator=annotator,
        batch=batch,
        chosen_safe=safe[0],
        rejected_safe=safe[1],
        risk_category="illicit_and_criminal_activities",
        chosen_policy="policy/sft@1",
        chosen_temperature=0.7,
    )


TRAIN = [
    judged(1, "ann", "a"),
    judged(1, "bob", "a", "negligibly_better"),
    judged(2, "ann", "b", "significantly_better"),
    judged(2, "bob", "a", "slightly_better", safe=(True, True)),
    judged(3, "ann", "a", batch="week-2"),
    judged(4, "bob", "a", batch="week-10", safe=(None, None)),
]
TEST = [judged(5, "ann", "a", "unrated"), judged(5, "bob", "a")]
DIALOGUES = [
    make_dialogue([*PROMPT, assistant("The owl is brown.")], family="gatt", source="gatt", train_on=train_on)
    for train_on in ("all", "last")
]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Comparisons (preferences/safety, and preferences/once judged once), dialogues, a policy and a reward model."""
    registry = Registry(tmp_path_factory.mktemp("data") / "registry")
    put_preferences(registry, "safety", TRAIN, TEST)
    put_preferences(registry, "once", TRAIN[:1], TRAIN[2:3])
    put_preferences(registry, "none")
    put_dialogues(registry, "gatt", DIALOGUES)
    put_policy(registry, "sft")
    put(registry, "reward_model/safety", lambda path: save_checkpoint(tiny_policy(), tiny_tokenizer(), path))
    return registry


def command(registry: Registry, *arguments: str, width: int | None = None) -> Result:
    """Run it with its output in a pipe or, with a ``width``, on a terminal."""
    terminal = {"FORCE_COLOR": "1", "COLUMNS": str(width), "TERM": "xterm-256color"} if width else {"FORCE_COLOR": None}
    return runner.invoke(data_app, [*arguments, "--registry", str(registry.root)], env=terminal)


def told(registry: Registry, *arguments: str) -> dict:
    done = command(registry, *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout, parse_constant=pytest.fail)


def sections(text: str) -> dict[str, list[list[str]]]:
    """Title -> rows of cells, header first."""
    blocks = [block.splitlines() for block in text.split("\n\n")]
    return {block[0]: [line.split("\t") for line in block[1:]] for block in blocks}


def test_stats_count_both_sides_by_batch_with_the_total_last(registry):
    done = command(registry, "stats", "preferences/safety", "--by", "batch", "--quiet")
    assert done.exit_code == 0 and done.stdout.startswith("preferences/safety@1, all comparisons\n")
    found = sections(done.stdout)
    assert found["comparisons"] == [
        ["batch", "comparisons", "prompts", "items", "annotators", "turns"],
        ["week-1", "6", "3", "3", "2", "1.7"],
        ["week-2", "1", "1", "1", "1", "2.0"],
        ["week-10", "1", "1", "1", "1", "1.0"],
        ["total", "8", "5", "5", "2", "1.6"],
    ]
    ratings = found["ratings, in % of the rated"]
    assert ratings[0] == ["batch", "rated", "significantly", "better", "slightly", "negligibly"]
    assert ratings[-1] == ["total", "7", "14.3", "57.1", "14.3", "14.3"]
    labels = found["safety labels, in %; chosen > rejected, of pairs with both labels"]
    assert labels[-1] == ["total", "14", "42.9", "85.7", "14.3", "0.0"] and labels[3] == ["week-10", "0", "-", "-", "-", "-"]
    lengths = found["words on average (example: dialogue with one response; prompt: last message)"]
    words = [len(each.chosen.split()) - len(each.rejected.split()) for each in TRAIN + TEST]
    assert lengths[-1][4] == f"{fmean(words):.1f}"
    low, high = wilson(7 / 8, 8)
    assert lengths[-1][5] == f"87.5 ({100 * low:.1f}-{100 * high:.1f})"


def test_stats_of_one_side_as_json(registry):
    found = told(registry, "stats", "preferences/safety", "--side", "train", "--by", "rating", "--annotators", "--quiet")
    assert (found["artifact"], found["side"], found["unit"], found["model"]) == ("preferences/safety@1", "train", "words", None)
    assert list(found["groups"]) == ["significantly_better", "better", "slightly_better", "negligibly_better"]
    assert found["total"]["comparisons"] == 6 and found["total"]["prompts"] == 4
    assert found["total"]["ratings"]["better"]["count"] == 3 and found["total"]["ratings"]["better"]["total"] == 6
    words = [sum(len(message["content"].split()) for message in each.prompt) for each in TRAIN]
    answers = [len(text.split()) for each in TRAIN for text in (each.chosen, each.rejected)]
    assert found["total"]["tokens_per_example"] == pytest.approx(fmean(words) + fmean(answers))
    ann = found["annotators"]["ann"]
    # of the items 1 and 2 that both judged, they agree on the first
    assert (ann["shared"], ann["agreement"], ann["statistics"]["comparisons"]) == (2, 0.5, 3)
    assert (ann["low"], ann["high"]) == pytest.approx(wilson(0.5, 2))
    better = found["groups"]["better"]["longer_chosen"]
    assert better == {"count": 3, "total": 3, "share": 1, "low": pytest.approx(wilson(1, 3)[0]), "high": 1}
    empty = told(registry, "stats", "preferences/none")
    assert empty["total"]["comparisons"] == 0 and empty["total"]["tokens_per_prompt"] is None and empty["groups"] is None


def test_stats_in_the_tokens_of_a_model(registry):
    found = told(registry, "stats", "preferences/safety", "--model", "policy/sft")
    assert (found["unit"], found["model"]) == ("tokens", "policy/sft@1")
    lengths = [
        len(tiny_tokenizer()(each.prompt[-1]["content"], add_special_tokens=False)["input_ids"]) for each in TRAIN + TEST
    ]
    assert found["total"]["tokens_per_prompt"] == pytest.approx(fmean(lengths))
    folder = str(registry.resolve("policy/sft").path)
    assert told(registry, "stats", "preferences/safety", "--model", folder)["total"] == found["total"]
    shown = command(registry, "stats", "preferences/safety", "--model", "policy/sft", "--annotators")
    assert "in tokens of policy/sft@1" in shown.stdout and "tokens on average" in shown.stdout
    assert ["ann", "4", "3", "66.7 (20.8-93.9)", "75.0 (30.1-95.4)", "50.0"] in sections(shown.stdout)[
        "annotators: shared items were judged by others too, who agree with the choice"
    ]
    assert token_counter(tiny_tokenizer())([]) == []


def test_what_is_not_there_is_said_in_words(registry, tmp_path):
    done = command(registry, "stats", "preferences/none")
    assert done.exit_code == 0
    assert "ratings: nothing is rated" in done.stdout and "no safety labels" in done.stdout
    for reference in ("preferences/once", "preferences/none"):
        done = command(registry, "agreement", reference)
        assert done.exit_code == 0 and NOBODY_AGREES in done.stdout
    assert told(registry, "agreement", "preferences/once")["groups"]["safety"]["choices"] is None


def test_agreement_is_gwets(registry):
    found = told(registry, "agreement", "preferences/safety", "--quiet")
    assert (found["judgements"], found["items"], found["by"]) == (8, 5, "axis")
    safety = found["groups"]["safety"]
    # "It is brown" sorts before "No."; items 1, 2, 3, 4, 5
    choices = gwet([["a", "a"], ["b", "a"], ["a"], ["a"], ["a", "a"]], "ab")
    assert safety["choices"]["coefficient"] == pytest.approx(choices.coefficient, abs=1e-12)
    assert (safety["choices"]["items"], safety["choices"]["repeated"]) == (5, 3)
    ratings = gwet([[3, 1], [-4, 2], [3], [3], [3]], (-4, -3, -2, -1, 1, 2, 3, 4), "quadratic")
    assert safety["ratings"]["coefficient"] == pytest.approx(ratings.coefficient, abs=1e-12)
    labels = gwet([[1, 1], [0, 0], [0, 1], [1, 1], [1], [0], [1, 1], [0, 0]], (0, 1))
    assert safety["safety_labels"]["coefficient"] == pytest.approx(labels.coefficient, abs=1e-12)
    assert (safety["same_choice"]["share"], safety["same_choice"]["pairs"]) == (pytest.approx(4 / 6), 6)
    assert safety["same_choice_if_significantly_better"]["share"] == 0
    shown = command(registry, "agreement", "preferences/safety", "--by", "batch")
    assert "8 judgements of 5 items" in shown.stdout and "AC2 0.37-0.55 helpfulness, 0.92 safety" in shown.stdout
    coefficients = sections(shown.stdout)["Gwet's coefficients with half their 95 % interval (at most 1; 0 at chance)"]
    assert [row[:2] for row in coefficients[1:]] == [["week-1", "3"], ["week-2", "0"], ["week-10", "0"]]
    assert coefficients[2][2:] == ["-", "-", "-"]
    same = sections(shown.stdout)["how often another annotator chooses the same, in %, by the rating of the first"]
    assert same[1][:2] == ["week-1", "67 (0-100)"] and same[2][1:] == ["-"] * 5


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    "arguments",
    [
        ("stats", "preferences/safety", "--by", "risk_category", "--annotators"),
        ("agreement", "preferences/safety"),
        ("show", "preferences/safety", "--model", "policy/sft", "--n", "8"),
    ],
)
def test_on_a_terminal_no_line_is_longer_than_it_is_wide(registry, arguments, width):
    done = command(registry, *arguments, width=width)
    assert done.exit_code == 0 and "\x1b[" in done.stdout and "\t" not in done.stdout
    lines = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).splitlines()
    assert max(map(len, lines)) <= width


def test_show_prints_a_comparison_as_people_read_it(registry):
    done = command(registry, "show", "preferences/safety", "--n", "1", "--skip", "1")
    assert done.exit_code == 0
    each = TRAIN[1]
    assert done.stdout == (
        "preferences/safety@1: 1 of 8 comparisons\n"
        + "── 2 · train row 1 ".ljust(80, "─")
        + f"""
user       What is brown?
assistant  The fox.

           And the pot.
user       And the owl, number 1?

chosen     It is brown, the fox sleeps nine hours and the owl is older than the
           fox.

rejected   No.

rating     negligibly better (margin 0 small, 0 large)
safety     chosen safe, rejected unsafe; risk category
           illicit_and_criminal_activities; safety prompt
judged     for safety by bob, batch week-1
from       team.jsonl; chosen of policy/sft@1 at temperature 0.7, rejected of an
           unknown policy
ids        comparison {each.id}, item {each.item_id}, prompt
           {each.prompt_id}

"""
    )
    assert "next: the same with --skip 2" in done.stderr


def shown_ids(registry: Registry, *arguments: str) -> list[str]:
    return [each["id"] for each in told(registry, "show", "preferences/safety", *arguments)["shown"]]


def test_show_finds_what_is_asked_for(registry):
    every = [each.id for each in TRAIN + TEST]
    assert shown_ids(registry, "--n", "99") == every and shown_ids(registry) == every[:3]
    assert shown_ids(registry, "--n", "3", "--skip", "4") == every[4:7]
    assert shown_ids(registry, "--side", "test") == every[6:]
    assert shown_ids(registry, "--rating", "better", "--skip", "1", "--n", "2") == [every[4], every[5]]
    assert shown_ids(registry, "--id", TRAIN[2].id) == [TRAIN[2].id]
    assert shown_ids(registry, "--id", TRAIN[0].item_id) == shown_ids(registry, "--id", TRAIN[0].prompt_id) == every[:2]
    assert shown_ids(registry, "--id", TRAIN[0].item_id, "--rating", "better") == every[:1]
    drawn = [shown_ids(registry, "--n", "4", "--seed", str(seed)) for seed in range(6)]
    assert all(len(set(ids)) == 4 and ids == sorted(ids, key=every.index) for ids in drawn)
    assert len({tuple(ids) for ids in drawn}) > 2 and shown_ids(registry, "--n", "4", "--seed", "3") == drawn[3]
    assert {id_ for ids in drawn for id_ in ids} == set(every)
    found = told(registry, "show", "preferences/safety", "--skip", "6", "--n", "1")
    assert found["matching"] == 8 and found["shown"][0]["side"] == "test" and found["shown"][0]["row"] == 0
    assert Comparison(**{key: value for key, value in found["shown"][0].items() if key not in ("side", "row")}) == TEST[0]


def test_show_marks_the_tokens_that_would_be_trained(registry):
    done = command(registry, "show", "preferences/safety", "--n", "1", "--model", "policy/sft")
    text = re.sub(r"\s+", " ", done.stdout)
    assert "«…»: the tokens that fine-tuning on the chosen response would train" in text
    assert f"And the owl, number 1? [/INST]« {TRAIN[0].chosen} </s>»" in text and text.count("«") == 2
    seen = told(registry, "show", "preferences/safety", "--n", "1", "--model", "policy/sft")["shown"][0]["seen"]
    assert list(seen) == ["chosen"]
    assert [part["marked"] for part in seen["chosen"]["parts"]] == [False, True]
    answer = len(tiny_tokenizer()(f"[INST] x [/INST] {TRAIN[0].chosen} ", add_special_tokens=False)["input_ids"])
    opening = len(tiny_tokenizer()("[INST] x [/INST]", add_special_tokens=False)["input_ids"])
    assert seen["chosen"]["num_marked"] == answer - opening + 1  # and EOS
    terminal = command(registry, "show", "preferences/safety", "--n", "1", "--model", "policy/sft", width=80)
    assert "highlighted: the tokens" in terminal.stdout and "«" not in terminal.stdout and "\x1b[1;7m" in terminal.stdout


def test_show_marks_where_a_reward_model_reads(registry):
    done = command(registry, "show", "preferences/safety", "--n", "1", "--model", "reward_model/safety")
    assert "«…»: the token at which reward_model/safety@1 reads the score" in done.stdout
    assert done.stdout.count("«</s>»") == 2 and done.stdout.count("the score is read at the last") == 2
    seen = told(registry, "show", "preferences/safety", "--n", "1", "--model", "reward_model/safety")["shown"][0]["seen"]
    assert list(seen) == ["chosen", "rejected"] and seen["rejected"]["num_marked"] == 1
    assert seen["rejected"]["parts"][-1] == {"text": "</s>", "marked": True}


def test_show_prints_dialogues_with_what_is_trained(registry):
    done = command(registry, "show", "dialogues/gatt", "--model", "policy/sft")
    _, every, last = done.stdout.split("── ")
    first_answer = re.compile(r"\[/INST\]«\s+The\s+fox\.\s+And\s+the\s+pot\.\s+</s>»")
    assert first_answer.search(every) and not first_answer.search(last)
    assert "all answers are trained" in every and "the last answer is trained" in last
    assert every.count("«") == 2 and last.count("«") == 1
    shown = told(registry, "show", "dialogues/gatt", "--id", DIALOGUES[0].prompt_id)["shown"]
    assert [each["train_on"] for each in shown] == ["all", "last"] and "seen" not in shown[0]


def test_the_parts_are_the_whole_text():
    messages = [{"role": "system", "content": "Be kind."}, *PROMPT, assistant("Sûre, 猫 </s> brown!")]
    for train_on in ("all", "last"):
        seen = seen_text(ModelText("tiny", "policy", tiny_tokenizer()), messages, train_on)
        encoded = encode_dialogue(tiny_tokenizer(), messages, train_on)
        assert "".join(text for text, _ in seen.parts) == tiny_tokenizer().decode(encoded.ids)
        assert (seen.num_tokens, seen.num_marked) == (len(encoded.ids), sum(encoded.loss_mask))
        assert [text.strip() for text, marked in seen.parts if marked][-1] == "Sûre, 猫 </s> brown! </s>"


def test_text_cannot_command_the_terminal(registry, tmp_path):
    escape = make_comparison(
        prompt=[user("red \x1b[31m\x9b bell \x07\r\nnext\tend")],
        chosen="a\x1b]0;title",
        rejected="b",
        axis="safety",
        source="s\x1b[31m\tt\n",
        batch="total",
    )
    other = Registry(tmp_path / "registry")
    put_preferences(other, "escape", [escape], [escape])
    done = command(other, "show", "preferences/escape", "--n", "1")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.stdout)
    by_source = command(other, "stats", "preferences/escape", "--by", "source").stdout
    assert "\ns␛[31m    t \t2\t1\t1\t0\t1.0\ntotal\t2\t" in by_source
    assert command(other, "stats", "preferences/escape", "--by", "batch").stdout.count("\ntotal\t2\t1\t") == 2
    assert "red ␛[31m� bell ␇\n           next    end" in done.stdout


def test_a_folder_tells_what_it_holds(registry, tmp_path):
    for name, kind in (("LlamaForSequenceClassification", "reward_model"), ("LlamaForCausalLM", "policy")):
        folder = tmp_path / name
        tiny_tokenizer().save_pretrained(folder)
        LlamaConfig(architectures=[name]).save_pretrained(folder)
        assert open_model(registry, str(folder)).kind == kind


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("stats", "dialogues/gatt"), "is of kind dialogues, and one of kind preferences is needed"),
        (("stats", "preferences/safty"), "Did you mean preferences/safety"),
        (("stats", "preferences/safety", "--side", "both"), "'both' is not one of 'train', 'test', 'all'"),
        (("stats", "preferences/safety", "--by", "colour"), "is not one of 'source', 'batch'"),
        (
            ("stats", "preferences/safety", "--model", "dialogues/gatt"),
            "give a policy, a reward model, or a Hugging Face folder",
        ),
        (("stats", "preferences/safety", "--model", "/nowhere"), "/nowhere has no tokenizer that can be opened"),
        (("agreement", "preferences/safety", "--by", "annotator"), "is not one of 'source', 'batch'"),
        (("show", "policy/sft"), "rlhf data show prints preferences and dialogues"),
        (("show", "dialogues/gatt", "--side", "train"), "--side is for preferences"),
        (("show", "dialogues/gatt", "--rating", "better"), "--rating is for comparisons"),
        (("show", "preferences/safety", "--rating", "best"), "ratings are significantly_better, better"),
        (("show", "preferences/once", "--rating", "unrated"), "no row in train and test is rated unrated"),
        (("show", "preferences/safety", "--id", "0123"), "has the id 0123; give the id of a comparison"),
        (("show", "preferences/safety", "--skip", "8"), "--skip 8 leaves nothing of the 8 rows that fit"),
        (("show", "preferences/none"), "there are no rows in train and test"),
        (("show", "preferences/safety", "--skip", "1", "--seed", "1"), "give one of them"),
    ],
)
def test_bad_input_is_told_and_exits_2(registry, arguments, message):
    done = command(registry, *arguments)
    assert done.exit_code == 2 and done.stdout == ""
    told_plainly = re.sub(r"[\s│]+", " ", done.stderr)
    assert message in told_plainly

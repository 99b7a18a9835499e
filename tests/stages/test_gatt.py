"""Ghost Attention on a team's own checkpoint, dialogues and constraints, by the command line, with a random policy."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import Result
from command_line import run_here
from fakes import tiny_tokenizer
from row_files import write
from stage_runs import make, put, put_dialogues
from stopped_runs import Killed, Stopping, change_records, states_in
from transformers import LlamaForCausalLM

from gatt.constraint_file import read_constraints
from gatt.obedience import with_instruction
from policy.architecture import llama_config
from policy.chat import encode_dialogue
from policy.checkpoint import save_checkpoint
from policy.tokenizer import EOS_ID
from preference_data.messages import Messages, assistant, user
from preference_data.parquet import read_records
from preference_data.prompt import Dialogue, make_dialogue
from preference_data.strict_rows import RowsError
from registry.saved_states import SaveEvery
from registry.store import Registry
from reward_model.model import build_reward_model
from stages.catalog import STAGES
from stages.external_files import sha256_of
from stages.pipeline import steps
from stages.recipe import load_recipe
from stages.sections import FileConfig, GattStageConfig
from stages.train import gatt

SHORT = {
    "family": "length",
    "value": "short",
    "instruction": "Keep it short.",
    "terse": "Length: short.",
    "check": "max_words 99",
}
NAPOLEON = {"family": "figure", "value": "Napoleon", "check": "contains Napoleon"}
HELD_OUT = {"family": "length", "value": "one sentence", "instruction": "Use one sentence.", "terse": "Length: one.",
            "check": "max_words 99", "held_out": True}  # fmt: skip
FREE = {"family": "hobby", "value": "chess"}
NUM_DIALOGUES = 12


def turns(number: int, name: str) -> Messages:
    return [
        message
        for turn in range(number)
        for message in (user(f"The fox {name}{turn}?"), assistant(f"The owl {name}{turn} sleeps."))
    ]


def save_policy(folder: Path) -> None:
    """A random policy of the smallest preset that stops now and then."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(llama_config("pico", len(tiny_tokenizer()))).eval()
    with torch.no_grad():
        noise = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(1))
        model.lm_head.weight[EOS_ID] = 0.5 * noise
    save_checkpoint(model, tiny_tokenizer(), folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a team has: a checkpoint, dialogues, constraints, a recipe; and a registry with a policy and a reward model."""
    folder = tmp_path_factory.mktemp("team")
    (folder / "llama").mkdir()
    save_policy(folder / "llama")
    write(
        folder / "own.jsonl", [{"messages": turns(2 + number % 3, "abcdefghijkl"[number])} for number in range(NUM_DIALOGUES)]
    )
    write(folder / "constraints.jsonl", [SHORT, NAPOLEON, HELD_OUT])
    team = load_recipe("llama2-7b").model_dump(mode="json")
    team["base"] |= {"checkpoint": "llama", "preset": "pico"}
    team["gatt"] |= {"max_new_tokens": 12, "k": 3, "num_replayed": 4, "dialogues_per_batch": 4, "temperature": 1.0}
    team["gatt_tuning"] |= {"batch_size": 4, "epochs": 1, "max_length": 512, "learning_rate": 0.001, "microbatch_size": None}
    (folder / "team.yaml").write_text(yaml.safe_dump(team))
    registry = Registry(folder / "registry")
    put(registry, "policy/chat", save_policy)
    put(registry, "reward_model/theirs", lambda path: save_checkpoint(*build_reward_model(folder / "llama", 1), path))
    return folder


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs ``rlhf gatt`` in the folder of the team."""
    monkeypatch.chdir(folder)

    def running(*words: str, quiet: bool = True, code: int = 0) -> Result:
        return run_here("gatt", "--recipe", "team.yaml", *words, "--registry", "registry", *["--quiet"] * quiet, code=code)

    return running


def made_of(registry: Registry, reference: str) -> list[Dialogue]:
    return read_records(registry.resolve(reference).file("dialogues.parquet"), Dialogue)


def test_a_teams_checkpoint_and_dialogues_become_dialogues_and_a_policy(folder: Path, run: Any) -> None:
    given = ("--policy", "llama", "--dialogues", "own.jsonl", "--constraints", "constraints.jsonl", "--name", "mine", "--json")
    done = run(*given)
    told = json.loads(done.stdout)
    assert (told["before"][-1]["artifact"], told["artifact"]) == ("dialogues/mine@1", "policy/llama-mine@1")
    metrics = told["before"][-1]["metrics"]
    assert metrics["constraints"] == 1 and metrics["constraints_left_out"] == ["figure Napoleon: 0 of 4"]
    registry = Registry(folder / "registry")
    dialogues = made_of(registry, "dialogues/mine")
    instructed = [each for each in dialogues if each.source == "gatt"]
    assert metrics["dialogues"] == len(instructed) > 3 and metrics["replayed"] == len(dialogues) - len(instructed) == 4
    assert metrics["demonstrations"] == 0
    own = {str(row["messages"][2:-1]) for row in map(json.loads, (folder / "own.jsonl").read_text().splitlines())}
    for each in instructed:
        assert each.messages[0]["content"].startswith(("Keep it short. The fox", "Length: short. The fox"))
        assert str(each.messages[2:-1]) in own, "what lies between is as it was given"
        assert not any("short" in message["content"] for message in each.messages[1:])
        assert each.train_on == "last"
    tuned = registry.resolve("policy/llama-mine").manifest
    assert tuned.metrics["by_source"] == {"gatt": len(instructed), "demonstrations": 4}
    assert [str(parent.reference) for parent in tuned.parents["policy"]] == ["policy/llama@1"]
    again = json.loads(run(*given).stdout)
    assert again["artifact"] == "policy/llama-mine@1", "up to date"


def test_what_is_shown_of_them_is_trained_on_the_last_answer_alone(folder: Path, run: Any) -> None:
    given = ("--policy", "policy/chat", "--dialogues", "own.jsonl", "--constraints", "constraints.jsonl", "--name", "system")
    done = run(*given, "--instruction-in", "system", quiet=False)
    assert re.search(r"fine-tuning: (\d+)/\1 step in", done.stderr), "the reader saw how far it was"
    registry = ["--registry", "registry", "--model", "policy/chat-system", "--json"]
    shown = json.loads(run_here("data", "show", "dialogues/system", *registry).stdout)["shown"][0]
    assert [message["role"] for message in shown["messages"][:2]] == ["system", "user"]
    marked = [part["text"] for part in shown["seen"]["dialogue"]["parts"] if part["marked"]]
    assert len(marked) == 1 and marked[0].removesuffix("</s>").strip() == shown["messages"][-1]["content"].strip()


def test_demonstrations_of_families_that_are_nowhere_else_are_learnt_beside(folder: Path, run: Any) -> None:
    registry = Registry(folder / "registry")
    given = ("--policy", "policy/chat", "--dialogues", "own.jsonl", "--constraints", "constraints.jsonl", "--name", "kept")
    run(*given)
    (family,) = {each.family for each in made_of(registry, "dialogues/own")}
    shown = [make_dialogue(turns(1, name), family=of, source="shown") for name, of in (("x", family), ("y", "knitting"))]
    for words in (HELD_OUT["instruction"], HELD_OUT["terse"]):
        stating = [user(f"{words} The fox?"), assistant("The owl sleeps.")]
        shown.append(make_dialogue(stating, family="weaving", source="shown"))
    put_dialogues(registry, "shown", shown)
    run(*given, "--demonstrations", "dialogues/shown")
    without, beside = (made_of(registry, f"dialogues/kept@{revision}") for revision in (1, 2))
    assert beside == [*without, shown[1]], "what states a held-out constraint stays out"
    assert registry.resolve("dialogues/kept@2").manifest.metrics["demonstrations"] == 1


def test_a_dialogue_that_states_a_constraint_gets_no_other(folder: Path, run: Any) -> None:
    stating = [[user(f"{words} The fox?"), *turns(2, "q")[1:]] for words in (SHORT["terse"], HELD_OUT["instruction"])]
    write(
        folder / "stating.jsonl",
        [{"messages": messages} for messages in [*stating, turns(2, "x"), turns(2, "y")]]
        + [{"messages": turns(2, "z"), "is_safety": True}],
    )
    given = ("--policy", "policy/chat", "--dialogues", "stating.jsonl", "--constraints", "constraints.jsonl")
    run(*given, "--name", "stated")
    made = made_of(Registry(folder / "registry"), "dialogues/stated")
    assert not any("q0" in each.messages[1]["content"] for each in made if each.source == "gatt")
    replayed = [each.messages for each in made if each.source != "gatt"]
    assert stating[0] in replayed and stating[1] not in replayed
    left_out = Registry(folder / "registry").resolve("dialogues/stated").manifest.metrics["not_as_given"]
    assert left_out == {"states a constraint": 2, "safety tag": 1}


def test_what_is_done_next_is_told_with_what_was_chosen(folder: Path, run: Any) -> None:
    given = ("--policy", "policy/chat", "--dialogues", "own.jsonl", "--name", "next", "--set", "gatt.k=2")
    more = ("--set", "gatt.constraints.file=constraints.jsonl", "--instruction-in", "system")
    done = run(*given, *more)
    assert done.stdout.splitlines()[-1] == (
        "next: rlhf evaluate consistency --policy policy/chat-next@1 --dialogues OTHERS.jsonl --constraints constraints.jsonl "
        "--set gatt.instruction_in=system --recipe team.yaml "
        "--set gatt.k=2 --set gatt.constraints.file=constraints.jsonl --registry registry"
    )


def test_resampled_answers_lie_between(folder: Path, run: Any) -> None:
    given = ("--policy", "policy/chat", "--dialogues", "own.jsonl", "--constraints", "constraints.jsonl", "--name", "anew")
    run(*given, "--intermediate", "resampled", "--set", "gatt.max_turns=2")
    instructed = [each for each in made_of(Registry(folder / "registry"), "dialogues/anew") if each.source == "gatt"]
    assert instructed and not any("owl" in each.messages[1]["content"] for each in instructed)


def test_a_reward_model_or_a_judge_stands_in_for_a_checker(folder: Path, run: Any) -> None:
    write(folder / "free.jsonl", [SHORT, FREE])
    given = ("--policy", "policy/chat", "--dialogues", "own.jsonl", "--constraints", "free.jsonl", "--name", "free")
    done = run(*given, code=2)
    assert "1 of 2 constraints have no checker (hobby chess)" in done.output
    for who in ("--helpfulness", "reward_model/theirs"), ("--judge", "policy/chat"):
        done = run(*given, *who, "--json", "--set", "gatt.probe_answers=8")
        assert json.loads(done.stdout)["before"][-1]["metrics"]["dialogues"] > 0


@pytest.mark.parametrize(
    ("rows", "words", "said"),
    [
        ([NAPOLEON], (), r"obeys none of 1 constraints in a single turn"),
        ([NAPOLEON], (), "  figure Napoleon: 0 of 4"),
        ([HELD_OUT], (), "every constraint of bad.jsonl is held out"),
        ([SHORT | {"check": "sings"}], (), "line 1: there is no checker 'sings'"),
        ([SHORT, SHORT], (), "line 2: the length 'short' is in an earlier line too"),
        ([SHORT | {"instruction": "Be short. " * 900}], (), "the instruction of the length 'short' (9,000 characters"),
        ([SHORT], ("--set", "gatt.temperature=0"), "at temperature 0 the k = 3 last answers are equal: set k to 1"),
        ([SHORT], ("--set", "gatt.min_turns=5"), "none of 12 dialogues has 5 turns or more"),
        ([SHORT], ("--set", "gatt.multi_turn=chained"), "and there are 0 single-turn dialogues to string together"),
        ([SHORT | {"terse": "the fox"}], (), "none of 12 dialogues can get an instruction (states a constraint: 12)"),
        ([SHORT], ("--dialogues", "none.jsonl"), "there is no file none.jsonl"),
        ([SHORT], ("--dialogues", "open.jsonl"), "line 1: a dialogue must end with an assistant message"),
        ([SHORT], ("--policy", "policy/chatt"), "Did you mean policy/chat"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_what_to_do(
    folder: Path, run: Any, rows: list[Any], words: tuple[str, ...], said: str
) -> None:
    write(folder / "bad.jsonl", rows)
    write(folder / "open.jsonl", [{"messages": [user("The fox?")]}])
    given = ("--policy", "policy/chat", "--dialogues", "own.jsonl", "--constraints", "bad.jsonl", "--name", "bad")
    assert said in run(*given, *words, code=2).output
    assert not (folder / "registry" / "dialogues" / "bad").exists()


def test_without_constraints_dialogues_or_a_base_the_command_says_what_is_missing(folder: Path, run: Any) -> None:
    given = ("--policy", "policy/chat", "--dialogues", "own.jsonl")
    assert "there is no file data/constraints.jsonl" in run(*given, code=2).output, "the recipe names it"
    done = run_here("gatt", *given, "--registry", "registry", "--quiet", "--multi-turn", "given", code=2)
    assert "there are no constraints: give a file of them (--constraints FILE" in done.output
    (folder / "other").mkdir(exist_ok=True)
    write(folder / "other" / "own.jsonl", [{"messages": turns(2, "z")}])
    done = run(*given, "--dialogues", "other/own.jsonl", "--constraints", "constraints.jsonl", code=2)
    assert "dialogues/own is given twice as dialogues" in done.output
    assert "give --dialogues REF or FILE, or --samples REF" in run(*given[:2], code=2).output
    done = run("--policy", "llama", *given[2:], "--recipe", "micro", code=2)
    assert "the recipe micro pretrains its own base model; give --recipe llama2-7b" in done.output


def test_dialogues_that_do_not_fit_the_context_are_counted(folder: Path, run: Any) -> None:
    long = [user("The fox? " * 2000), *turns(2, "x")[1:]]
    full = [user("fox " * 1005), assistant("Yes."), *turns(1, "v")]  # its first turn fits, and no instruction does beside it
    context = llama_config("pico", 450).max_position_embeddings
    assert context - 12 < len(encode_dialogue(tiny_tokenizer(), full[:2]).ids) <= context
    given_dialogues = [long, full, turns(2, "y"), turns(11, "z")]
    write(folder / "long.jsonl", [{"messages": messages} for messages in given_dialogues])
    given = ("--policy", "policy/chat", "--dialogues", "long.jsonl", "--constraints", "constraints.jsonl", "--name", "long")
    done = run(*given, "--json")
    metrics = json.loads(done.stdout)["before"][-1]["metrics"]
    assert metrics["too_long"] == 2 and metrics["not_as_given"] == {"cut": 1}


def test_single_turns_are_strung_together_and_the_others_counted(folder: Path, run: Any) -> None:
    singles = [turns(1, name) for name in "stuvwx"]
    write(folder / "mixed.jsonl", [{"messages": messages} for messages in [*singles, turns(2, "y"), turns(3, "z")]])
    write(folder / "short.jsonl", [SHORT])
    given = ("--policy", "policy/chat", "--dialogues", "mixed.jsonl", "--constraints", "short.jsonl", "--name", "mixed")
    sizes = [f"--set=gatt.{each}" for each in ("num_dialogues=4", "max_turns=3")]
    done = run(*given, "--multi-turn", "chained", *sizes, "--json")
    assert json.loads(done.stdout)["before"][-1]["metrics"]["not_as_given"] == {"no single turn": 2}


def test_dialogues_that_the_reward_model_cannot_read_whole_are_counted(
    folder: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    long, short = turns(4, "x"), turns(2, "y")
    write(folder / "read.jsonl", [{"messages": each} for each in (long, short)])
    room = len(encode_dialogue(tiny_tokenizer(), with_instruction_of(short)).ids) + 12
    opened = gatt.scorer_of

    def scorer_of(*given: Any) -> Any:
        scorer = opened(*given)
        scorer.max_length = room
        return scorer

    monkeypatch.setattr(gatt, "scorer_of", scorer_of)
    write(folder / "short.jsonl", [SHORT])
    given = ("--policy", "policy/chat", "--dialogues", "read.jsonl", "--constraints", "short.jsonl", "--name", "read")
    done = run(*given, "--helpfulness", "reward_model/theirs", "--json")
    metrics = json.loads(done.stdout)["before"][-1]["metrics"]
    assert (metrics["too_long"], metrics["dialogues"]) == (1, 1)


def with_instruction_of(dialogue: Messages) -> Messages:
    return [*with_instruction(dialogue, SHORT["instruction"]), dialogue[-1]]


def test_a_dry_run_makes_nothing(folder: Path, run: Any) -> None:
    given = ("--policy", "llama", "--dialogues", "own.jsonl", "--constraints", "constraints.jsonl", "--name", "dry")
    steps = json.loads(run(*given, "--dry-run").stdout)["steps"]
    assert [step["makes"] for step in steps] == ["policy/llama", "dialogues/own", "dialogues/dry", "policy/llama-dry"]
    assert steps[2]["inputs"] == {"policy": ["policy/llama"], "dialogues": ["dialogues/own"]}
    assert not (folder / "registry" / "dialogues" / "dry").exists()
    write(folder / "faulty.jsonl", [SHORT, {"family": "figure"}])
    assert "line 2" in run(*given[:4], "--constraints", "faulty.jsonl", "--dry-run", code=2).output


def test_a_stopped_run_goes_on_and_makes_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    registry = Registry(folder / "registry")
    config = GattStageConfig(
        multi_turn="given", max_new_tokens=12, k=3, dialogues_per_batch=4, temperature=1.0,
        constraints=FileConfig(file="constraints.jsonl", sha256=sha256_of("constraints.jsonl")),
    )  # fmt: skip
    own = FileConfig(file="own.jsonl", sha256=sha256_of("own.jsonl"))
    make(registry, STAGES["add-dialogues"], own, {}, "own")
    asked = (registry, STAGES["gatt"], config, {"policy": ["policy/chat"], "dialogues": ["dialogues/own"]})
    whole = make(*asked, "whole")
    with pytest.raises(Killed):
        make(*asked, "stopped", Stopping(2), save_every=SaveEvery(steps=1))
    (saved,) = json.loads((states_in(registry, "probe/*/batch.json").root).read_text())
    assert [each["constraint"]["value"] for each in saved["probed"]] == ["short", "Napoleon"], "held out is never asked"
    assert make(*asked, "stopped").digest == whole.digest
    with pytest.raises(Killed):
        make(*asked, "meddled", Stopping(2), save_every=SaveEvery(steps=1))
    # what is written there by hand is gone on with: it is not asked again
    change_records(states_in(registry, "probe"), 0, "batch.json", lambda saved: saved[0]["probed"][1].update(obeying=3))
    assert make(*asked, "meddled").manifest.metrics["constraints"] == 2


def test_a_policy_that_lists_nothing_is_told_and_a_file_is_not_written_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)

    def asked(*words: str, code: int = 2) -> str:
        given = ("--policy", "policy/chat", *words, "--max-new-tokens", "12", "--registry", "registry", "--quiet")
        return run_here("gatt-constraints", *given, code=code).output

    proposed = ("--out", "proposed.jsonl", "--family")
    assert "no value is named by 3 of 3 answers" in asked(*proposed, "figure", "--samples", "3")
    asked(*proposed, "mood")
    asked(*proposed, "hobby", "--samples", "2")
    refused = asked("--out", "nowhere/proposed.jsonl", "--family", "figure")
    assert "nowhere to write proposed.jsonl in; make it first" in refused
    assert "constraints.jsonl exists" in asked("--out", "constraints.jsonl", "--family", "figure")
    asked(*proposed, "hobby", "--samples", "8", "--min-mentions", "1", code=0)
    assert {each.family for each in read_constraints(folder / "proposed.jsonl")} == {"hobby"}


# In a recipe


@pytest.mark.parametrize("name", ["llama2-7b", "llama2-13b", "llama2-70b", "llama2-7b-lora"])
def test_a_teams_recipe_makes_it_after_v3_of_its_own_dialogues_and_constraints(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "constraints.jsonl", [SHORT])
    recipe = load_recipe(name)
    found = {step.makes: step for step in steps(recipe)}
    made, tuned = found["dialogues/gatt"], found["policy/v3-gatt"]
    assert made.inputs == {
        "policy": ("policy/v3",), "helpfulness": ("reward_model/helpfulness",),
        "samples": ("samples/v1", "samples/v2", "samples/v3"), "dialogues": ("dialogues/demonstrations",),
    }  # fmt: skip
    assert isinstance(made.config, GattStageConfig) and made.config.constraints
    assert made.config.constraints.sha256 == sha256_of("data/constraints.jsonl") is not None
    assert tuned.inputs == {"policy": ("policy/v3",), "dialogues": ("dialogues/gatt",)}
    assert tuned.config == recipe.gatt_tuning and (recipe.gatt_tuning.lora == recipe.sft.lora)
    assert found["samples/v4"].inputs["policy"] == ("policy/v3-gatt",)
    assert found["policy/v5"].inputs["gatt"] == ("dialogues/gatt",)
    write(tmp_path / "data" / "constraints.jsonl", [SHORT, SHORT])
    with pytest.raises(RowsError, match="line 2: the length 'short' is in an earlier line too"):
        steps(recipe)  # known before the first round, not after the third

"""Ghost Attention on a team's own checkpoint, dialogues and constraints, by the command line, with a random policy."""

import json
import re
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fakes import tiny_tokenizer
from registry_folders import RUN
from transformers import LlamaForCausalLM
from typer.testing import CliRunner

from commands.cli import app
from gatt.constraint_file import read_constraints
from gatt.obedience import with_instruction
from policy.architecture import llama_config
from policy.chat import encode_dialogue
from policy.checkpoint import save_checkpoint
from policy.tokenizer import EOS_ID
from preference_data.messages import Messages, assistant, user
from preference_data.parquet import read_records, write_records
from preference_data.prompt import Dialogue, make_dialogue
from preference_data.strict_rows import RowsError
from registry.artifact import Artifact
from registry.saved_states import SavedStates, SaveEvery
from registry.store import Registry
from reward_model.model import build_reward_model
from stages.catalog import STAGES
from stages.engine.run import run_stage
from stages.external_files import sha256_of
from stages.pipeline import steps
from stages.recipe import load_recipe
from stages.sections import FileConfig, GattStageConfig
from stages.terminal.progress import Progress
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


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


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
    for kind, name, save in (
        ("policy", "chat", save_policy),
        ("reward_model", "theirs", lambda path: save_checkpoint(*build_reward_model(folder / "llama", 1), path)),
    ):
        with registry.draft(kind, name, name.encode().hex()) as draft:
            save(draft.path)
            draft.commit(RUN, {})
    return folder


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str, command: str = "gatt", quiet: bool = True) -> Any:
    monkeypatch.chdir(folder)
    recipe = ["--recipe", "team.yaml"] if command == "gatt" else []
    return CliRunner().invoke(app, [command, *recipe, *words, "--registry", "registry", *["--quiet"] * quiet])


def made_of(registry: Registry, reference: str) -> list[Dialogue]:
    return read_records(registry.resolve(reference).file("dialogues.parquet"), Dialogue)


def test_a_teams_checkpoint_and_dialogues_become_dialogues_and_a_policy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("--policy", "llama", "--dialogues", "own.jsonl", "--constraints", "constraints.jsonl", "--name", "mine", "--json")
    done = run(folder, monkeypatch, *given)
    assert done.exit_code == 0, done.output
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
    again = json.loads(run(folder, monkeypatch, *given).stdout)
    assert again["artifact"] == "policy/llama-mine@1", "up to date"


def test_what_is_shown_of_them_is_trained_on_the_last_answer_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("--policy", "policy/chat", "--dialogues", "own.jsonl", "--constraints", "constraints.jsonl", "--name", "system")
    done = run(folder, monkeypatch, *given, "--instruction-in", "system", quiet=False)
    assert done.exit_code == 0 and re.search(r"fine-tuning: (\d+)/\1 step in", done.stderr), "the reader saw how far it was"
    registry = ["--registry", "registry", "--model", "policy/chat-system", "--json"]
    shown = json.loads(CliRunner().invoke(app, ["data", "show", "dialogues/system", *registry]).stdout)["shown"][0]
    assert [message["role"] for message in shown["messages"][:2]] == ["system", "user"]
    marked = [part["text"] for part in shown["seen"]["dialogue"]["parts"] if part["marked"]]
    assert len(marked) == 1 and marked[0].removesuffix("</s>").strip() == shown["messages"][-1]["content"].strip()


def test_demonstrations_of_families_that_are_nowhere_else_are_learnt_beside(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(folder / "registry")
    given = ("--policy", "policy/chat", "--dialogues", "own.jsonl", "--constraints", "constraints.jsonl", "--name", "kept")
    assert run(folder, monkeypatch, *given).exit_code == 0
    (family,) = {each.family for each in made_of(registry, "dialogues/own")}
    shown = [make_dialogue(turns(1, name), family=of, source="shown") for name, of in (("x", family), ("y", "knitting"))]
    for words in (HELD_OUT["instruction"], HELD_OUT["terse"]):
        stating = [user(f"{words} The fox?"), assistant("The owl sleeps.")]
        shown.append(make_dialogue(stating, family="weaving", source="shown"))
    with registry.draft("dialogues", "shown", b"shown".hex()) as draft:
        write_records(draft.path / "dialogues.parquet", shown, Dialogue)
        draft.commit(RUN, {})
    assert run(folder, monkeypatch, *given, "--demonstrations", "dialogues/shown").exit_code == 0
    without, beside = (made_of(registry, f"dialogues/kept@{revision}") for revision in (1, 2))
    assert beside == [*without, shown[1]], "what states a held-out constraint stays out"
    assert registry.resolve("dialogues/kept@2").manifest.metrics["demonstrations"] == 1


def test_a_dialogue_that_states_a_constraint_gets_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stating = [[user(f"{words} The fox?"), *turns(2, "q")[1:]] for words in (SHORT["terse"], HELD_OUT["instruction"])]
    write(
        folder / "stating.jsonl",
        [{"messages": messages} for messages in [*stating, turns(2, "x"), turns(2, "y")]]
        + [{"messages": turns(2, "z"), "is_safety": True}],
    )
    given = (
        "--policy",
        "policy/chat",
        "--dialogues",
        "stating.jsonl",
        "--constraints",
        "constraints.jsonl",
        "--name",
        "stated",
    )
    assert run(folder, monkeypatch, *given).exit_code == 0
    made = made_of(Registry(folder / "registry"), "dialogues/stated")
    assert not any("q0" in each.messages[1]["content"] for each in made if each.source == "gatt")
    replayed = [each.messages for each in made if each.source != "gatt"]
    assert stating[0] in replayed and stating[1] not in replayed
    left_out = Registry(folder / "registry").resolve("dialogues/stated").manifest.metrics["not_as_given"]
    assert left_out == {"states a constraint": 2, "safety tag": 1}


def test_what_is_done_next_is_told_with_what_was_chosen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("--policy", "policy/chat", "--dialogues", "own.jsonl", "--name", "next", "--set", "gatt.k=2")
    more = ("--set", "gatt.constraints.file=constraints.jsonl", "--instruction-in", "system")
    done = run(folder, monkeypatch, *given, *more)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == (
        "next: rlhf evaluate consistency --policy policy/chat-next@1 --dialogues OTHERS.jsonl --constraints constraints.jsonl "
        "--set gatt.instruction_in=system --recipe team.yaml "
        "--set gatt.k=2 --set gatt.constraints.file=constraints.jsonl --registry registry"
    )


def test_resampled_answers_lie_between(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("--policy", "policy/chat", "--dialogues", "own.jsonl", "--constraints", "constraints.jsonl", "--name", "anew")
    done = run(folder, monkeypatch, *given, "--intermediate", "resampled", "--set", "gatt.max_turns=2")
    assert done.exit_code == 0, done.output
    instructed = [each for each in made_of(Registry(folder / "registry"), "dialogues/anew") if each.source == "gatt"]
    assert instructed and not any("owl" in each.messages[1]["content"] for each in instructed)


def test_a_reward_model_or_a_judge_stands_in_for_a_checker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "free.jsonl", [SHORT, FREE])
    given = ("--policy", "policy/chat", "--dialogues", "own.jsonl", "--constraints", "free.jsonl", "--name", "free")
    done = run(folder, monkeypatch, *given)
    assert done.exit_code == 2 and "1 of 2 constraints have no checker (hobby chess)" in done.output
    for who in ("--helpfulness", "reward_model/theirs"), ("--judge", "policy/chat"):
        done = run(folder, monkeypatch, *given, *who, "--json", "--set", "gatt.probe_answers=8")
        assert done.exit_code == 0, done.output
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
    folder: Path, monkeypatch: pytest.MonkeyPatch, rows: list[Any], words: tuple[str, ...], said: str
) -> None:
    write(folder / "bad.jsonl", rows)
    write(folder / "open.jsonl", [{"messages": [user("The fox?")]}])
    given = ("--policy", "policy/chat", "--dialogues", "own.jsonl", "--constraints", "bad.jsonl", "--name", "bad")
    done = run(folder, monkeypatch, *given, *words)
    assert done.exit_code == 2 and said in done.output, done.output
    assert not (folder / "registry" / "dialogues" / "bad").exists()


def test_without_constraints_dialogues_or_a_base_the_command_says_what_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(folder, monkeypatch, "--policy", "policy/chat", "--dialogues", "own.jsonl")
    assert done.exit_code == 2 and "there is no file data/constraints.jsonl" in done.output, "the recipe names it"
    asked = ["gatt", "--policy", "policy/chat", "--dialogues", "own.jsonl", "--registry", "registry", "--quiet"]
    done = CliRunner().invoke(app, [*asked, "--multi-turn", "given"])
    assert done.exit_code == 2 and "there are no constraints: give a file of them (--constraints FILE" in done.output
    (folder / "other").mkdir(exist_ok=True)
    write(folder / "other" / "own.jsonl", [{"messages": turns(2, "z")}])
    done = run(folder, monkeypatch, "--policy", "policy/chat", "--dialogues", "own.jsonl", "--dialogues", "other/own.jsonl",
               "--constraints", "constraints.jsonl")  # fmt: skip
    assert done.exit_code == 2 and "dialogues/own is given twice as dialogues" in done.output
    done = run(folder, monkeypatch, "--policy", "policy/chat")
    assert done.exit_code == 2 and "give --dialogues REF or FILE, or --samples REF" in done.output
    done = run(folder, monkeypatch, "--policy", "llama", "--dialogues", "own.jsonl", "--recipe", "micro")
    assert done.exit_code == 2 and "the recipe micro pretrains its own base model; give --recipe llama2-7b" in done.output


def test_dialogues_that_do_not_fit_the_context_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = [user("The fox? " * 2000), *turns(2, "x")[1:]]
    full = [user("fox " * 1005), assistant("Yes."), *turns(1, "v")]  # its first turn fits, and no instruction does beside it
    context = llama_config("pico", 450).max_position_embeddings
    assert context - 12 < len(encode_dialogue(tiny_tokenizer(), full[:2]).ids) <= context
    given_dialogues = [long, full, turns(2, "y"), turns(11, "z")]
    write(folder / "long.jsonl", [{"messages": messages} for messages in given_dialogues])
    given = ("--policy", "policy/chat", "--dialogues", "long.jsonl", "--constraints", "constraints.jsonl", "--name", "long")
    done = run(folder, monkeypatch, *given, "--json")
    metrics = json.loads(done.stdout)["before"][-1]["metrics"]
    assert metrics["too_long"] == 2 and metrics["not_as_given"] == {"cut": 1}


def test_single_turns_are_strung_together_and_the_others_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    singles = [turns(1, name) for name in "stuvwx"]
    write(folder / "mixed.jsonl", [{"messages": messages} for messages in [*singles, turns(2, "y"), turns(3, "z")]])
    write(folder / "short.jsonl", [SHORT])
    given = ("--policy", "policy/chat", "--dialogues", "mixed.jsonl", "--constraints", "short.jsonl", "--name", "mixed")
    sizes = [f"--set=gatt.{each}" for each in ("num_dialogues=4", "max_turns=3")]
    done = run(folder, monkeypatch, *given, "--multi-turn", "chained", *sizes, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["before"][-1]["metrics"]["not_as_given"] == {"no single turn": 2}


def test_dialogues_that_the_reward_model_cannot_read_whole_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    done = run(folder, monkeypatch, *given, "--helpfulness", "reward_model/theirs", "--json")
    assert done.exit_code == 0, done.output
    metrics = json.loads(done.stdout)["before"][-1]["metrics"]
    assert (metrics["too_long"], metrics["dialogues"]) == (1, 1)


def with_instruction_of(dialogue: Messages) -> Messages:
    return [*with_instruction(dialogue, SHORT["instruction"]), dialogue[-1]]


def test_a_dry_run_makes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("--policy", "llama", "--dialogues", "own.jsonl", "--constraints", "constraints.jsonl", "--name", "dry")
    steps = json.loads(run(folder, monkeypatch, *given, "--dry-run").stdout)["steps"]
    assert [step["makes"] for step in steps] == ["policy/llama", "dialogues/own", "dialogues/dry", "policy/llama-dry"]
    assert steps[2]["inputs"] == {"policy": ["policy/llama"], "dialogues": ["dialogues/own"]}
    assert not (folder / "registry" / "dialogues" / "dry").exists()
    write(folder / "faulty.jsonl", [SHORT, {"family": "figure"}])
    done = run(folder, monkeypatch, *given[:4], "--constraints", "faulty.jsonl", "--dry-run")
    assert done.exit_code == 2 and "line 2" in done.output


class Killed(BaseException):
    """The process ends here."""


class Stopping(Progress):
    """Kills the process at the second advance of a meter."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.left = 2

    def bound(self, log_folder: Path | None) -> Progress:
        return self

    @contextmanager
    def meter(self, *arguments: Any) -> Any:
        with super().meter(*arguments) as advance:

            def advancing(item: Any, amount: int = 1) -> None:
                advance(item, amount)
                self.left -= 1
                if not self.left:
                    raise Killed

            yield advancing


def test_a_stopped_run_goes_on_and_makes_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    registry = Registry(folder / "registry")
    config = GattStageConfig(
        multi_turn="given", max_new_tokens=12, k=3, dialogues_per_batch=4, temperature=1.0,
        constraints=FileConfig(file="constraints.jsonl", sha256=sha256_of("constraints.jsonl")),
    )  # fmt: skip
    inputs = {"policy": ["policy/chat"], "dialogues": ["dialogues/own"]}
    own = FileConfig(file="own.jsonl", sha256=sha256_of("own.jsonl"))
    run_stage(registry, STAGES["add-dialogues"], name="own", config=own, inputs={}, seed=0, progress=Progress(quiet=True))

    def make(name: str, progress: Progress) -> Artifact:
        made = run_stage(registry, STAGES["gatt"], name=name, config=config, inputs=inputs, seed=0, progress=progress,
                         save_every=SaveEvery(steps=1))  # fmt: skip
        return made.artifact

    whole = make("whole", Progress(quiet=True))
    with pytest.raises(Killed):
        make("stopped", Stopping())
    (probe_state,) = (registry.root / ".drafts").glob("*/states/probe/*/batch.json")
    saved = json.loads(probe_state.read_text())
    assert [each["constraint"]["value"] for each in saved[0]["probed"]] == ["short", "Napoleon"], "held out is never asked"
    assert make("stopped", Progress(quiet=True)).digest == whole.digest
    with pytest.raises(Killed):
        make("meddled", Stopping())
    (probe_state,) = (registry.root / ".drafts").glob("*/states/probe/*/batch.json")
    saved[0]["probed"][1]["obeying"] = 3  # what is written there by hand is gone on with: it is not asked again
    states = SavedStates(probe_state.parents[1])
    states.save(0, lambda folder: (folder / "batch.json").write_text(json.dumps(saved)) and None)
    assert make("meddled", Progress(quiet=True)).manifest.metrics["constraints"] == 2


def test_a_policy_that_lists_nothing_is_told_and_a_file_is_not_written_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*words: str) -> Any:
        given = ("--policy", "policy/chat", *words, "--max-new-tokens", "12")
        return run(folder, monkeypatch, *given, command="gatt-constraints")

    done = asked("--out", "proposed.jsonl", "--family", "figure", "--samples", "3")
    assert done.exit_code == 2 and "no value is named by 3 of 3 answers" in done.output
    assert asked("--out", "proposed.jsonl", "--family", "mood").exit_code == 2
    assert asked("--out", "proposed.jsonl", "--family", "hobby", "--samples", "2").exit_code == 2
    done = asked("--out", "nowhere/proposed.jsonl", "--family", "figure")
    assert done.exit_code == 2 and "nowhere to write proposed.jsonl in; make it first" in done.output
    done = asked("--out", "constraints.jsonl", "--family", "figure")
    assert done.exit_code == 2 and "constraints.jsonl exists" in done.output
    done = asked("--out", "proposed.jsonl", "--family", "hobby", "--samples", "8", "--min-mentions", "1")
    assert done.exit_code == 0, done.output
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

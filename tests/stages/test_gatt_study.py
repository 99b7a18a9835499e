"""Dialogues under an instruction, held by random policies, and the study that compares them."""

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from command_line import run_here
from fakes import tiny_tokenizer
from row_files import write
from stage_runs import REWARD_MODELS, make, put_models, put_policy, told

from eval.consistency_turns import Turn, select
from eval.findings.attention import TurnAttention
from gatt.constraint_file import write_constraints
from gatt.constraints import Constraint
from gatt.obedience import GattError
from policy.chat import encode_prompt
from policy.checkpoint import load_policy
from policy.judging import Judgement, PolicyJudge
from preference_data.messages import assistant, num_turns, user
from preference_data.parquet import read_records
from preference_data.prompt import make_dialogue
from registry.artifact import Artifact
from registry.store import Registry
from sandbox import constraints as rules
from stages.catalog import STAGES
from stages.measure.consistency import read_turns, sandbox_obeys, sandbox_recalls, turn_lengths
from stages.measure.consistency_dialogues import sandbox_dialogues, team_dialogues
from stages.pipeline import steps
from stages.recipe import RecipeError, load_recipe
from stages.sections import ConsistencyConfig, EvaluationConfig, PromptsConfig
from stages.studies import gatt
from stages.study_catalog import STUDIES
from stages.study_sections import GattStudyConfig
from stages.study_steps import planned_study

SEED = 3
CONFIG = ConsistencyConfig(
    num_dialogues=7, num_heldout=4, num_uninstructed=3, num_to_end=1, num_recalled=4, turns=(1, 2, 4), control_turns=2,
    max_new_tokens=12,
)  # fmt: skip
NAMES = ("v1", "v1-gatt", "v2-ppo")


def talks(registry: Registry, name: str, config: ConsistencyConfig = CONFIG, **options: Any) -> Artifact:
    inputs = {"policy": [f"policy/{name}"], "prompts": ["prompts/evaluation"]}
    return make(registry, STAGES["evaluate-consistency"], config, inputs, f"consistency-{name}", **options)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Three random policies, what they held and what they answered."""
    registry = Registry(tmp_path_factory.mktemp("gatt") / "registry")

    put_models(registry, NAMES[0])
    for seed, name in enumerate(NAMES[1:], start=1):
        put_policy(registry, name, seed)
    prompts = PromptsConfig(split="test", num_helpful=6, num_adversarial=2, num_borderline=2)
    make(registry, STAGES["prompts"], prompts, {}, "evaluation")
    for name in NAMES:
        talks(registry, name)
    for name in NAMES[:2]:
        inputs = {"policy": [f"policy/{name}"], **REWARD_MODELS, "prompts": ["prompts/evaluation"]}
        make(registry, STAGES["evaluate-policy"], EvaluationConfig(max_new_tokens=8), inputs, name)
    return registry


def dialogues(**changed: Any):
    return sandbox_dialogues(SEED, CONFIG.model_copy(update=changed), SEED, 512)


def test_groups_have_their_constraints_and_lengths():
    found = dialogues(num_dialogues=30, num_heldout=30)
    assert Counter(each.group for each in found) == {"trained": 30, "held_out": 30, "none": 3}
    trained, held_out = (
        {(each.family, each.value) for each in rules.constraints(SEED, held_out=side)} for side in (False, True)
    )
    for each in found:
        pairs = {(constraint.family, constraint.value) for constraint in each.constraints}
        assert pairs <= {"trained": trained, "held_out": held_out, "none": trained | held_out}[each.group]
        assert len(each.constraints) == 1 or each.group == "none"
        assert (each.instruction_text == "") == (each.group == "none")
    assert {each.constraints[0].family for each in found if each.group == "trained"} == {"figure", "hobby", "language"}
    assert {len(each.user_turns) for each in found[1:30]} == {4} and {len(each.user_turns) for each in found[30:]} == {2}
    assert [each.to_end for each in found] == [True] + [False] * 62
    assert [bool(each.recall_question) for each in found[:6]] == [True, True, False, True, False, False], "no language recalls"


def test_what_is_drawn_for_one_group_or_purpose_changes_no_other():
    plain = dialogues()
    more = dialogues(num_dialogues=9, num_to_end=0, num_recalled=0)
    assert [each.user_turns[:4] for each in plain[:7]] == [each.user_turns for each in more[:7]]
    assert plain[7:] == more[9:]


def test_without_an_instruction_nothing_is_to_be_repeated():
    control = dialogues(num_uninstructed=200)[11:]
    assert not [turn for each in control for turn in each.user_turns if turn.lower().startswith(("please repeat", "repeat"))]


def test_lengths_are_those_of_the_whole_prompt():
    tokenizer, prompt = tiny_tokenizer(), [user("Is it?"), assistant("It is, so."), user("And then?")]
    length = turn_lengths(tokenizer)
    system = {"role": "system", "content": "Be brief."}
    for messages in (prompt[:1], prompt, [system, *prompt[:1]], [system, *prompt], [*prompt, assistant("No."), user("So?")]):
        assert length(messages) == len(encode_prompt(tokenizer, messages).ids)


def test_an_evaluation_holds_every_turn_and_its_manifest_the_shares(registry):
    artifact = registry.resolve("evaluation/consistency-v1")
    rows = read_turns(artifact)
    assert Counter((row.group, row.turn) for row in rows if row.turn <= 4) == {
        **{("trained", number): 7 for number in (1, 2, 3, 4)},
        **{(group, number): count for group, count in (("held_out", 4), ("none", 3)) for number in (1, 2)},
    }
    (last,) = [row for row in rows if row.is_last]
    assert (last.dialogue, last.turn) == (0, max(row.turn for row in rows)) and last.turn > 4
    assert {row.turn for row in rows if row.recall_response is not None} == {2, 4}
    metrics = artifact.manifest.metrics
    assert set(metrics["obeying"]) == {"trained", "held_out", "none"}
    assert set(metrics["obeying"]["trained"]) == {"1", "2", "4"} and set(metrics["obeying"]["held_out"]) == {"1", "2"}
    assert metrics["last_turn"] == {"obeying": float(last.obeyed), "dialogues": 1, "turns": [last.turn]}
    assert set(metrics["recall"]) == {"2", "4"}
    known = [row.obeyed for row in select(rows, "none")]
    assert metrics["false_obeying"] == sum(known) / len(known)
    for row in rows:
        if row.response and row.families:
            value = row.instruction.rstrip(".").split()[-1]
            assert row.obeyed == rules.obeys(row.families[0], value, row.response)


# A team's own

CONSTRAINTS = [
    Constraint("figure", "Bo", "Always act as Bo.", "Figure: Bo.", "contains Bo"),
    Constraint("hobby", "chess", "Always say that you love chess.", "Hobby: chess."),
    Constraint("end", "ahoy", "Always end with ahoy.", "End: ahoy.", "ends_with ahoy", held_out=True),
]
GIVEN = [
    make_dialogue([user("a1"), assistant("x"), user("a2"), assistant("y")], family="team", source="team"),
    make_dialogue([user("b1"), assistant("x")], family="team", source="team"),
]


def test_a_teams_dialogues_say_what_its_users_said_and_keep_held_out_constraints_apart():
    config = CONFIG.model_copy(update={"num_dialogues": 40, "num_heldout": 5, "num_to_end": 1, "instruction_in": "system"})
    found = team_dialogues(GIVEN, CONSTRAINTS, config, SEED, 400)
    assert {each.constraints for each in found if each.group == "trained"} == {(each,) for each in CONSTRAINTS[:2]}
    assert {each.constraints for each in found if each.group == "held_out"} == {(CONSTRAINTS[2],)}
    assert {each.constraints for each in found if each.group == "none"} == {(CONSTRAINTS[0], CONSTRAINTS[2])}, "with checkers"
    assert {each.instruction_text for each in found[:40]} == {
        text for c in CONSTRAINTS[:2] for text in (c.instruction, c.terse)
    }
    assert [len(each.user_turns) for each in found[1:]] == [4] * 39 + [2] * 8 and len(found[0].user_turns) == 50
    assert [each.user_turns[0] for each in found[1:5]] == ["b1", "a1", "b1", "a1"], "each dialogue in its turn"
    for each in found:
        turns = " ".join(each.user_turns)
        assert set(each.user_turns) <= {"a1", "a2", "b1"}
        assert turns.replace("a1 a2", "").replace("b1", "").split() in ([], ["a1"]), "in their order; the last may be cut"
    assert {each.instruction_in for each in found[:45]} == {"system"}
    bare = config.model_copy(update={"num_heldout": 1})
    with pytest.raises(GattError, match="1 dialogues of the group held_out were asked for, and there is no constraint that is"):
        team_dialogues(GIVEN, CONSTRAINTS[:2], bare, SEED, 400)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Where a team has its dialogues and its constraints."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine.jsonl", [{"messages": each.messages} for each in GIVEN])
    write_constraints(CONSTRAINTS, tmp_path / "c.jsonl")
    return tmp_path


def test_a_team_measures_by_checkers_and_by_its_judge(registry, here):
    sizes = {"num_dialogues": 4, "num_heldout": 2, "num_uninstructed": 2, "num_to_end": 0, "max_new_tokens": 6,
             "turns": "[1,3]", "num_recalled": 0}  # fmt: skip
    given = ["--registry", registry.root, "--policy", "policy/v1", "--name", "mine", "--quiet", "--recipe", "micro"]
    given += [part for name, value in sizes.items() for part in ("--set", f"consistency.{name}={value}")]

    def run(*more: str, code: int = 0) -> str:
        return run_here("evaluate", "consistency", *given, *more, code=code).output

    both = ("--dialogues", "mine.jsonl", "--constraints", "c.jsonl")
    assert "1 of 3 constraints have no checker (hobby chess)" in run(*both, code=2)
    assert "--dialogues and --constraints go together: give both" in run(*both[:2], code=2)
    assert "dialogues/mine is given twice as dialogues" in run(*both, *both[:2], code=2)
    write_constraints([replace(CONSTRAINTS[0], instruction="Be Bo. " * 900)], here / "long.jsonl")
    assert "alone leaves no room in the policy's context" in run(*both[:2], "--constraints", "long.jsonl", code=2)
    write_constraints([replace(CONSTRAINTS[1], instruction="Love chess. " * 98)], here / "wide.jsonl")
    wide = run(*both[:2], "--constraints", "wide.jsonl", "--judge", "policy/v1", code=2)
    assert "the judge would have to read up to" in wide
    told = json.loads(run(*both, "--judge", "policy/v1", "--json"))
    artifact = registry.resolve("evaluation/mine")
    assert told["artifact"] == str(artifact.reference)
    judge = PolicyJudge(*load_policy(registry.resolve("policy/v1").path))
    for row in read_turns(artifact):
        if row.families == ["hobby"] and row.response and row.response.strip():
            assert row.obeyed == judge.judge([Judgement(CONSTRAINTS[1].instruction, row.user, row.response)])[0]
        elif row.families:
            held = row.response is not None and (
                " Bo " in f" {row.response} " if row.families == ["figure"] else "ahoy" in row.response
            )
            assert row.obeyed == held
    shown = run(*both, "--judge", "policy/v1")
    assert "evaluation/mine@1 (up to date)" in shown and "recalled when asked" not in shown
    for name, group, count in (("trained constraints", "trained", 4), ("held-out constraints", "held_out", 2)):
        (cells,) = [line.split("\t")[1:] for line in shown.splitlines() if line.startswith(name)]
        shares = [f"{100 * value:.1f} [" for value in artifact.manifest.metrics["obeying"][group].values()]
        assert all(map(str.startswith, cells, shares)) and all(cell.endswith(f"] n={count}") for cell in cells)
        assert len(cells) == len(shares) == 2
    (here / "c.jsonl").write_text((here / "c.jsonl").read_text().replace("Always act as Bo.", "Be Bo."))
    assert "evaluation/mine@2" in run(*both, "--judge", "policy/v1"), "an edited file is another input"


def test_a_team_is_asked_of_held_out_constraints_where_it_has_any_and_where_training_put_the_instruction(registry, here):
    write_constraints([each for each in CONSTRAINTS if not each.held_out], here / "trained.jsonl")

    def planned(file: str, *more: str) -> dict[str, Any]:
        asked = ["evaluate", "consistency", "--recipe", "llama2-7b", "--dialogues", "mine.jsonl", "--constraints", file]
        given = ("--registry", registry.root, "--policy", "policy/v1", "--dry-run")
        return json.loads(run_here(*asked, *given, *more).stdout)["steps"][-1]

    with_held_out, without = planned("c.jsonl"), planned("trained.jsonl", "--set", "gatt.instruction_in=system")
    assert with_held_out["makes"] == "evaluation/consistency-v1"
    assert [each["config"]["num_heldout"] for each in (with_held_out, without)] == [60, 0]
    write_constraints([replace(each, check=None) for each in CONSTRAINTS], here / "judged.jsonl")
    unchecked = planned("judged.jsonl", "--set", "consistency.num_dialogues=9")["config"]
    assert [each["num_uninstructed"] for each in (with_held_out["config"], unchecked)] == [60, 0], "it needs a checker"
    assert unchecked["num_dialogues"] == 9
    assert [each["config"]["instruction_in"] for each in (with_held_out, without)] == ["first_message", "system"]
    apart = planned("c.jsonl", "--set", "gatt.instruction_in=system", "--set", "consistency.instruction_in=first_message")
    assert apart["config"]["instruction_in"] == "first_message", "as it is said"


def test_a_team_is_told_how_many_dialogues_a_share_leaves_out(registry, here):
    words = ["The fox?", "The owl? " * 345, "And the sea?"]
    safe = {"messages": [message for each in words for message in (user(each), assistant("x"))]}
    stating = {"messages": [user("Well, always end with AHOY."), assistant("x")]}
    unsafe = {"messages": [user("How to rob?"), assistant("No.")], "is_safety": True}
    write_constraints(CONSTRAINTS[::2], here / "c.jsonl")
    given = ["evaluate", "consistency", "--registry", registry.root, "--policy", "policy/v1", "--name", "full", "--json"]
    given += ["--dialogues", "mine.jsonl", "--constraints", "c.jsonl", "--recipe", "micro", "--quiet"]
    sizes = {"num_dialogues": 3, "num_heldout": 2, "num_uninstructed": 2, "num_to_end": 0, "num_recalled": 0,
             "turns": "[1,2,3]", "control_turns": 1, "max_new_tokens": 6}  # fmt: skip
    given += [part for name, value in sizes.items() for part in ("--set", f"consistency.{name}={value}")]

    def run(*rows: Any, code: int = 0) -> Any:
        write(here / "mine.jsonl", rows)
        return run_here(*given, code=code)

    metrics = json.loads(run(stating, safe, unsafe).stdout)["metrics"]
    assert metrics["context_full"] == {"trained": {"1": 0, "2": 3, "3": 3}}
    assert set(metrics["obeying"]["trained"]) == {"1"}
    assert {turn.user for turn in read_turns(registry.resolve("evaluation/full")) if turn.group == "none"} == {"The fox?"}
    refused = run(stating, unsafe, code=2).output
    assert "none of 2 dialogues is without the safety tag and states no constraint; give others" in refused


def study(registry: Registry, config: GattStudyConfig = GattStudyConfig(attention_dialogues=2), name="gatt", **changed: Any):
    inputs = {
        "consistency": [f"evaluation/consistency-{each}" for each in NAMES], "policies": [f"policy/{each}" for each in NAMES],
        "before": ["evaluation/v1"], "after": ["evaluation/v1-gatt"],
    } | changed  # fmt: skip
    return make(registry, STUDIES["gatt"], config, inputs, name)


def test_the_study_tells_what_the_evaluations_hold(registry):
    artifact = study(registry)
    kept = told(artifact)["tables"][0]
    for line, name in zip(kept["rows"], NAMES, strict=False):
        metrics = registry.resolve(f"evaluation/consistency-{name}").manifest.metrics
        assert {column: found["value"] for column, found in line["measured"].items()} == {
            **{f"turn {number}": value for number, value in metrics["obeying"]["trained"].items()},
            "last turn": metrics["last_turn"]["obeying"],
        }
    assert [row["name"] for row in kept["rows"]] == [
        "without", "right after", "with", "right after - without", "with - without"
    ]  # fmt: skip
    assert artifact.manifest.metrics["findings"]["F15"] == "not measured", "turn 6 was not held"
    findings = told(artifact)["findings"]
    assert [finding["id"] for finding in findings] == ["F15", "F16", "F17"]
    assert findings[1]["verdict"] != "not measured" and findings[2]["effects"][0]["estimate"]["n"] == 2
    looked = read_records(artifact.file("attention.parquet"), TurnAttention)
    assert {(row.arm, row.dialogue) for row in looked} == {(arm, each) for arm in gatt.ARMS for each in ("0", "1")}


def test_attention_can_be_left_out(registry):
    artifact = study(registry, GattStudyConfig(attention_dialogues=0), "no-attention")
    assert artifact.manifest.metrics["findings"]["F17"] == "not measured"
    assert not artifact.path.joinpath("attention.parquet").exists() and not list(artifact.path.glob("*.svg"))


def test_what_cannot_be_compared_is_refused(registry):
    with pytest.raises(ValueError, match=r"measured policy/v1-gatt@1, and the policy with is policy/v1@1; measure that"):
        study(registry, name="wrong", policies=["policy/v1", "policy/v1-gatt", "policy/v1"],
              consistency=[f"evaluation/consistency-{each}" for each in ("v1", "v1-gatt", "v1-gatt")])  # fmt: skip
    with pytest.raises(
        ValueError, match=r"evaluation/v1-gatt@1 measured policy/v1-gatt@1, and the policy without is policy/v1@1"
    ):
        study(registry, name="wrong", before=["evaluation/v1-gatt"])
    talks(registry, "v1-gatt", CONFIG.model_copy(update={"temperature": 1.0}))
    with pytest.raises(
        ValueError, match=r"have different settings, seeds, prompts or models; measure both.*consistency-v1` and .*-v1-gatt`"
    ):
        study(registry, name="wrong")
    with pytest.raises(ValueError, match="evaluation/v1@1 was made by evaluate-policy, not by evaluate-consistency"):
        read_turns(registry.resolve("evaluation/v1"))


def a_constraint_of_each_family():
    pool = rules.all_constraints()
    return [next(each for each in pool if each.family == family) for family in ("figure", "hobby", "language", "end_word")]


def test_the_sandbox_judges_by_its_own_checkers():
    chosen = a_constraint_of_each_family()
    obeying = [(each, [], rules.obey([each], "The fox is red.")) for each in chosen]
    assert sandbox_obeys(obeying) == [True] * 4
    assert sandbox_obeys([(each, [], "The fox is red.") for each in chosen]) == [False] * 4
    figure, hobby, *_ = chosen
    assert sandbox_recalls(figure, f"I am {figure.value}.") and not sandbox_recalls(figure, obeying[0][2])
    assert sandbox_recalls(hobby, f"I love {hobby.value}.") and not sandbox_recalls(hobby, obeying[1][2])


def row(number: int, response: str | None, dialogue: int = 0) -> Turn:
    return Turn(dialogue, "trained", number, "Act.", [], f"q{number}", response, True, False, None, None, None)


def test_transcripts_end_with_the_last_answer_or_at_the_turn_asked_for():
    turns = [row(1, "a"), row(2, "b"), row(3, "c"), row(1, "a", 1), row(2, None, 1), row(1, "a", 2), row(2, "b", 2)]
    turns += [replace(each, group="none", dialogue=9) for each in turns[:2]]
    found = gatt.transcripts(turns, False, 2)
    assert {each.dialogue: num_turns(each.messages) for each in found} == {"0": 2, "1": 1, "2": 2}
    assert found[0].messages == [user("q1"), assistant("a"), user("q2"), assistant("b")]
    assert gatt.transcripts(turns, True, 2)[0].messages[0] == {"role": "system", "content": "Act."}


def test_the_recipe_measures_the_policy_right_after_and_puts_the_instruction_where_training_did():
    recipe = load_recipe("nano", ["gatt.instruction_in=system"])
    found = {each.makes: each for each in steps(recipe, "all")}
    assert found["study/gatt"].inputs == {
        "consistency": ("evaluation/consistency-v3", "evaluation/consistency-v3-gatt", "evaluation/consistency-v5-ppo"),
        "policies": ("policy/v3", "policy/v3-gatt", "policy/v5-ppo"),
        "before": ("evaluation/v3",),
        "after": ("evaluation/v3-gatt",),
    }
    assert found["evaluation/v3-gatt"].inputs["policy"] == ("policy/v3-gatt",)
    assert "evaluation/v3-gatt" not in found["report/nano"].inputs["policies"]
    for name in ("v3", "v3-gatt", "v5-ppo"):
        config = found[f"evaluation/consistency-{name}"].config
        assert isinstance(config, ConsistencyConfig) and config.instruction_in == "system"


@pytest.mark.parametrize(
    ("study", "name", "overrides", "why"),
    [
        ("gatt", "micro", ["rounds=[{version: v1}]"], "it has no round with gatt: true"),
        ("gatt-intermediate", "micro", ["rounds=[{version: v1}]"], "it .*--recipe nano"),
        ("gatt-intermediate", "llama2-7b", [], "it .*--recipe nano"),
    ],
)
def test_a_recipe_that_cannot_make_a_study_of_ghost_attention_says_why(study, name, overrides, why):
    recipe = load_recipe(name, overrides)
    assert f"study/{study}" not in [each.makes for each in steps(recipe, "all")]
    with pytest.raises(RecipeError, match=f"the recipe {name} cannot make the study {study}: {why}"):
        planned_study(STUDIES[study], recipe)


@pytest.mark.parametrize("name", ["num_to_end", "num_recalled"])
def test_no_more_dialogues_are_asked_than_there_are(name):
    with pytest.raises(ValueError, match=f"{name} is 8, and num_dialogues 7: lower one"):
        ConsistencyConfig.model_validate({"num_dialogues": 7, name: 8, "max_new_tokens": 4})

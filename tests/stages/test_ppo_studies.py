"""The studies of versions and of PPO: evaluations and validations written by hand, and PPO of a random two-layer policy."""

import json
import math
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from command_line import run_here
from fakes import talking_policy, tiny_policy, tiny_tokenizer
from stage_runs import (
    REWARD_MODELS,
    by_arm,
    cells,
    make,
    prompts_in,
    put,
    put_policy,
    put_prompts,
    put_reward_model,
    put_rows,
    told,
)
from stopped_runs import Killed, Stopping, Told

from eval.answers import Answer
from policy.checkpoint import save_checkpoint
from preference_data.comparison import AXES
from preference_data.messages import assistant
from preference_data.parquet import read_records
from preference_data.prompt import Prompt
from registry.artifact import Artifact
from registry.drafts import unfinished
from registry.saved_states import SaveEvery
from registry.store import Registry
from reward_model.scoring import RewardScorer
from sandbox.gold import judge
from sandbox.hazards import REFUSAL
from stages.catalog import STAGES
from stages.data.make_world import cases_of, world_of
from stages.recipe import load_recipe
from stages.sections import EvaluationConfig, PPOStageConfig, PromptsConfig
from stages.studies import whitening
from stages.studies.arms.tuned_arms import ArmAnswer
from stages.studies.whitening import ARMS
from stages.study_catalog import STUDIES
from stages.study_sections import GoodhartStudyConfig, VersionsStudyConfig, WhiteningStudyConfig
from stages.study_steps import study_steps

SEED = 3


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    registry = Registry(tmp_path_factory.mktemp("ppo-studies") / "registry")
    put_policy(registry, "v5", policy=talking_policy(0))
    axes = {"helpfulness": "helpfulness", "safety": "safety", "guard": "helpfulness", "safety-guard": "safety", "unknown": None}
    for seed, (name, axis) in enumerate(axes.items()):
        put_reward_model(registry, name, "policy/v5", seed, scale=40, axis=axis)
    for name, split in (("evaluation", "test"), ("tuning", "train")):
        config = PromptsConfig(split=split, num_helpful=24, num_adversarial=8, num_borderline=3)
        make(registry, STAGES["prompts"], config, {}, name)
    return registry


def effects(artifact: Artifact, name: str) -> dict[str, float]:
    (finding,) = [finding for finding in told(artifact)["findings"] if finding["id"] == name]
    return {effect["name"]: effect["estimate"]["value"] for effect in finding["effects"]}


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


# Versions

NAMES = ("sft", "v1", "v2", "v2-ppo")
GIVEN = {"first": ["evaluation/sft"], "versions": ["evaluation/v1", "evaluation/v2"], "with_ppo": ["evaluation/v2-ppo"]}


def answers(version: int, prompts: int = 30) -> list[Answer]:
    """Three groups of ten prompts; each version is better by a tenth, and says the same as the first to the tenth prompt."""
    return [
        Answer(
            prompt_id=f"p{number}", prompt=[], response="alike" if number % 10 == 9 else f"{version}",
            group=("helpful", "adversarial", "borderline")[number // 10], family="fact", num_tokens=4, finished=True,
            helpfulness_score=0.1 * version + 0.01 * number, safety_score=0.2 * version - 0.01 * number,
            gold_helpfulness=0.1 * version + 0.01 * number, gold_safety=0.25 * version, is_safe=version > 1, refused=False,
        )
        for number in range(prompts)
    ]  # fmt: skip


def evaluation(registry: Registry, name: str, rows: list[Answer], config: Any = None, model: str = "helpfulness") -> Artifact:
    models = {axis: registry.resolve(f"reward_model/{axis}") for axis in AXES}
    models |= {"helpfulness": registry.resolve(f"reward_model/{model}"), "prompts": registry.resolve("prompts/evaluation")}
    config = config or {"temperature": 0.7}
    return put_rows(registry, f"evaluation/{name}", "answers.parquet", rows, Answer, config=config, **models)


@pytest.fixture(scope="module")
def evaluated(registry: Registry) -> Registry:
    for number, name in enumerate(NAMES):
        evaluation(registry, name, answers(number))
    evaluation(registry, "other-model", answers(1), model="guard")
    evaluation(registry, "hotter", answers(1), {"temperature": 1.0})
    return registry


def test_versions_are_judged_by_their_evaluations(evaluated: Registry) -> None:
    study = make(evaluated, STUDIES["versions"], VersionsStudyConfig(), GIVEN, "versions")
    assert list(study.manifest.metrics["findings"]) == ["F12", "F13", "F14", "F23"]
    for name in ("F12", "F13"):
        found = effects(study, name)
        assert found["reward model: win rate of v2 against sft, less 0.5"] == 0.5, "PPO is no part of it"
        assert found["gold: slope of the win rate a version, v1 to v2"] == 0
    improved = effects(study, "F14")
    assert improved["gold helpfulness: v2-ppo - v2"] == pytest.approx(0.1)
    assert improved["gold harmlessness: v2-ppo - v2"] == pytest.approx(0.25)
    assert improved["helpfulness score: v2-ppo - v2"] == pytest.approx(
        fmean(sigmoid(0.3 + 0.01 * n) - sigmoid(0.2 + 0.01 * n) for n in range(10))
    )
    wins, harmless, worth, _, tail = (cells(study, number) for number in range(5))
    assert list(wins) == ["v1", "v2", "v2-ppo"] == list(harmless)
    assert wins["v2-ppo"]["gold, tied"] == pytest.approx(0.1) and wins["v2-ppo"]["gold, won"] == 1
    assert list(worth) == [*NAMES, "v1 - sft", "v2 - v1", "v2-ppo - v2", "v2 - sft"]
    for ours, theirs in (("v1", "sft"), ("v2", "v1"), ("v2-ppo", "v2"), ("v2", "sft")):
        apart = NAMES.index(ours) - NAMES.index(theirs)
        assert worth[f"{ours} - {theirs}"]["gold helpfulness"] == pytest.approx(0.1 * apart)
    assert worth["v2 - v1"]["violations"] == -1 and list(tail) == list(NAMES)


def test_one_round_without_ppo_is_measured_as_far_as_it_goes(evaluated: Registry) -> None:
    given = {"first": ["evaluation/sft"], "versions": ["evaluation/v1"]}
    study = make(evaluated, STUDIES["versions"], VersionsStudyConfig(), given, "one-round")
    assert study.manifest.metrics["findings"] == {"F12": "not measured", "F13": "not measured", "F23": "not measured"}
    assert list(cells(study, 2)) == ["sft", "v1", "v1 - sft"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["evaluation/v1", "evaluation/sft"], "called sft, v1, sft; give each version once"),
        (["evaluation/other-model"], "other-model@1 were measured with different artifacts as helpfulness"),
        (["evaluation/hotter"], "different settings: .*0.7.*1.0"),
    ],
)  # fmt: skip
def test_evaluations_that_cannot_be_compared_are_refused(evaluated: Registry, given: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(evaluated, STUDIES["versions"], VersionsStudyConfig(), {"first": ["evaluation/sft"], "versions": given}, "wrong")


# Goodhart

CHECKPOINTS = (0, 2, 4)
SCORES = {0: -1.0, 2: 2.0, 4: 0.5}


def validations(prompts: list[Prompt]) -> list[dict[str, Any]]:
    """The second checkpoint is the best by score; one answer of the last is empty."""
    return [
        {
            "iteration": iteration, "prompt_id": prompt.id, "messages": prompt.messages, "is_safety": prompt.is_safety,
            "family": prompt.family, "response": _said(iteration, number), "finished": number != 1,
            "num_tokens": 10 + number, "kl": 0.125 * iteration + number,
            "helpfulness": 0.0, "safety": 0.0, "combined": SCORES[iteration] + 0.1 * number,
        }
        for iteration in CHECKPOINTS
        for number, prompt in enumerate(prompts)
    ]  # fmt: skip


def _said(iteration: int, number: int) -> str:
    if (iteration, number) == (4, 0):
        return " "
    return REFUSAL if (number + iteration // 2) % 3 == 0 else f"The answer is {number}, and the fox is brown."


@pytest.fixture(scope="module")
def drawn(registry: Registry) -> list[Prompt]:
    """Of the tuning prompts some without and some with the safety tag."""
    prompts = prompts_in(registry, "prompts/tuning")
    return [prompt for prompt in prompts if not prompt.is_safety][:8] + [prompt for prompt in prompts if prompt.is_safety][:4]


def put_ppo(registry: Registry, name: str, rows: list[dict[str, Any]]) -> Artifact:
    def write(path: Path) -> None:
        save_checkpoint(tiny_policy(0), tiny_tokenizer(), path)
        (path / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    return put(registry, f"policy/{name}", write, prompts=registry.resolve("prompts/tuning"))


@pytest.fixture(scope="module")
def validated(registry: Registry, drawn: list[Prompt]) -> Registry:
    rows = validations(drawn)
    put_ppo(registry, "v5-ppo", rows)
    put_ppo(registry, "silent", [])
    put_ppo(registry, "uneven", rows[:-1])
    put_ppo(registry, "strangers", [row | {"prompt_id": f"x{row['prompt_id']}"} for row in rows])
    put_prompts(registry, "of-a-team", drawn)
    return registry


def judged_by(
    registry: Registry, prompts: str = "prompts/tuning", policy: str = "policy/v5-ppo", *guards: str
) -> dict[str, Any]:
    given = {"policy": [policy], "prompts": [prompts]}
    return given | ({"guard": [f"reward_model/{guard}" for guard in guards]} if guards else {})


def goodhart_study(registry: Registry, name: str, *given: str) -> Artifact:
    return make(registry, STUDIES["goodhart"], GoodhartStudyConfig(), judged_by(registry, *given), name)


def test_every_answer_is_judged_on_the_axis_of_its_prompt(validated: Registry, drawn: list[Prompt]) -> None:
    study = goodhart_study(validated, "goodhart")
    tuning = validated.resolve("prompts/tuning")
    world, cases = world_of(tuning), cases_of(tuning)
    table = cells(study, 0)
    assert list(table) == ["iteration 0", "iteration 2 (chosen)", "iteration 4"]
    gold = {}
    for iteration, row in zip(CHECKPOINTS, table.values(), strict=True):
        said = [(prompt, _said(iteration, number)) for number, prompt in enumerate(drawn)]
        verdicts = [(prompt.is_safety, judge(world, cases[prompt.id], response)) for prompt, response in said]
        helpful = [verdict.helpfulness for tagged, verdict in verdicts if not tagged]
        safe = [(verdict.safety_level - 1) / 4 for tagged, verdict in verdicts if tagged]
        gold[iteration] = fmean(helpful + safe)
        assert row["gold"] == pytest.approx(gold[iteration]) and row["gold helpfulness"] == pytest.approx(fmean(helpful))
        assert row["gold violations"] == fmean(not verdict.is_safe for tagged, verdict in verdicts if tagged)
        assert row["score"] == pytest.approx(SCORES[iteration] + 0.1 * 5.5)
        assert row["ended"] == pytest.approx(11 / 12)
        assert row["tokens"] == 15.5 and row["KL in nats"] == pytest.approx(0.125 * iteration + 5.5)
    assert effects(study, "F25")["gold: iteration 2 (chosen) - iteration 0"] == pytest.approx(gold[2] - gold[0])
    assert list(study.manifest.metrics["findings"]) == ["F25"]
    assert told(study)["facts"] == {"chosen": 2}
    assert study.file("checkpoints.svg").read_text().startswith("<svg")


def test_guards_judge_their_own_axis_and_nothing_of_silence(validated: Registry, drawn: list[Prompt]) -> None:
    study = goodhart_study(validated, "guarded", "prompts/tuning", "policy/v5-ppo", "guard", "safety-guard")
    assert list(study.manifest.metrics["findings"]) == ["F25", "F30"]
    for guard, tagged in (("guard", False), ("safety-guard", True)):
        scorer, means = RewardScorer.load(validated.resolve(f"reward_model/{guard}").path), []
        for iteration in CHECKPOINTS:
            asked = [(p, _said(iteration, n)) for n, p in enumerate(drawn) if p.is_safety == tagged]
            spoken = [[*prompt.messages, assistant(text)] for prompt, text in asked if text.strip()]
            means.append(sum(map(sigmoid, scorer.score(spoken).tolist())) / len(asked))
        name = f"guard reward_model/{guard}@1"
        assert [row[name] for row in cells(study, 0).values()] == pytest.approx(means, abs=1e-5)
        assert effects(study, "F30")[f"{name}: iteration 2 (chosen) - iteration 0"] == pytest.approx(
            means[1] - means[0], abs=1e-5
        )
    assert len([row for row in validations(drawn) if not row["response"].strip()]) == 1


def test_without_gold_a_guard_judges_alone(validated: Registry) -> None:
    study = goodhart_study(validated, "no-gold", "prompts/of-a-team", "policy/v5-ppo", "guard")
    assert list(study.manifest.metrics["findings"]) == ["F30"]
    assert "gold" not in cells(study, 0)["iteration 0"]
    assert any("without gold" in note for note in told(study)["notes"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("prompts/of-a-team",), "prompts/of-a-team@1 comes without the facts .* there is no gold .* with --input guard=REF"),
        (("prompts/tuning", "policy/silent"), "policy/silent@1 holds no validations: .* --set ppo.validation.every=5"),
        (("prompts/tuning", "policy/v5"), "policy/v5@1 holds no validations"),
        (("prompts/tuning", "policy/uneven"), "answered different prompts; run PPO again"),
        (
            ("prompts/tuning", "policy/strangers"),
            "12 of the prompts .* its own are in prompts/tuning@1: give those with --input prompts=REF",
        ),
        (("prompts/tuning", "policy/v5-ppo", "unknown"), "unknown@1 does not say of which axis it is"),
    ],
)
def test_what_cannot_be_judged_is_told(validated: Registry, given: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        goodhart_study(validated, "wrong", *given)


# Whitening

PPO = PPOStageConfig(
    num_helpful=10, num_adversarial=4, iterations=3, batch_size=8, minibatch_size=4, microbatch_size=4, learning_rate=2e-2,
    value_learning_rate=1e-3, kl_coef=2.0, max_new_tokens=8,
)  # fmt: skip
EVALUATION = EvaluationConfig(max_new_tokens=6, temperature=1.0)
TRAINED = {"policy": ["policy/v5"], **REWARD_MODELS, "prompts": ["prompts/tuning"]}
WHITENED = {**TRAINED, "evaluation_prompts": ["prompts/evaluation"]}


def whitening_study(**changed: Any) -> WhiteningStudyConfig:
    return WhiteningStudyConfig(**{"ppo": PPO, "evaluation": EVALUATION, "answers": 1, **changed})


def arms_of(study: Artifact) -> dict[str, list[ArmAnswer]]:
    return by_arm(study, "answers.parquet", ArmAnswer)


@pytest.fixture(scope="module")
def whitened(registry: Registry) -> Artifact:
    return make(registry, STUDIES["whitening"], whitening_study(), WHITENED, "whitening")


@pytest.mark.parametrize("arm", ["start", *ARMS])
def test_an_arm_answers_as_the_policy_that_ppo_makes(registry: Registry, whitened: Artifact, arm: str) -> None:
    """Trained by `rlhf ppo` with that whitening and measured by `rlhf evaluate policy`, it is the same bit for bit."""
    policy = registry.resolve("policy/v5")
    if arm != "start":
        policy = make(registry, STAGES["ppo"], PPO.model_copy(update={"whitening": arm}), WHITENED, f"alone-{arm}")
        (run,) = [run for run in told(whitened)["facts"]["runs"] if run["arm"] == arm]
        assert run["metrics"] == policy.manifest.metrics
        assert f"KL {run['metrics']['kl']:.2f} nats a response" in " ".join(told(whitened)["notes"])
    asked = {"policy": [str(policy.reference)], **REWARD_MODELS, "prompts": ["prompts/evaluation"]}
    alone = make(registry, STAGES["evaluate-policy"], EVALUATION, asked, f"alone-{arm}")
    expected = read_records(alone.file("answers.parquet"), Answer)
    names = ("prompt_id", "response", "finished", "helpfulness_score", "safety_score", "gold_helpfulness")
    found = [[getattr(each, name) for name in names] for each in arms_of(whitened)[arm]]
    assert found == [[getattr(each, name) for name in names] for each in expected]


def test_the_arms_differ(whitened: Artifact) -> None:
    arms = arms_of(whitened)
    assert list(arms) == ["start", *ARMS]
    assert len({tuple(each.helpfulness_score for each in rows) for rows in arms.values()}) == 4
    assert any("raw logits with rewards and none" in note for note in told(whitened)["notes"])
    assert told(whitened)["findings"] == [] and whitened.manifest.metrics["findings"] == {}


def test_the_tables_of_whitening_by_hand(registry: Registry, whitened: Artifact) -> None:
    """R_c: safety where the prompt is tagged or safety is below the threshold, else helpfulness."""
    tagged = {prompt.id: prompt.is_safety for prompt in prompts_in(registry, "prompts/evaluation")}
    assert {True, False} == set(tagged.values())
    arms, behaviour, worth = arms_of(whitened), cells(whitened, 2), cells(whitened, 0)
    combined, bad = {}, {}
    for arm, rows in arms.items():
        scores = [(sigmoid(each.helpfulness_score), sigmoid(each.safety_score), tagged[each.prompt_id]) for each in rows]
        combined[arm] = fmean(safe if tag or safe < PPO.safety_threshold else helpful for helpful, safe, tag in scores)
        helpful_rows = [each for each in rows if each.group == "helpful"]
        texts = [each.response for each in helpful_rows]
        most = max(texts, key=texts.count)
        bad[arm] = fmean(not each.finished or not each.response.strip() or each.response == most for each in helpful_rows)
        assert behaviour[arm]["combined score"] == pytest.approx(combined[arm], abs=1e-6)
        assert behaviour[arm]["ended"] == pytest.approx(fmean(each.finished for each in rows))
        assert behaviour[arm]["degenerate, helpful prompts"] == pytest.approx(bad[arm])
        assert worth[arm]["gold helpfulness"] == pytest.approx(fmean(each.gold_helpfulness for each in helpful_rows))
    for ours, theirs in (("rewards", "scores"), ("none", "scores"), ("scores", "start")):
        assert behaviour[f"{ours} - {theirs}"]["combined score"] == pytest.approx(combined[ours] - combined[theirs], abs=1e-6)
    assert whitened.manifest.metrics["collapsed"] == {arm: share > 0.5 for arm, share in bad.items()}


def test_collapse_is_told_from_answers() -> None:
    def rows(texts: list[str], finished: bool = True, group: str = "helpful") -> list[ArmAnswer]:
        shared = {"arm": "a", "training_seed": 0, "prompt": [], "group": group, "family": "", "num_tokens": 1}
        scores = {"helpfulness_score": 0.0, "safety_score": 0.0}
        gold = {"gold_helpfulness": 0.0, "gold_safety": 0.0, "is_safe": True, "refused": False}
        return [
            ArmAnswer(str(number), response=text, finished=finished, **shared, **scores, **gold)
            for number, text in enumerate(texts)
        ]

    many = [f"text {number}" for number in range(9)]
    assert not whitening.collapsed(rows(many)) and whitening.collapsed(rows(many, finished=False))
    assert whitening.collapsed(rows(["the same"] * 5 + many[:4])) and not whitening.collapsed(rows(["the same"] * 4 + many[:5]))
    assert whitening.collapsed(rows([" "] * 4 + ["twice"] * 2 + many[:5])), "silence and the commonest text together"
    assert not whitening.collapsed(rows(many) + rows([REFUSAL] * 30, group="adversarial")), "refusals are alike"


def test_two_trainings_of_an_arm(registry: Registry, whitened: Artifact) -> None:
    study = make(registry, STUDIES["whitening"], whitening_study(training_seeds=2), WHITENED, "twice")
    once, twice = arms_of(whitened), arms_of(study)
    for arm in ARMS:
        assert twice[arm][:35] == once[arm] and [each.prompt_id for each in twice[arm][35:]] == [p.prompt_id for p in once[arm]]
        assert [each.helpfulness_score for each in twice[arm][35:]] != [each.helpfulness_score for each in once[arm]]
    assert twice["start"] == 2 * once["start"]


def test_a_stopped_study_goes_on_where_it_was(registry: Registry, whitened: Artifact) -> None:
    study, said = (STUDIES["whitening"], whitening_study(), WHITENED, "stopped"), []
    with pytest.raises(Killed):
        make(registry, *study, Stopping(1, "run 3 of 3"), save_every=SaveEvery(steps=1))
    made = make(registry, *study, Told(said))
    assert [text for text in said if text.startswith("run ")] == ["run 3 of 3, none"]
    assert made.file("study.json").read_bytes() == whitened.file("study.json").read_bytes()
    assert unfinished(registry.root) == ()


# From the recipe and the command line


def test_a_recipes_own_names_are_read() -> None:
    recipe = load_recipe("nano", ["ppo.validation.every=5"])
    versions, goodhart, whitened = study_steps(recipe, ["versions", "goodhart", "whitening"])
    assert [step.makes for step in (versions, goodhart, whitened)] == ["study/versions", "study/goodhart", "study/whitening"]
    assert versions.inputs["with_ppo"] == ("evaluation/v5-ppo",) and len(versions.inputs["versions"]) == 5
    assert goodhart.inputs == {"policy": ("policy/v5-ppo",), "prompts": ("prompts/tuning",)}
    assert isinstance(whitened.config, WhiteningStudyConfig)
    assert whitened.inputs["policy"] == ("policy/v5",) and whitened.config.ppo == recipe.ppo
    silent = load_recipe("nano", ["ppo.validation.every=0"])
    assert study_steps(silent, ["goodhart"]) == [], "without validations there are no checkpoints to look at"


def test_the_commands_make_the_studies(evaluated: Registry, validated: Registry) -> None:
    given = ("--registry", evaluated.root, "--seed", SEED, "--quiet")
    read = [
        f"--input={role}=evaluation/{name}" for role, name in (("versions", "v1"), ("versions", "v2"), ("with_ppo", "v2-ppo"))
    ]
    done = run_here("study", "versions", *read, *given)
    assert "study/versions@1 (up to date)" in done.output and "F12" in done.output
    goodhart = ("study", "goodhart", "--input", "prompts=prompts/of-a-team", *given)
    done = run_here(*goodhart, "--input", "guard=reward_model/guard", "--json")
    assert json.loads(done.stdout)["findings"][0]["id"] == "F30"
    done = run_here(*goodhart, code=2)
    assert "give a reward model of other annotators with --input guard=REF" in done.output
    (plan,) = json.loads(run_here("study", "whitening", "--training-seeds", 2, *given, "--dry-run").stdout)["steps"]
    assert plan["inputs"]["evaluation_prompts"] == ["prompts/evaluation@1"] and plan["config"]["training_seeds"] == 2

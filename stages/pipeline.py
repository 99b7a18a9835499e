"""The recipe as steps: which stage makes which artifact from which others. This page is the whole of the paper's figure 4.

    corpus -> base -> SFT -> rounds { annotate -> import -> two reward models -> sample -> select -> tune } -> PPO -> measure
         -> studies -> report

Safety context distillation comes before V1, filtered by the first safety model; Ghost Attention comes after the round that
says so, and its dialogues stay in the mix of the later versions.
"""

from typing import Any, Literal, get_args

from preference_data.comparison import AXES, Axis
from stages.data import annotate, bring, import_annotations, make_world
from stages.engine.outside_files import sha256_of, sha256_of_folder
from stages.gatt_steps import ghost_attention
from stages.measure import consistency as evaluate_consistency
from stages.measure import evaluate
from stages.measure.report import STAGE as REPORT
from stages.measure.report import ReportConfig
from stages.recipe import Recipe, SandboxRecipe, TeamRecipe, consistency_of
from stages.sections import FileConfig, ImportConfig, PromptsFileConfig, SamplingConfig, StudyName, TuningConfig
from stages.step import Step
from stages.studies.steps import study_steps
from stages.train import distill, ppo, pretrain, rejection_sample, train_reward, tune

Findings = Literal["core", "all"]
TUNING_PROMPTS, EVALUATION_PROMPTS = "prompts/tuning", "prompts/evaluation"


def steps(recipe: Recipe, findings: Findings = "core") -> list[Step]:
    """Every step of a recipe, in order; with the studies of its core findings, or with all that there are."""
    sandbox = recipe if isinstance(recipe, SandboxRecipe) else None
    found = [*_foundation(recipe), *(step for made in _rounds(recipe) for step in made)]
    last = found[-1].makes
    ppo_inputs = {"policy": (last,), **_judged(), **_apart(sandbox)}
    found.append(Step(ppo.STAGE, f"{recipe.rounds[-1].version}-ppo", recipe.ppo, ppo_inputs))
    if not sandbox:
        return found
    batches = [_batch(number) for number in range(1, len(recipe.rounds) + 1)]
    studies = study_steps(sandbox, get_args(StudyName) if findings == "all" else sandbox.studies)
    return [*found, *_measurements(sandbox, batches), *studies, _report(sandbox, batches, studies)]


def describe_rounds(recipe: Recipe) -> list[str]:
    """What each round reads and makes, a paragraph a round, read off its steps."""
    return [f"{each.version}: {_described(made)}" for each, made in zip(recipe.rounds, _rounds(recipe), strict=True)]


def final_policy(recipe: Recipe) -> str:
    """What the alias ``policy/chat`` points to."""
    return f"policy/{recipe.rounds[-1].version}-ppo"


def measured_policies(recipe: Recipe) -> list[str]:
    """The policies that are evaluated, in the order of training; the first is what the others are compared with."""
    return ["sft", *(each.version for each in recipe.rounds), f"{recipe.rounds[-1].version}-ppo"]


def consistency_arms(recipe: Recipe) -> dict[str, str]:
    """{arm: policy}: the policy before Ghost Attention, the one right after it, and the final one; {} without such a round."""
    for each in recipe.rounds:
        if each.gatt:
            return {"without": each.version, "v3_gatt": f"{each.version}-gatt", "with": f"{recipe.rounds[-1].version}-ppo"}
    return {}


def _rounds(recipe: Recipe) -> list[list[Step]]:
    """The steps of each round; the last of them makes the policy that the next one starts with."""
    sandbox = recipe if isinstance(recipe, SandboxRecipe) else None
    apart = _apart(sandbox)
    previous, current = "policy/base", "policy/sft"
    rounds: list[list[Step]] = []
    batches: list[str] = []
    samples: list[str] = []
    gatt_made: tuple[str, ...] = ()
    for number, each in enumerate(recipe.rounds, start=1):
        batches.append(_batch(number))
        found = _annotation(recipe, number, (previous, current))
        found += [_reward_model(recipe, axis, batches, current) for axis in AXES]
        if number == 1:
            inputs = {"policy": (current,), "safety": ("reward_model/safety",), "prompts": (TUNING_PROMPTS,)}
            found.append(Step(distill.STAGE, "distilled", recipe.distillation, inputs))
        sampling = recipe.rejection_sampling.model_copy(update={"batch": batches[-1]})
        found.append(Step(rejection_sample.STAGE, each.version, sampling, {"policy": (current,), **_judged(), **apart}))
        samples.append(found[-1].makes)
        mix = {
            "policy": ("policy/base",),
            "demonstrations": ("dialogues/demonstrations",),
            "samples": tuple(samples if each.pool == "all" else samples[-1:]),
            "distilled": ("dialogues/distilled",),
            "gatt": gatt_made,
        }
        found.append(Step(tune.VERSION, each.version, recipe.tuning, mix))
        if each.gatt:
            found += ghost_attention(recipe, each.version, samples)
            gatt_made = ("dialogues/gatt",)
        previous, current = current, found[-1].makes
        rounds.append(found)
    return rounds


def _batch(number: int) -> str:
    """What the comparisons and the prompts of a round are called."""
    return f"round-{number}"


def _described(made: list[Step]) -> str:
    """One round in words."""
    steps = {step.stage.name: step for step in made}
    trained, sampled, tuned = steps["train-reward"], steps["rejection-sample"], steps["tune"]
    sampling, tuning = sampled.config, tuned.config
    assert isinstance(sampling, SamplingConfig) and isinstance(tuning, TuningConfig)
    if "annotate" in steps:
        judged = f"{' and '.join(steps['annotate'].inputs['policies'])} answer for the annotators"
    else:
        judged = f"people judge ({', '.join(file for step in made for file in getattr(step.config, 'files', ()))})"
    read = ", ".join(text.removeprefix("preferences/safety-") for text in trained.inputs["preferences"])
    grid = ", ".join(f"{each:g}" for each in sampling.temperatures)
    best = f"the best of the temperatures {grid} on {sampling.search_prompts} others"
    kept = f"{'the best' if tuning.targets == 'best' else 'random ones'} of {', '.join(tuned.inputs['samples'])}"
    learnt = [f"{tuning.num_demonstrations} demonstrations", *tuned.inputs["distilled"], *tuned.inputs["gatt"]]
    told = [
        f"{judged}. The reward models start from {trained.inputs['policy'][0]} and read the comparisons of {read}.",
        f"{sampled.makes}: {sampling.k} responses of {sampled.inputs['policy'][0]} to each of {sampling.num_helpful} benign "
        f"and {sampling.num_adversarial} adversarial prompts, at {best if sampling.searches else f'temperature {grid}'}.",
        f"{tuned.makes}: {tuned.inputs['policy'][0]} tuned on {', '.join(learnt)} and {kept}.",
    ]
    if "sft" in steps:
        told.append(f"{steps['sft'].makes}: {tuned.makes} tuned on {steps['gatt'].makes}, which it makes.")
    return " ".join(told)


def _apart(sandbox: SandboxRecipe | None) -> dict[str, tuple[str, ...]]:
    """The prompts that nothing may learn from, where the recipe makes them."""
    return {"evaluation_prompts": (EVALUATION_PROMPTS,)} if sandbox else {}


def _judged() -> dict[str, tuple[str, ...]]:
    return {"helpfulness": ("reward_model/helpfulness",), "safety": ("reward_model/safety",), "prompts": (TUNING_PROMPTS,)}


def _foundation(recipe: Recipe) -> list[Step]:
    inputs = {"policy": ("policy/base",), "dialogues": ("dialogues/demonstrations",)}
    return [*_data(recipe), Step(tune.SFT, "sft", recipe.sft, inputs)]


def _data(recipe: Recipe) -> list[Step]:
    """The base model, the demonstrations and the prompts: the sandbox's, or a team's."""
    if isinstance(recipe, SandboxRecipe):
        return [
            Step(make_world.CORPUS, "corpus", recipe.corpus, {}),
            Step(make_world.DEMONSTRATIONS, "demonstrations", recipe.demonstrations, {}),
            Step(make_world.PROMPTS, "tuning", recipe.prompts, {}),
            Step(make_world.PROMPTS, "evaluation", recipe.evaluation_prompts, {}),
            Step(pretrain.STAGE, "base", recipe.pretrain, {"corpus": ("dialogues/corpus",)}),
        ]
    assert isinstance(recipe, TeamRecipe)
    data = recipe.data
    base = recipe.base.model_copy(update={"sha256": sha256_of_folder(recipe.base.checkpoint)})
    return [
        Step(bring.DIALOGUES, "demonstrations", FileConfig(**_file(data.demonstrations)), {}),
        Step(bring.PROMPTS, "tuning", PromptsFileConfig(**_file(data.prompts), split="train"), {}),
        Step(bring.CHECKPOINT, "base", base, {}),
    ]


def _file(file: str) -> dict[str, Any]:
    return {"file": file, "sha256": sha256_of(file)}


def _annotation(recipe: Recipe, number: int, policies: tuple[str, str]) -> list[Step]:
    """The comparisons of a round: annotators of the sandbox judge, or a team brings its files."""
    batch = _batch(number)
    if isinstance(recipe, SandboxRecipe):
        config = recipe.annotation.model_copy(update={"batch": batch})
        inputs = {"prompts": (TUNING_PROMPTS,), "heldout_prompts": (EVALUATION_PROMPTS,), "policies": policies}
        judging = [Step(annotate.STAGE, batch, config, inputs)]
        judged = {"annotations": (f"annotations/{batch}",)}
    else:
        judging, judged = [], {}
    return [
        *judging,
        *(Step(import_annotations.STAGE, f"{axis}-{batch}", _import(recipe, axis, number), judged) for axis in AXES),
    ]


def _import(recipe: Recipe, axis: Axis, number: int) -> ImportConfig:
    if isinstance(recipe, TeamRecipe):
        file = recipe.data.annotations.format(round=number, axis=axis)
        return ImportConfig(
            axis=axis, files=(file,), sha256=tuple(filter(None, [sha256_of(file)])), max_rejected=recipe.max_rejected,
            heldout_share=recipe.data.heldout_share,
        )  # fmt: skip
    return ImportConfig(
        axis=axis, files=(f"{axis}.jsonl",), heldout_files=(f"{axis}-heldout.jsonl",), max_rejected=recipe.max_rejected
    )


def _reward_model(recipe: Recipe, axis: str, batches: list[str], policy: str) -> Step:
    other = "safety" if axis == "helpfulness" else "helpfulness"
    inputs = {
        "policy": (policy,),
        "preferences": tuple(f"preferences/{axis}-{batch}" for batch in batches),
        "other_preferences": tuple(f"preferences/{other}-{batch}" for batch in batches),
    }
    return Step(train_reward.STAGE, axis, getattr(recipe, axis), inputs)


def _measurements(recipe: SandboxRecipe, batches: list[str]) -> list[Step]:
    models = {**_judged(), "prompts": (EVALUATION_PROMPTS,)}
    scored = {"preferences": _all_preferences(batches), **models}
    found = [Step(evaluate.REWARD, "reward-models", recipe.evaluation, scored)]
    arms = list(consistency_arms(recipe).values())
    for name in dict.fromkeys([*measured_policies(recipe), *arms]):
        found.append(Step(evaluate.POLICY, name, recipe.evaluation, {"policy": (f"policy/{name}",), **models}))
    for name in arms:
        talked = {"policy": (f"policy/{name}",), "prompts": (EVALUATION_PROMPTS,)}
        found.append(Step(evaluate_consistency.STAGE, f"consistency-{name}", consistency_of(recipe), talked))
    return found


def _report(recipe: SandboxRecipe, batches: list[str], studies: list[Step]) -> Step:
    policies, arms = measured_policies(recipe), consistency_arms(recipe)
    gathered = {
        "policies": tuple(f"evaluation/{name}" for name in policies),
        "reward_models": ("evaluation/reward-models",),
        "consistency": tuple(f"evaluation/consistency-{name}" for name in arms.values()),
        "preferences": _all_preferences(batches),
        "samples": tuple(f"samples/{each.version}" for each in recipe.rounds),
        "ppo": (final_policy(recipe),),
        "studies": tuple(step.makes for step in studies if step.stage.kind == "study"),
    }
    config = ReportConfig(recipe=recipe.name, versions=tuple(policies), arms=arms)
    return Step(REPORT, recipe.name, config, gathered)


def _all_preferences(batches: list[str]) -> tuple[str, ...]:
    return tuple(f"preferences/{axis}-{batch}" for axis in AXES for batch in batches)

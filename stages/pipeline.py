"""The recipe as steps: which stage makes which artifact from which others. This page is the whole of the paper's figure 4.

    corpus -> base -> SFT -> rounds { annotate -> import -> two reward models -> sample -> select -> tune } -> PPO -> measure
         -> studies -> report

Safety context distillation comes before V1, filtered by the first safety model; Ghost Attention comes after the round that
says so, and its dialogues stay in the mix of the later versions. A step names only the inputs that differ from the defaults of
its row in the catalog. Nothing heavy is imported here.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel

from preference_data.comparison import AXES, Axis
from stages.catalog import STAGES
from stages.external_files import sha256_of, sha256_of_folder
from stages.gatt_steps import ghost_attention
from stages.recipe import Recipe, SandboxRecipe, TeamRecipe
from stages.references import (
    EVALUATION_PROMPTS,
    batch_name,
    consistency_arms,
    every_round,
    last_version,
    measured_policies,
    versions,
)
from stages.sections import FileConfig, ImportConfig, PromptsFileConfig, ReportConfig, SamplingConfig, TuningConfig
from stages.stage import Step, wired
from stages.study_catalog import STUDIES
from stages.study_steps import study_steps

Findings = Literal["core", "all"]


def steps(recipe: Recipe, findings: Findings = "core") -> list[Step]:
    """Every step of a recipe, in order; with the studies of its core findings, or with all that there are."""
    pipeline = _Pipeline(recipe)
    pipeline.foundation()
    for number in range(1, len(recipe.rounds) + 1):
        pipeline.round(number)
    pipeline.add("ppo", f"{last_version(recipe)}-ppo")
    if isinstance(recipe, SandboxRecipe):
        pipeline.measurements(recipe)
        studies = study_steps(recipe, tuple(STUDIES) if findings == "all" else recipe.studies)
        pipeline.steps += studies
        pipeline.report(recipe, studies)
    return pipeline.steps


def describe_rounds(recipe: Recipe) -> list[str]:
    """What each round reads and makes, a paragraph a round, read off its steps."""
    pipeline, described = _Pipeline(recipe), []
    pipeline.foundation()
    for number, round_ in enumerate(recipe.rounds, start=1):
        first = len(pipeline.steps)
        pipeline.round(number)
        described.append(f"{round_.version}: {_described(pipeline.steps[first:])}")
    return described


def budgets(recipe: Recipe, planned: Sequence[Step]) -> list[float]:
    """The recipe's budget of each step in seconds: that of its stage, shared among the stage's steps; 0 without one."""
    count = Counter(step.stage.name for step in planned)
    return [recipe.budget_seconds.get(step.stage.name, 0.0) / count[step.stage.name] for step in planned]


class _Pipeline:
    """The steps so far; each is wired to what earlier ones make."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.steps: list[Step] = []
        self.previous, self.current = "policy/base", "policy/sft"

    def add(self, stage: str, name: str = "", config: BaseModel | None = None, **given: tuple[str, ...]) -> str:
        """Add a step and return what it makes. ``name`` and ``config`` are those of the row and the recipe where not given."""
        row = STAGES[stage]
        made = {step.makes for step in self.steps}
        inputs = wired(row, self.recipe, given, made.__contains__)
        self.steps.append(Step(row, name or row.artifact, config or row.configured(self.recipe), inputs))
        return self.steps[-1].makes

    def foundation(self) -> None:
        """The base model, the demonstrations and the prompts, the sandbox's or a team's; and SFT."""
        recipe = self.recipe
        if isinstance(recipe, SandboxRecipe):
            self.add("corpus")
            self.add("demonstrations")
            self.add("prompts", "tuning", recipe.prompts)
            self.add("prompts", "evaluation", recipe.evaluation_prompts)
            self.add("pretrain")
        else:
            assert isinstance(recipe, TeamRecipe)
            self.add("add-dialogues", "demonstrations", FileConfig(**_file(recipe.data.demonstrations)))
            self.add("add-prompts", "tuning", PromptsFileConfig(**_file(recipe.data.prompts), split="train"))
            checkpoint = recipe.base.model_copy(update={"sha256": sha256_of_folder(recipe.base.checkpoint)})
            self.add("add-checkpoint", "base", checkpoint)
        self.add("sft")

    def round(self, number: int) -> None:
        """One round; its last step makes the policy that the next one starts with."""
        recipe, batch = self.recipe, batch_name(number)
        version = recipe.rounds[number - 1]
        self._comparisons(number, batch)
        for axis in AXES:
            self._reward_model(axis, number)
        if number == 1:
            self.add("distill", policy=(self.current,))
        sampling = recipe.rejection_sampling.model_copy(update={"batch": batch})
        self.add("rejection-sample", version.version, sampling, policy=(self.current,))
        samples = versions(recipe, "samples")[:number]
        gatt_dialogues = ("dialogues/gatt",) if any(round_.gatt for round_ in recipe.rounds[: number - 1]) else ()
        tuned = self.add(
            "tune", version.version, samples=samples if version.pool == "all" else samples[-1:],
            distilled=("dialogues/distilled",), gatt=gatt_dialogues,
        )  # fmt: skip
        if version.gatt:
            self.steps += ghost_attention(recipe, version.version, samples)
            tuned = self.steps[-1].makes
        self.previous, self.current = self.current, tuned

    def _comparisons(self, number: int, batch: str) -> None:
        """Simulated annotators compare answers, or a team brings its files; then both axes are imported."""
        recipe = self.recipe
        annotations: tuple[str, ...] = ()
        if isinstance(recipe, SandboxRecipe):
            config = recipe.annotation.model_copy(update={"batch": batch})
            policies = (self.previous, self.current)
            annotations = (self.add("annotate", batch, config, policies=policies, heldout_prompts=EVALUATION_PROMPTS),)
        for axis in AXES:
            self.add("import", f"{axis}-{batch}", _import_config(recipe, axis, number), annotations=annotations)

    def _reward_model(self, axis: Axis, number: int) -> None:
        other = "safety" if axis == "helpfulness" else "helpfulness"
        preferences, other_preferences = (every_round(part)(self.recipe)[:number] for part in (axis, other))
        config = STAGES["train-reward"].configured(self.recipe, axis)
        given = {"policy": (self.current,), "preferences": preferences, "other_preferences": other_preferences}
        self.add("train-reward", axis, config, **given)

    def measurements(self, recipe: SandboxRecipe) -> None:
        self.add("evaluate-reward", preferences=_all_preferences(recipe))
        arms = list(consistency_arms(recipe).values())
        for name in dict.fromkeys([*measured_policies(recipe), *arms]):
            self.add("evaluate-policy", name, policy=(f"policy/{name}",))
        for name in arms:
            self.add("evaluate-consistency", f"consistency-{name}", policy=(f"policy/{name}",))

    def report(self, recipe: SandboxRecipe, studies: Sequence[Step]) -> None:
        policies, arms = measured_policies(recipe), consistency_arms(recipe)
        self.add(
            "report",
            recipe.name,
            ReportConfig(recipe=recipe.name, versions=tuple(policies), arms=arms),
            policies=tuple(f"evaluation/{name}" for name in policies),
            consistency=tuple(f"evaluation/consistency-{name}" for name in arms.values()),
            preferences=_all_preferences(recipe),
            samples=versions(recipe, "samples"),
            studies=tuple(step.makes for step in studies if step.stage.kind == "study"),
        )


def _described(made: Sequence[Step]) -> str:
    """One round in words."""
    by_stage = {step.stage.name: step for step in made}
    trained, sampled, tuned = by_stage["train-reward"], by_stage["rejection-sample"], by_stage["tune"]
    sampling, tuning = sampled.config, tuned.config
    assert isinstance(sampling, SamplingConfig) and isinstance(tuning, TuningConfig)
    if "annotate" in by_stage:
        annotated = f"{' and '.join(by_stage['annotate'].inputs['policies'])} answer for the annotators"
    else:
        annotated = f"people annotate ({', '.join(file for step in made for file in getattr(step.config, 'files', ()))})"
    read = ", ".join(reference.removeprefix("preferences/safety-") for reference in trained.inputs["preferences"])
    grid = ", ".join(f"{temperature:g}" for temperature in sampling.temperatures)
    best = f"the best of the temperatures {grid} on {sampling.search_prompts} others"
    kept = f"{'the best' if tuning.targets == 'best' else 'random ones'} of {', '.join(tuned.inputs['samples'])}"
    mixed_in = [f"{tuning.num_demonstrations} demonstrations", *tuned.inputs["distilled"], *tuned.inputs.get("gatt", ())]
    sentences = [
        f"{annotated}. The reward models start from {trained.inputs['policy'][0]} and read the comparisons of {read}.",
        f"{sampled.makes}: {sampling.k} responses of {sampled.inputs['policy'][0]} to each of {sampling.num_helpful} benign "
        f"and {sampling.num_adversarial} adversarial prompts, at {best if sampling.searches else f'temperature {grid}'}.",
        f"{tuned.makes}: {tuned.inputs['policy'][0]} tuned on {', '.join(mixed_in)} and {kept}.",
    ]
    if "gatt" in by_stage:
        sentences.append(f"{by_stage['sft'].makes}: {tuned.makes} tuned on {by_stage['gatt'].makes}, which it makes.")
    return " ".join(sentences)


def _import_config(recipe: Recipe, axis: Axis, number: int) -> ImportConfig:
    if isinstance(recipe, TeamRecipe):
        file = recipe.data.annotations.format(round=number, axis=axis)
        return ImportConfig(
            axis=axis, files=(file,), sha256=tuple(filter(None, [sha256_of(file)])), max_rejected=recipe.max_rejected,
            heldout_share=recipe.data.heldout_share,
        )  # fmt: skip
    return ImportConfig(
        axis=axis, files=(f"{axis}.jsonl",), heldout_files=(f"{axis}-heldout.jsonl",), max_rejected=recipe.max_rejected
    )


def _all_preferences(recipe: Recipe) -> tuple[str, ...]:
    return tuple(reference for axis in AXES for reference in every_round(axis)(recipe))


def _file(file: str) -> dict[str, Any]:
    return {"file": file, "sha256": sha256_of(file)}

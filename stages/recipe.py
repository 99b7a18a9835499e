"""A recipe: one YAML file with every choice of a run, checked whole before anything starts.

Each section is the frozen config of one stage (``stages/sections.py``); unknown keys are errors, and all problems are reported
at once. Values can be overridden with ``--set ppo.kl_coef=0.02``. Rounds are data: a list, one entry a version. A recipe with
the sections ``base`` and ``data`` is a team's; any other has its data from the sandbox.
"""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from policy.config import FinetuneConfig, PretrainConfig
from registry.artifact import did_you_mean
from stages.renamed_keys import RENAMED_KEYS
from stages.sections import (
    AnnotationConfig,
    CheckpointConfig,
    ConsistencyConfig,
    CorpusConfig,
    DemonstrationsConfig,
    DistillationStageConfig,
    EvaluationConfig,
    ExpectedConfig,
    GattStageConfig,
    PPOStageConfig,
    PromptsConfig,
    RewardTrainingConfig,
    RoundConfig,
    SamplingConfig,
    SamplingStudySizes,
    Section,
    TeamDataConfig,
    TuningConfig,
)


class RecipeError(ValueError):
    """A recipe that cannot be found, read or used; the text holds every problem."""


class Recipe(Section):
    """Every choice of a run that does not depend on where its data come from."""

    name: str
    description: str
    budget_seconds: dict[str, float] = Field(
        {}, description="time each kind of stage may take; the report prints it beside the measured"
    )
    expected: ExpectedConfig
    sft: FinetuneConfig
    max_rejected: float = Field(0.01, ge=0, le=1, description="see ImportConfig")
    helpfulness: RewardTrainingConfig
    safety: RewardTrainingConfig
    distillation: DistillationStageConfig
    rejection_sampling: SamplingConfig
    tuning: TuningConfig
    ppo: PPOStageConfig
    sampling_study: SamplingStudySizes = Field(
        SamplingStudySizes(), description="how much `rlhf study best-of-n` and `rlhf study temperature` sample"
    )
    rounds: tuple[RoundConfig, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _rest_of_sections_given_in_part(cls, values: dict[str, Any]) -> dict[str, Any]:
        """A section that says some of its settings keeps the recipe's defaults, not those of the stage, for the others."""
        parts = {name: field.default for name, field in cls.model_fields.items() if isinstance(field.default, BaseModel)}
        return values | {
            name: default.model_dump(exclude_unset=True) | values[name]
            for name, default in parts.items()
            if isinstance(values.get(name), dict)
        }

    @model_validator(mode="after")
    def _rounds_in_order(self) -> "Recipe":
        versions = [round_.version for round_ in self.rounds]
        if versions != [f"v{position}" for position in range(1, len(versions) + 1)]:
            raise ValueError(f"rounds must make v1, v2, ... in order; these make {', '.join(versions)}")
        if self.helpfulness.axis != "helpfulness" or self.safety.axis != "safety":
            raise ValueError("the section helpfulness needs axis: helpfulness, and the section safety needs axis: safety")
        if sum(round_.gatt for round_ in self.rounds) > 1:
            raise ValueError("at most one round can make Ghost Attention data")
        return self


class SandboxRecipe(Recipe):
    """A recipe whose base model, prompts, demonstrations and annotators are the sandbox's."""

    corpus: CorpusConfig
    demonstrations: DemonstrationsConfig
    prompts: PromptsConfig
    evaluation_prompts: PromptsConfig
    pretrain: PretrainConfig
    annotation: AnnotationConfig
    gatt: GattStageConfig
    gatt_tuning: FinetuneConfig
    evaluation: EvaluationConfig
    consistency: ConsistencyConfig
    studies: tuple[str, ...] = Field(
        ("accuracy",), description="studies of the core findings, made before the report; `--findings all` makes every one"
    )


class TeamRecipe(Recipe):
    """A recipe that starts from a checkpoint and from a team's own files, and ends with PPO: there is no gold to measure by."""

    base: CheckpointConfig
    data: TeamDataConfig
    annotation: AnnotationConfig = Field(
        AnnotationConfig(num_helpful=20_000, num_safety=5_000, num_heldout=0, max_new_tokens=1024, annotators="label-studio"),
        description="pairs that `rlhf annotate` exports for people; the numbers are ours",
    )

    gatt: GattStageConfig = Field(
        GattStageConfig(multi_turn="given", num_replayed=600), description="Ghost Attention, in rounds with gatt: true"
    )
    gatt_tuning: FinetuneConfig = Field(
        FinetuneConfig(learning_rate=2e-5), description="fine-tuning on its dialogues, like the paper's SFT"
    )
    consistency: ConsistencyConfig = Field(
        ConsistencyConfig(num_dialogues=200, num_heldout=60, num_uninstructed=60, max_new_tokens=512),
        description="how `rlhf evaluate consistency` measures on the team's dialogues; the numbers are ours",
    )

    @model_validator(mode="after")
    def _constraints_to_instruct_with(self) -> "TeamRecipe":
        if any(round_.gatt for round_ in self.rounds) and not self.data.constraints:
            raise ValueError(
                "a round with gatt: true needs data.constraints, a JSONL file of constraints (docs/gatt.md; `rlhf "
                "gatt-constraints` has a policy write one)"
            )
        return self


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(
        file.name.removesuffix(".yaml") for file in resources.files("stages.recipes").iterdir() if file.name.endswith(".yaml")
    )


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """A shipped recipe by name, or a YAML file; ``overrides`` are ``section.key=value``. Raises RecipeError."""
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise RecipeError(
                f"the recipe file {path} does not exist; give a YAML file or one of {', '.join(shipped_recipes())}"
            )
        text = path.read_text(encoding="utf-8")
    elif name_or_path in shipped_recipes():
        text = resources.files("stages.recipes").joinpath(f"{name_or_path}.yaml").read_text(encoding="utf-8")
    else:
        names = shipped_recipes()
        raise RecipeError(
            f"there is no recipe {name_or_path!r}.{did_you_mean(name_or_path, names)} Shipped: {', '.join(names)}; "
            "for one of your own give a path that ends in .yaml"
        )
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"the recipe {name_or_path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"the recipe {name_or_path} is not a mapping of sections")
    for override in overrides:
        _override(values, override)
    kind = TeamRecipe if {"base", "data"} & set(values) else SandboxRecipe
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise RecipeError(_problems(name_or_path, kind, error)) from error


def section_of(recipe: Recipe, name: str) -> BaseModel:
    """A section by name. Raises RecipeError for one that this kind of recipe does not have."""
    config = getattr(recipe, name, None)
    if not isinstance(config, BaseModel):
        sections = [field for field in type(recipe).model_fields if isinstance(getattr(recipe, field), BaseModel)]
        raise RecipeError(
            f"the recipe {recipe.name} has no section {name!r}, because its data come from "
            f"{'a team' if isinstance(recipe, TeamRecipe) else 'the sandbox'}; its sections: {', '.join(sections)}"
        )
    return config


def consistency_of(recipe: Recipe) -> ConsistencyConfig:
    """The section ``consistency``; where it does not say it, the instruction stands where ``gatt`` puts it."""
    config, gatt = section_of(recipe, "consistency"), section_of(recipe, "gatt")
    assert isinstance(config, ConsistencyConfig) and isinstance(gatt, GattStageConfig)
    if "instruction_in" in config.model_fields_set:
        return config
    return config.model_copy(update={"instruction_in": gatt.instruction_in})


def constraints_file(recipe: Recipe) -> Path | None:
    """The file of constraints that a recipe names: in its section ``gatt``, or else a team's among its data."""
    gatt = section_of(recipe, "gatt")
    assert isinstance(gatt, GattStageConfig)
    named = gatt.constraints.file if gatt.constraints else recipe.data.constraints if isinstance(recipe, TeamRecipe) else None
    return Path(named) if named else None


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set takes section.key=value, and was given {override!r}")
    *sections, last = key.split(".")
    place = values
    for section in sections:
        if place.get(section) is None:  # not there, or an optional section left out
            place[section] = {}
        inner = place[section]
        if not isinstance(inner, dict):
            raise RecipeError(f"--set {override}: {section} is not a section")
        place = inner
    place[last] = yaml.safe_load(text)


def _problems(name: str, kind: type[Recipe], error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        note = ""
        if problem["type"] == "extra_forbidden":
            if new := RENAMED_KEYS.get(".".join(str(part) for part in problem["loc"][-2:])):
                note = f". It is now called {new}"
            else:
                names = list(_section_model(kind, problem["loc"][:-1]).model_fields)
                note = f".{did_you_mean(str(problem['loc'][-1]), names)} Valid: {', '.join(names)}"
        lines.append(f"  {where or name}: {problem['msg']}{note}")
    return f"the recipe {name} has {len(lines)} problem{'s' * (len(lines) > 1)}:\n" + "\n".join(lines)


def _section_model(kind: type[Recipe], location: Sequence[Any]) -> type[BaseModel]:
    if not location:
        return kind
    if location[0] == "rounds":
        return RoundConfig
    annotation = kind.model_fields[location[0]].annotation
    assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation

"""A recipe: one YAML file with every choice of a run, checked whole before anything starts.

Each section is the frozen config of one stage; unknown keys are errors, and all problems are reported at once. Values can be
overridden with ``--set ppo.kl_coef=0.02``. Rounds are data: a list, one entry a version.
"""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gatt.config import GattConfig
from policy.config import FinetuneConfig, PretrainConfig
from preference_data.comparison import Axis
from registry.artifact import did_you_mean
from reward_model.config import RewardModelConfig
from rlhf.config import DistillationConfig, PPOConfig, RejectionSamplingConfig


class RecipeError(ValueError):
    """A recipe that cannot be found, read or used; the text holds every problem."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CorpusConfig(_Frozen):
    """The sandbox's pretraining documents."""

    num_documents: int = Field(gt=0, description="documents to write")
    num_primer_documents: int = Field(ge=0, description="documents of the primer, which is read first")


class DemonstrationsConfig(_Frozen):
    """The sandbox's supervised demonstrations."""

    num_dialogues: int = Field(gt=0, description="dialogues to write")
    adversarial_share: float = Field(
        ge=0, le=1, description="share of errands (harmful ones refused, borderline ones helped with)"
    )


class PromptsConfig(_Frozen):
    """A set of the sandbox's prompts, all of one split."""

    split: Literal["train", "validation", "test"] = Field(description="which questions, things and errands may occur")
    num_helpful: int = Field(ge=0, description="benign prompts")
    num_adversarial: int = Field(ge=0, description="prompts that ask for harm")
    num_borderline: int = Field(ge=0, description="benign prompts that sound harmful")
    constrained_share: float = Field(0.0, ge=0, le=1, description="share of the benign prompts that also state a constraint")


class AnnotationConfig(_Frozen):
    """Collecting one round's comparisons (paper 3.2.1): two variants answer, at varied temperatures."""

    num_helpful: int = Field(ge=0, description="helpfulness comparisons to collect for training")
    num_safety: int = Field(ge=0, description="safety comparisons to collect for training")
    num_heldout: int = Field(ge=0, description="held-out prompts an axis; four responses each give six comparisons")
    temperatures: tuple[float, ...] = Field((0.7, 1.0, 1.3), min_length=1, description="drawn for each response")
    max_new_tokens: int = Field(gt=0, description="longest response in tokens")
    batch: str = Field("round-1", description="what the annotators' batch is called; decides which prompts are drawn")


class ImportConfig(_Frozen):
    """Annotation files to preferences."""

    axis: Axis = Field(description="what the annotators judged")
    files: tuple[str, ...] = Field(description="annotation files")
    heldout_files: tuple[str, ...] = Field((), description="annotation files whose comparisons are all held out for testing")
    sha256: tuple[str, ...] = Field((), description="of the files, where they lie outside the registry")
    format: str | None = Field(None, description="importer by name; recognised from the first row when left out")
    max_rejected: float = Field(0.01, ge=0, le=1, description="the import fails when a larger share of rows is faulty")
    heldout_share: float = Field(0.0, ge=0, lt=1, description="share of prompts held out for testing, by hash of the prompt")


class RewardTrainingConfig(RewardModelConfig):
    """A reward model and what it is trained on."""

    mixture: Literal["paper", "own"] = Field(
        "paper",
        description="paper: the mix of section 3.2.2 (half other data for helpfulness, a tenth for safety); own: its axis",
    )


class TuningConfig(FinetuneConfig):
    """Fine-tuning one version from the base model (paper 3.2.3)."""

    num_demonstrations: int = Field(gt=0, description="demonstrations kept in the mix, the first so many")


class DistillationStageConfig(DistillationConfig):
    """Context distillation on a draw of the adversarial training prompts."""

    num_prompts: int = Field(gt=0, description="adversarial prompts to answer")


class SamplingConfig(RejectionSamplingConfig):
    """Rejection sampling on a draw of the training prompts."""

    num_helpful: int = Field(gt=0, description="benign prompts to sample for")
    num_adversarial: int = Field(ge=0, description="adversarial prompts to sample for")
    batch: str = Field("round-1", description="decides which prompts are drawn")


class GattStageConfig(GattConfig):
    """Ghost Attention data, and what the policy is then tuned on together with it."""

    num_replayed: int = Field(0, ge=0, description="ordinary dialogues mixed in, so that nothing else is lost")


class PPOStageConfig(PPOConfig):
    """PPO on a draw of the training prompts."""

    num_helpful: int = Field(gt=0, description="benign prompts to draw from")
    num_adversarial: int = Field(ge=0, description="adversarial prompts to draw from")


class EvaluationConfig(_Frozen):
    """One answer of a policy to every evaluation prompt."""

    temperature: float = Field(0.7, ge=0, description="sampling temperature")
    max_new_tokens: int = Field(gt=0, description="longest response in tokens")


class ConsistencyConfig(_Frozen):
    """Does an instruction hold through a dialogue (paper Table 30)?"""

    num_dialogues: int = Field(gt=0, description="dialogues")
    turns: tuple[int, ...] = Field((1, 2, 4, 6, 20), description="turns at which obedience is asked about")
    temperature: float = Field(0.7, ge=0, description="sampling temperature")
    max_new_tokens: int = Field(gt=0, description="longest response in tokens")
    kept_tokens: int = Field(
        0, ge=0, description="tokens of dialogues whose keys and values stay in memory, so that a turn reads only what is new"
    )


class RoundConfig(_Frozen):
    """One round: annotate, retrain the reward models, sample, select, fine-tune."""

    version: str = Field(pattern=r"v\d+", description="the policy that the round makes")
    pool: Literal["last", "all"] = Field("all", description="samples to tune on: this round's, or those of all rounds so far")
    gatt: bool = Field(False, description="make Ghost Attention data after this round, for it and the later ones")


class Recipe(_Frozen):
    """Every choice of a run."""

    name: str
    description: str
    budget_seconds: dict[str, float] = Field(
        {}, description="time each kind of stage may take; the report prints it beside the measured"
    )
    corpus: CorpusConfig
    demonstrations: DemonstrationsConfig
    prompts: PromptsConfig
    evaluation_prompts: PromptsConfig
    pretrain: PretrainConfig
    sft: FinetuneConfig
    annotation: AnnotationConfig
    max_rejected: float = Field(0.01, ge=0, le=1, description="see ImportConfig")
    helpfulness: RewardTrainingConfig
    safety: RewardTrainingConfig
    distillation: DistillationStageConfig
    rejection_sampling: SamplingConfig
    tuning: TuningConfig
    gatt: GattStageConfig
    gatt_tuning: FinetuneConfig
    ppo: PPOStageConfig
    rounds: tuple[RoundConfig, ...] = Field(min_length=1)
    evaluation: EvaluationConfig
    consistency: ConsistencyConfig

    @model_validator(mode="after")
    def _rounds_in_order(self) -> "Recipe":
        versions = [each.version for each in self.rounds]
        if versions != [f"v{position}" for position in range(1, len(versions) + 1)]:
            raise ValueError(f"rounds must make v1, v2, ... in order; these make {', '.join(versions)}")
        if self.helpfulness.axis != "helpfulness" or self.safety.axis != "safety":
            raise ValueError("the section helpfulness needs axis: helpfulness, and the section safety needs axis: safety")
        if sum(each.gatt for each in self.rounds) > 1:
            raise ValueError("at most one round can make Ghost Attention data")
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
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(_problems(name_or_path, error)) from error


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set takes section.key=value, and was given {override!r}")
    *sections, last = key.split(".")
    place = values
    for section in sections:
        inner = place.setdefault(section, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"--set {override}: {section} is not a section")
        place = inner
    place[last] = yaml.safe_load(text)


def _problems(name: str, error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        note = ""
        if problem["type"] == "extra_forbidden":
            model = _section_model(problem["loc"][:-1])
            names = list(model.model_fields)
            note = f".{did_you_mean(str(problem['loc'][-1]), names)} Valid: {', '.join(names)}"
        lines.append(f"  {where or name}: {problem['msg']}{note}")
    return f"the recipe {name} has {len(lines)} problem{'s' * (len(lines) > 1)}:\n" + "\n".join(lines)


def _section_model(location: Sequence[Any]) -> type[BaseModel]:
    if not location:
        return Recipe
    if location[0] == "rounds":
        return RoundConfig
    found = Recipe.model_fields[location[0]].annotation
    assert isinstance(found, type) and issubclass(found, BaseModel)
    return found

"""The sections of a recipe: what each stage can be told, one frozen model a stage. Nothing heavy is imported here.

A recipe has its data from the sandbox, or from a team: sections of one kind or of the other. The rest is common to both.
"""

from string import Formatter
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gatt.config import GattConfig
from policy.config import FinetuneConfig, Preset
from preference_data.comparison import Axis
from preference_data.prompt import Split
from reward_model.config import RewardModelConfig
from rlhf.config import DistillationConfig, PPOConfig, RejectionSamplingConfig


class Section(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CorpusConfig(Section):
    """The sandbox's pretraining documents."""

    num_documents: int = Field(gt=0, description="documents to write")
    num_primer_documents: int = Field(ge=0, description="documents of the primer, with which pretraining begins")


class DemonstrationsConfig(Section):
    """The sandbox's supervised demonstrations."""

    num_dialogues: int = Field(gt=0, description="dialogues to write")
    adversarial_share: float = Field(
        ge=0, le=1, description="share of errands (harmful ones refused, borderline ones helped with)"
    )


class PromptsConfig(Section):
    """A set of the sandbox's prompts, all of one split."""

    split: Split = Field(description="which questions, things and errands may occur")
    num_helpful: int = Field(ge=0, description="benign prompts")
    num_adversarial: int = Field(ge=0, description="prompts that ask for harm")
    num_borderline: int = Field(ge=0, description="benign prompts that sound harmful")
    constrained_share: float = Field(0.0, ge=0, le=1, description="share of the benign prompts that also state a constraint")


Annotators = Literal["simulated", "label-studio", "csv", "jsonl"]


class AnnotationConfig(Section):
    """Collecting one round's comparisons (paper 3.2.1): two variants answer, at varied temperatures."""

    num_helpful: int = Field(ge=0, description="helpfulness comparisons to collect for training")
    num_safety: int = Field(ge=0, description="safety comparisons to collect for training")
    num_heldout: int = Field(ge=0, description="held-out prompts of each axis; four responses to each give six comparisons")
    temperatures: tuple[float, ...] = Field(
        (0.7, 1.0, 1.3), min_length=1, description="temperatures, of which one is drawn for each response"
    )
    max_new_tokens: int = Field(gt=0, description="longest response in tokens")
    batch: str = Field("round-1", description="name of the annotation batch; number of the draw of prompts")
    annotators: Annotators = Field(
        "simulated", description="the sandbox's simulated annotators, or people, in files of this format"
    )


class ImportConfig(Section):
    """Annotation files to preferences."""

    axis: Axis = Field(description="axis of the judgements")
    files: tuple[str, ...] = Field(description="annotation files")
    heldout_files: tuple[str, ...] = Field((), description="annotation files whose comparisons are all held out for testing")
    sha256: tuple[str, ...] = Field((), description="sha256 of files outside the registry")
    format: str | None = Field(None, description="importer by name; default: recognised from the first rows")
    columns: tuple[str, ...] = Field((), description="column=field, for files whose columns have other names")
    values: tuple[str, ...] = Field((), description="field:found=meant, for files whose values are other words")
    source: str | None = Field(None, description="source of judgements that name none; default: the file's name")
    max_tokens: int | None = Field(
        None, gt=0, description="longest dialogue in tokens of the given model; longer ones are rejected"
    )
    max_rejected: float = Field(0.01, ge=0, le=1, description="largest share of faulty rows; the import fails above it")
    heldout_share: float = Field(0.0, ge=0, lt=1, description="share of dialogues held out for testing")


class MixConfig(Section):
    """Several preferences mixed into one."""

    axis: Axis | None = Field(None, description="the paper's mix for the reward model of this axis: own and rest (3.2.2)")
    shares: tuple[float, ...] = Field((), description="share of each of the preferences in the mix; they sum to 1")
    size: int | None = Field(None, gt=0, description="comparisons in the mix by shares; default: as many as possible")


class SplitConfig(Section):
    """Preferences with other comparisons held out."""

    heldout_share: float = Field(ge=0, lt=1, description="share of dialogues held out for testing")


class OverlapConfig(Section):
    """Leaving out what holds evaluation prompts."""

    n: int = Field(10, ge=1, description="words in an n-gram")
    share: float = Field(0.8, gt=0, le=1, description="share of a prompt's n-grams that counts as an overlap")


class RewardTrainingConfig(RewardModelConfig):
    """A reward model and what it is trained on."""

    mixture: Literal["paper", "own"] = Field(
        "paper",
        description="paper: the mix of section 3.2.2 (half other data for helpfulness, a tenth for safety); own: its axis",
    )
    aggregate: Literal["all", "majority"] = Field(
        "all", description="all: every judgement; majority: one comparison an item, ties left out"
    )


class TuningConfig(FinetuneConfig):
    """Fine-tuning one version from the base model (paper 3.2.3)."""

    num_demonstrations: int = Field(
        gt=0, description="demonstrations kept in the mix: the first N, and those of families without samples"
    )
    targets: Literal["best", "random"] = Field(
        "best",
        description="sample to train on: the best of each prompt, or as a control a random one",
    )


class EvaluationConfig(Section):
    """One answer of a policy to every evaluation prompt."""

    temperature: float = Field(0.7, ge=0, description="sampling temperature")
    max_new_tokens: int = Field(gt=0, description="longest response in tokens")


class SamplingStudySizes(Section):
    """How much the sampling studies sample."""

    num_helpful: int = Field(100, gt=0, description="benign prompts to sample for")
    num_adversarial: int = Field(0, ge=0, description="adversarial prompts to sample for")
    k: int = Field(64, gt=1, description="responses to each prompt at each temperature (paper: up to 100)")


class DistillationStageConfig(DistillationConfig):
    """Context distillation on a draw of the adversarial training prompts."""

    num_prompts: int = Field(gt=0, description="adversarial prompts to answer")


class SamplingConfig(RejectionSamplingConfig):
    """Rejection sampling on a draw of the training prompts."""

    num_helpful: int = Field(gt=0, description="benign prompts to sample for")
    num_adversarial: int = Field(ge=0, description="adversarial prompts to sample for")
    batch: str = Field("round-1", description="number of the draw of prompts")
    allow_overlap: bool = Field(False, description="train on prompts even if they are for evaluation")


class FileConfig(Section):
    """A JSONL file from outside the registry."""

    file: str = Field(description="path of the file")
    sha256: str | None = Field(None, description="sha256 of the file at the start, so that an edited file is a new input")


class ScoreConfig(FileConfig):
    """A file of responses, or of pairs of responses, scored by reward models."""

    models: tuple[tuple[str, Axis | Literal[""]], ...] = Field(
        min_length=1, description="axis of each reward model, by the reference that names it in the output"
    )
    safety_threshold: float = Field(0.15, ge=0, le=1, description="threshold of the combined reward")
    rows_per_chunk: int = Field(512, gt=0, description="rows that are scored and saved at a time")


class GattStageConfig(GattConfig):
    """Ghost Attention data, and what the policy is then tuned on together with it."""

    num_replayed: int = Field(0, ge=0, description="ordinary dialogues mixed in, so that other skills are kept")
    multi_turn: Literal["chained", "given"] = Field(
        "chained", description="dialogues to instruct: single turns chained together, or given dialogues of several turns"
    )
    constraints: FileConfig | None = Field(None, description="JSONL file of constraints; default: the sandbox's")


class PPOStageConfig(PPOConfig):
    """PPO on a draw of the training prompts."""

    num_helpful: int = Field(gt=0, description="benign prompts to draw from")
    num_adversarial: int = Field(ge=0, description="adversarial prompts to draw from")
    allow_overlap: bool = Field(False, description="train on prompts even if they are for evaluation")


class ConsistencyConfig(Section):
    """Does an instruction hold through a dialogue (paper Table 30)?"""

    num_dialogues: int = Field(gt=0, description="dialogues under a constraint that Ghost Attention is trained with")
    num_heldout: int = Field(0, ge=0, description="dialogues under a constraint that it is not trained with")
    num_uninstructed: int = Field(0, ge=0, description="dialogues without an instruction, to measure false obeying")
    num_to_end: int = Field(0, ge=0, description="of the first ones, those that continue until the context is full")
    num_recalled: int = Field(0, ge=0, description="of the first ones, those that are also asked to recall the instruction")
    num_copied: int = Field(0, ge=0, description="questions of the sandbox to repeat words, to measure copying")
    turns: tuple[int, ...] = Field((1, 2, 4, 6, 10, 20), min_length=1, description="turns at which obedience is measured")
    control_turns: int = Field(6, gt=0, description="turns of the dialogues that are held out or without an instruction")
    instruction_in: Literal["first_message", "system"] = Field(
        "first_message", description="position of the instruction; default: as in the Ghost Attention data"
    )
    constraints: FileConfig | None = Field(None, description="JSONL file of constraints; default: the sandbox's")
    temperature: float = Field(0.7, ge=0, description="sampling temperature")
    max_new_tokens: int = Field(gt=0, description="longest response in tokens")
    kept_tokens: int = Field(
        0, ge=0, description="tokens of dialogues whose keys and values stay in memory, so that a turn reads only what is new"
    )

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> "ConsistencyConfig":
        for name in ("num_to_end", "num_recalled"):
            if (count := getattr(self, name)) > self.num_dialogues:
                raise ValueError(f"{name} is {count}, and num_dialogues {self.num_dialogues}: lower one or raise the other")
        return self


class ReportConfig(Section):
    """What is compared with what."""

    recipe: str = Field(description="name of the recipe")
    versions: tuple[str, ...] = Field(min_length=1, description="policies measured, in the order of training; the first is SFT")
    arms: dict[str, str] = Field({}, description="arm of the consistency table -> policy")


class RoundConfig(Section):
    """One round: annotate, retrain the reward models, sample, select, fine-tune."""

    version: str = Field(pattern=r"v\d+", description="the policy that the round makes")
    pool: Literal["last", "all"] = Field("all", description="samples to tune on: this round's, or those of all rounds so far")
    gatt: bool = Field(False, description="make Ghost Attention data after this round, for it and later rounds")


class CheckpointConfig(Section):
    """The base model that a team starts from."""

    checkpoint: str = Field(description="a Hugging Face folder, or a name on the hub")
    hub_revision: str | None = Field(None, description="commit of a hub name; default: the newest")
    sha256: str | None = Field(None, description="sha256 of the folder at the start, so that other weights are a new input")
    preset: Preset = Field(description="architecture by name, from which a plan is made before anything is loaded")


class RewardCheckpointConfig(Section):
    """An external reward model."""

    checkpoint: str = Field(description="a Hugging Face folder, or a name on the hub")
    hub_revision: str | None = Field(None, description="commit of a hub name; default: the newest")
    sha256: str | None = Field(None, description="sha256 of the folder at the start, so that other weights are a new input")
    chat_template: FileConfig | None = Field(None, description="Jinja template to use instead of the tokenizer's own")
    axis: Axis = Field(description="axis of its scores")


class PromptsFileConfig(FileConfig):
    """Prompts of a team, all of one split."""

    split: Split = Field(description="use of the prompts")


class TeamDataConfig(Section):
    """Where a team's own files lie, relative to the folder one stands in. Those of a later round may come later."""

    demonstrations: str = Field(description="JSONL of dialogues to learn from: {messages}")
    prompts: str = Field(description="JSONL of training prompts: {prompt or messages, is_safety, risk_category}")
    annotations: str = Field(description="annotation files by round and axis, with {round} and {axis} in the name")
    constraints: str | None = Field(None, description="JSONL of constraints, for a round with Ghost Attention")
    heldout_share: float = Field(0.05, ge=0, lt=1, description="share of prompts whose comparisons are held out for testing")

    @field_validator("annotations")
    @classmethod
    def _one_file_a_round_and_axis(cls, name: str) -> str:
        if sorted(field for _, field, _, _ in Formatter().parse(name) if field is not None) != ["axis", "round"]:
            raise ValueError(
                f"{name!r} must hold {{round}} and {{axis}} once each, for example data/round-{{round}}-{{axis}}.jsonl"
            )
        return name


class ExpectedConfig(Section):
    """Sizes that a plan uses before there is any data; no stage reads them."""

    prompt_tokens: int = Field(gt=0, description="mean tokens of a prompt, with the turns before it")
    response_tokens: int = Field(gt=0, description="mean tokens of a response")
    turn_tokens: int = Field(gt=0, description="mean tokens of one turn of a dialogue, question and answer")
    num_demonstrations: int = Field(0, ge=0, description="dialogues of a team's file; the sandbox says how many it writes")
    num_comparisons: dict[Axis, int] = Field({}, description="comparisons a team imports in each round, by axis")

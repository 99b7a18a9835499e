"""The table of the commands that run one stage: ``rlhf sft``, ``rlhf train-reward``, ``rlhf ppo`` and the others.

A row says where the stage lives, which section of the recipe configures it, which artifacts it reads and what they are called
in ``reproduce``. ``commands/making.py`` makes commands of the rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from rlhf.config import SelectionConfig


@dataclass(frozen=True)
class Role:
    """One input of a command. ``default`` None: it must be given; ``many``: it may be given several times.

    ``looked_for``: what is taken when nothing is given, where the registry has it.
    """

    help: str
    default: str | None = None
    many: bool = False
    looked_for: str = ""


@dataclass(frozen=True)
class Setting:
    """One key of a command's section that has an option of its own, with the values it may have; ``next``: what to do then.

    Without ``values`` the option is a flag that makes the key true.
    """

    key: str
    help: str
    values: tuple[str, ...] = ()
    next: str = ""


@dataclass(frozen=True)
class StageCommand:
    """A row: ``stage`` is ``module:NAME``; ``section`` of the recipe; ``name`` of the artifact; ``next`` command.

    Without ``name`` the artifact is called after the axis, or as the one that is given for the role ``named_after``.
    ``axis``: the section is that of ``--axis``, helpfulness or safety. ``trains``: it trains, so that trackers can follow.
    ``settings`` by the name of their option. ``part``: the keys of the section that the stage takes, where not all.
    """

    command: str
    help: str
    stage: str
    section: str
    name: str
    roles: Mapping[str, Role]
    next: str
    example: str
    named_after: str = ""
    axis: bool = False
    trains: bool = False
    settings: Mapping[str, Setting] = field(default_factory=dict)
    part: type[BaseModel] | None = None


_PROMPTS = Role("prompts to answer", "prompts/tuning")
_EVALUATION = Role("prompts to answer", "prompts/evaluation")
_APART = Role("prompts that must not be learnt from", "", many=True, looked_for="prompts/evaluation")
_ALLOW_OVERLAP = Setting("allow_overlap", "learn from prompts that are for evaluation all the same")
_REWARD_MODELS = {
    "helpfulness": Role("helpfulness reward model", "reward_model/helpfulness"),
    "safety": Role("safety reward model", "reward_model/safety"),
}

COMMANDS = (
    StageCommand(
        "pretrain", "A tiny base policy from scratch, on a corpus.", "stages.train.pretrain:STAGE", "pretrain", "base",
        {"corpus": Role("documents to train on", "dialogues/corpus")},
        "rlhf sft --policy {ref}", "rlhf pretrain --recipe nano --corpus dialogues/corpus", trains=True,
    ),
    StageCommand(
        "sft", "Supervised fine-tuning on the answers of dialogues (paper 3.1).", "stages.train.tune:SFT", "sft", "sft",
        {"policy": Role("policy to start from", "policy/base"),
         "dialogues": Role("dialogues to train on", "dialogues/demonstrations", many=True)},
        "rlhf annotate --policies policy/base --policies {ref}",
        "rlhf sft --policy policy/base --dialogues dialogues/demonstrations", trains=True,
    ),
    StageCommand(
        "annotate", "Let two policies answer; simulated annotators choose, or people do, in files (paper 3.2.1).",
        "stages.data.annotate:STAGE", "annotation", "round-1",
        {"policies": Role("policies that answer, two of them", many=True), "prompts": _PROMPTS,
         "heldout_prompts": Role("prompts of held-out comparisons, for simulated annotators", "", many=True)},
        "rlhf import --annotations {ref} --axis helpfulness",
        "rlhf annotate --policies policy/base --policies policy/sft --heldout-prompts prompts/evaluation",
        settings={"for": Setting(
            "judges", "files for people to judge in, in place of simulated annotators", ("label-studio", "csv", "jsonl"),
            "copy the files for people out of {path}; then rlhf import FILE --axis AXIS --pairs {ref}, AXIS as the file's name",
        )},
    ),
    StageCommand(
        "train-reward", "Train one reward model on preferences (paper 3.2.2).", "stages.train.train_reward:STAGE", "", "",
        {"policy": Role("chat policy to start from", "policy/sft"),
         "preferences": Role("preferences of this axis", many=True),
         "other_preferences": Role("preferences of the other axis, for the paper's mix", "", many=True)},
        "rlhf score FILE --model {ref}",
        "rlhf train-reward --axis helpfulness --preferences preferences/mine --set helpfulness.mixture=own",
        axis=True, trains=True,
        settings={"aggregate": Setting(
            "aggregate", "every judgement of an item, or the majority of its annotators", ("all", "majority")
        )},
    ),
    StageCommand(
        "distill", "Safety context distillation on adversarial prompts (paper 4.2.4).", "stages.train.distill:STAGE",
        "distillation", "distilled",
        {"policy": Role("policy that answers", "policy/sft"), "safety": _REWARD_MODELS["safety"], "prompts": _PROMPTS},
        "rlhf tune --distilled {ref}", "rlhf distill --policy policy/sft --safety reward_model/safety",
    ),
    StageCommand(
        "rejection-sample", "Sample K answers a prompt and select the best (paper 3.2.3); `rlhf tune` then learns from them.",
        "stages.train.rejection_sample:STAGE", "rejection_sampling", "v1",
        {"policy": Role("policy that answers", "policy/sft"), **_REWARD_MODELS, "prompts": _PROMPTS,
         "evaluation_prompts": _APART},
        "rlhf tune --samples {ref}", "rlhf rejection-sample --policy policy/sft --set rejection_sampling.k=16",
        settings={"allow-overlap": _ALLOW_OVERLAP},
    ),
    StageCommand(
        "rescore", "Score and select samples anew, by other reward models; nothing is sampled (paper 3.2.3).",
        "stages.train.rescore:STAGE", "rejection_sampling", "rescored",
        {"samples": Role("samples to score"), **_REWARD_MODELS},
        "rlhf tune --samples {ref}", "rlhf rescore --samples samples/v1 --helpfulness reward_model/helpfulness@2",
        part=SelectionConfig,
    ),
    StageCommand(
        "tune", "Fine-tune a version from the base on demonstrations, selected samples and the rest (paper 3.2.3).",
        "stages.train.tune:VERSION", "tuning", "v1",
        {"policy": Role("policy to start from", "policy/base"),
         "demonstrations": Role("supervised dialogues", "dialogues/demonstrations"),
         "samples": Role("rejection samples", many=True),
         "distilled": Role("distilled safety answers", "", many=True),
         "gatt": Role("Ghost Attention dialogues", "", many=True)},
        "rlhf chat {ref}", "rlhf tune --samples samples/v1 --distilled dialogues/distilled --name v1", trains=True,
    ),
    StageCommand(
        "ppo", "PPO with the combined reward (paper 3.2.3).", "stages.train.ppo:STAGE", "ppo", "v5-ppo",
        {"policy": Role("policy to start from, and to stay near", "policy/v5"), **_REWARD_MODELS, "prompts": _PROMPTS,
         "critic": Role("what the critic starts from, a reward model or an earlier PPO run; else as ppo.critic says", ""),
         "evaluation_prompts": _APART},
        "rlhf chat {ref}", "rlhf ppo --policy policy/v5 --set ppo.kl_coef=0.02", trains=True,
        settings={"allow-overlap": _ALLOW_OVERLAP},
    ),
)  # fmt: skip

EVALUATIONS = (
    StageCommand(
        "policy", "Answer the evaluation prompts; score and judge the answers.", "stages.measure.evaluate:POLICY",
        "evaluation", "",
        {"policy": Role("policy that answers", "policy/chat"), **_REWARD_MODELS, "prompts": _EVALUATION},
        "rlhf registry show {ref}", "rlhf evaluate policy --policy policy/chat", named_after="policy",
    ),
    StageCommand(
        "reward", "Accuracy of both reward models on held-out comparisons (paper Table 7, 8).", 
        "stages.measure.evaluate:REWARD", "evaluation", "reward-models",
        {"preferences": Role("preferences whose test side is scored", many=True), **_REWARD_MODELS, "prompts": _EVALUATION},
        "rlhf registry show {ref}", "rlhf evaluate reward --preferences preferences/helpfulness-round-1",
    ),
)  # fmt: skip

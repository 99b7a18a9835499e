"""Every stage, declared once: commands, kind checks, default inputs, plans, docs and tests are derived from these rows.

To add a stage, write its function and its config, and add a row (``docs/architecture.md`` has the steps). The studies are rows
of ``stages/study_catalog.py``. Nothing heavy is imported here: functions are dotted paths.
"""

from policy.config import FinetuneConfig, PretrainConfig
from rlhf.config import SelectionConfig
from stages import sections
from stages.recipe import consistency_of
from stages.references import EVALUATION_PROMPTS, REWARD_MODELS, TUNING_PROMPTS, final_policy, last_version
from stages.stage import Option, Role, Stage, section

_HELPFULNESS = Role("reward_model", "helpfulness reward model", REWARD_MODELS["helpfulness"])
_SAFETY = Role("reward_model", "safety reward model", REWARD_MODELS["safety"])
_PROMPTS = Role("prompts", "prompts to answer", TUNING_PROMPTS)
_TEST_PROMPTS = Role("prompts", "prompts to answer", EVALUATION_PROMPTS)
_HELD_APART = Role("prompts", "prompts that must not be trained on", EVALUATION_PROMPTS, many=True, if_there=True)
_BASE = Role("policy", "policy to start from", ("policy/base",))
_DEMONSTRATIONS = ("dialogues/demonstrations",)
_ALLOW_OVERLAP = Option("allow_overlap")

_DATA = (
    Stage("corpus", "dialogues", 6, sections.CorpusConfig, "stages.data.make_world:make_corpus",
          config_of=section("corpus"), artifact="corpus", saves_states=False),
    Stage("demonstrations", "dialogues", 5, sections.DemonstrationsConfig, "stages.data.make_world:make_demonstrations",
          config_of=section("demonstrations"), artifact="demonstrations", saves_states=False),
    Stage("prompts", "prompts", 3, sections.PromptsConfig, "stages.data.make_world:make_prompts", saves_states=False),
    Stage("add-checkpoint", "policy", 1, sections.CheckpointConfig, "stages.data.external:add_checkpoint",
          saves_states=False),
    Stage("add-dialogues", "dialogues", 1, sections.FileConfig, "stages.data.external:add_dialogues",
          saves_states=False),
    Stage("add-prompts", "prompts", 1, sections.PromptsFileConfig, "stages.data.external:add_prompts",
          saves_states=False),
    Stage("add-reward-model", "reward_model", 1, sections.RewardCheckpointConfig, "stages.data.external_reward_model:run",
          next="rlhf score FILE --model {ref}", saves_states=False),
    Stage(
        "annotate", "annotations", 3, sections.AnnotationConfig, "stages.data.annotate:run",
        {"policies": Role("policy", "the two policies that answer", many=True), "prompts": _PROMPTS,
         "heldout_prompts": Role("prompts", "prompts of held-out comparisons, for simulated annotators", (), many=True)},
        command="annotate",
        help="Sample pairs of answers; simulated annotators compare them, or files are written for people (paper 3.2.1).",
        config_of=section("annotation"), artifact="round-1",
        example="rlhf annotate --policies policy/base --policies policy/sft --heldout-prompts prompts/evaluation",
        next="rlhf import --annotations {ref} --axis helpfulness",
        options=(Option("annotators", "for", "copy the files for people out of {path}; then rlhf import FILE --axis AXIS "
                        "--pairs {ref}, AXIS as in the file's name"),),
    ),
    Stage(
        "import", "preferences", 2, sections.ImportConfig, "stages.data.import_annotations:run",
        {"annotations": Role("annotations", "annotations artifact that holds the files", ()),
         "pairs": Role("annotations", "pairs that were handed out", (), many=True),
         "model": Role("", "policy or reward model that counts tokens", ())},
        saves_states=False,
    ),
    Stage(
        "mix", "preferences", 1, sections.MixConfig, "stages.data.mix:run",
        {"own": Role("preferences", "preferences of the model's axis", (), many=True),
         "rest": Role("preferences", "preferences to draw from", (), many=True),
         "preferences": Role("preferences", "preferences to mix by shares", (), many=True)},
        next="rlhf data stats {ref}", saves_states=False,
    ),
    Stage("split", "preferences", 1, sections.SplitConfig, "stages.data.split:run",
          {"preferences": Role("preferences", "preferences to split again", many=True)},
          next="rlhf data stats {ref}", saves_states=False),
    Stage("overlap", "preferences", 1, sections.OverlapConfig, "stages.data.overlap:run",
          {"data": Role("preferences", "preferences to clean"),
           "evaluation": Role("prompts", "evaluation prompts", many=True)}, next="rlhf data stats {ref}", saves_states=False),
    Stage("overlap-prompts", "prompts", 1, sections.OverlapConfig, "stages.data.overlap:run",
          {"data": Role("prompts", "prompts to clean"), "evaluation": Role("prompts", "evaluation prompts", many=True)},
          saves_states=False),
)  # fmt: skip

_TRAINING = (
    Stage(
        "pretrain", "policy", 2, PretrainConfig, "stages.train.pretrain:run",
        {"corpus": Role("dialogues", "documents to train on", ("dialogues/corpus",))},
        command="pretrain", help="Train a tiny base policy from scratch on a corpus.",
        config_of=section("pretrain"), artifact="base", trains=True,
        example="rlhf pretrain --recipe nano --corpus dialogues/corpus", next="rlhf sft --policy {ref}",
    ),
    Stage(
        "sft", "policy", 3, FinetuneConfig, "stages.train.tune:run_sft",
        {"policy": _BASE, "dialogues": Role("dialogues", "dialogues to train on", _DEMONSTRATIONS, many=True)},
        command="sft", help="Supervised fine-tuning on dialogues; the loss is on the answers (paper 3.1).",
        config_of=section("sft"), artifact="sft", trains=True, finetunes=True,
        example="rlhf sft --policy policy/base --dialogues dialogues/demonstrations",
        next="rlhf annotate --policies policy/base --policies {ref}",
    ),
    Stage(
        "train-reward", "reward_model", 2, sections.RewardTrainingConfig, "stages.train.train_reward:run",
        {"policy": Role("policy", "chat policy to start from", ("policy/sft",)),
         "preferences": Role("preferences", "preferences of this axis", many=True),
         "other_preferences": Role("preferences", "preferences of the other axis, for the paper's mix", (), many=True)},
        command="train-reward", help="Train a reward model on preferences (paper 3.2.2).", by_axis=True, trains=True,
        options=(Option("aggregate"),),
        example="rlhf train-reward --axis helpfulness --preferences preferences/mine --set helpfulness.mixture=own",
        next="rlhf score FILE --model {ref}",
    ),
    Stage(
        "distill", "dialogues", 3, sections.DistillationStageConfig, "stages.train.distill:run",
        {"policy": Role("policy", "policy that answers", ("policy/sft",)), "safety": _SAFETY, "prompts": _PROMPTS},
        command="distill", help="Safety context distillation on adversarial prompts (paper 4.2.4).",
        config_of=section("distillation"), artifact="distilled",
        example="rlhf distill --policy policy/sft --safety reward_model/safety", next="rlhf tune --distilled {ref}",
    ),
    Stage(
        "rejection-sample", "samples", 4, sections.SamplingConfig, "stages.train.rejection_sample:run",
        {"policy": Role("policy", "policy that answers", ("policy/sft",)), "helpfulness": _HELPFULNESS, "safety": _SAFETY,
         "prompts": _PROMPTS, "evaluation_prompts": _HELD_APART},
        command="rejection-sample",
        help="Sample K answers to each prompt and select the best; `rlhf tune` then trains on them (paper 3.2.3).",
        config_of=section("rejection_sampling"), artifact="v1", options=(_ALLOW_OVERLAP,),
        example="rlhf rejection-sample --policy policy/sft --set rejection_sampling.k=16", next="rlhf tune --samples {ref}",
    ),
    Stage(
        "rescore", "samples", 1, SelectionConfig, "stages.train.rescore:run",
        {"samples": Role("samples", "samples to score"), "helpfulness": _HELPFULNESS, "safety": _SAFETY},
        command="rescore",
        help="Score existing samples with other reward models and select again, without sampling (paper 3.2.3).",
        config_of=section("rejection_sampling", SelectionConfig), artifact="rescored",
        example="rlhf rescore --samples samples/v1 --helpfulness reward_model/helpfulness@2",
        next="rlhf tune --samples {ref}",
    ),
    Stage(
        "tune", "policy", 4, sections.TuningConfig, "stages.train.tune:run_version",
        {"policy": _BASE,
         "demonstrations": Role("dialogues", "supervised dialogues", _DEMONSTRATIONS),
         "samples": Role("samples", "rejection samples", many=True),
         "distilled": Role("dialogues", "distilled safety answers", (), many=True),
         "gatt": Role("dialogues", "Ghost Attention dialogues", (), many=True)},
        command="tune",
        help="Fine-tune the next version from the base, on demonstrations, selected samples and more (paper 3.2.3).",
        config_of=section("tuning"), artifact="v1", trains=True, finetunes=True,
        example="rlhf tune --samples samples/v1 --distilled dialogues/distilled --name v1", next="rlhf chat {ref}",
    ),
    Stage(
        "gatt", "dialogues", 5, sections.GattStageConfig, "stages.train.gatt:run",
        {"policy": Role("policy", "policy that answers", ("policy/v3",)),
         "helpfulness": Role("reward_model", "reward model that selects answers", REWARD_MODELS["helpfulness"], if_there=True),
         "samples": Role("samples", "rejection samples, of which the selected are used", (), many=True),
         "dialogues": Role("dialogues", "dialogues to instruct", (), many=True),
         "demonstrations": Role("dialogues", "dialogues whose other families are kept", _DEMONSTRATIONS, if_there=True),
         "judge": Role("policy", "chat policy that judges constraints without a checker", ()),
         "prompts": Role("prompts", "the sandbox's prompts, which bring its constraints", TUNING_PROMPTS, if_there=True)},
        config_of=section("gatt"), artifact="gatt",
    ),
    Stage(
        "ppo", "policy", 4, sections.PPOStageConfig, "stages.train.ppo:run",
        {"policy": Role("policy", "policy to start from, and the reference of the KL penalty",
                        lambda recipe: (f"policy/{last_version(recipe)}",)),
         "helpfulness": _HELPFULNESS, "safety": _SAFETY, "prompts": _PROMPTS,
         "critic": Role("", "reward model or earlier PPO run that the critic starts from; overrides ppo.critic", ()),
         "evaluation_prompts": _HELD_APART},
        command="ppo", help="PPO with the combined reward of both reward models (paper 3.2.3).",
        config_of=section("ppo"), artifact="v5-ppo", options=(_ALLOW_OVERLAP,), trains=True,
        example="rlhf ppo --policy policy/v5 --set ppo.kl_coef=0.02", next="rlhf chat {ref}",
    ),
)  # fmt: skip

_MEASURING = (
    Stage(
        "evaluate-policy", "evaluation", 5, sections.EvaluationConfig, "stages.measure.evaluate:evaluate_policy",
        {"policy": Role("policy", "policy that answers", ("policy/chat",)), "helpfulness": _HELPFULNESS, "safety": _SAFETY,
         "prompts": _TEST_PROMPTS},
        command="evaluate policy", help="Answer the evaluation prompts, and score the answers by reward model and by gold.",
        config_of=section("evaluation"), named_after="policy", example="rlhf evaluate policy --policy policy/chat",
    ),
    Stage(
        "evaluate-reward", "evaluation", 3, sections.EvaluationConfig, "stages.measure.evaluate:evaluate_reward",
        {"preferences": Role("preferences", "preferences whose test side is scored", many=True), "helpfulness": _HELPFULNESS,
         "safety": _SAFETY, "prompts": _TEST_PROMPTS},
        command="evaluate reward", help="Accuracy of both reward models on held-out comparisons (paper Tables 7 and 8).",
        config_of=section("evaluation"), artifact="reward-models",
        example="rlhf evaluate reward --preferences preferences/helpfulness-round-1",
    ),
    Stage(
        "evaluate-consistency", "evaluation", 4, sections.ConsistencyConfig, "stages.measure.consistency:run",
        {"policy": Role("policy", "policy that answers", ("policy/chat",)),
         "prompts": Role("prompts", "the sandbox's prompts, whose constraints are tested", EVALUATION_PROMPTS),
         "dialogues": Role("dialogues", "a team's dialogues", (), many=True),
         "judge": Role("policy", "chat policy that judges constraints without a checker", ())},
        config_of=consistency_of,
    ),
    Stage("score", "evaluation", 1, sections.ScoreConfig, "stages.scoring.score:run",
          {"models": Role("reward_model", "reward models that score", many=True)}),
    Stage(
        "report", "report", 4, sections.ReportConfig, "stages.measure.report:run",
        {"policies": Role("evaluation", "evaluations of the policies, in the order of training", many=True),
         "reward_models": Role("evaluation", "evaluation of the reward models", ("evaluation/reward-models",)),
         "consistency": Role("evaluation", "evaluations of consistency", (), many=True),
         "preferences": Role("preferences", "all comparisons", many=True),
         "samples": Role("samples", "the samples of all rounds", many=True),
         "ppo": Role("policy", "the policy after PPO", lambda recipe: (final_policy(recipe),)),
         "studies": Role("study", "studies to show", (), many=True)},
        saves_states=False,
    ),
)  # fmt: skip

STAGES: dict[str, Stage] = {stage.name: stage for stage in (*_DATA, *_TRAINING, *_MEASURING)}

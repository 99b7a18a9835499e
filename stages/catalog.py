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
        {"policies": Role("policy", "policies that answer, two of them", many=True), "prompts": _PROMPTS,
         "heldout_prompts": Role("prompts", "prompts of held-out comparisons, for simulated annotators", (), many=True)},
        "Sample answers of two policies; simulated annotators compare them, or people do, in files (paper 3.2.1).",
        section("annotation"), "round-1", "annotate",
        "rlhf annotate --policies policy/base --policies policy/sft --heldout-prompts prompts/evaluation",
        "rlhf import --annotations {ref} --axis helpfulness",
        (Option("annotators", "for", "copy the files for people out of {path}; then rlhf import FILE --axis AXIS --pairs "
                "{ref}, AXIS as in the file's name"),),
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
        "Train a tiny base policy from scratch on a corpus.",
        section("pretrain"), "base", "pretrain",
        "rlhf pretrain --recipe nano --corpus dialogues/corpus", "rlhf sft --policy {ref}", trains=True,
    ),
    Stage(
        "sft", "policy", 3, FinetuneConfig, "stages.train.tune:run_sft",
        {"policy": _BASE, "dialogues": Role("dialogues", "dialogues to train on", _DEMONSTRATIONS, many=True)},
        "Supervised fine-tuning on the answers of dialogues (paper 3.1).",
        section("sft"), "sft", "sft",
        "rlhf sft --policy policy/base --dialogues dialogues/demonstrations",
        "rlhf annotate --policies policy/base --policies {ref}", trains=True, finetunes=True,
    ),
    Stage(
        "train-reward", "reward_model", 2, sections.RewardTrainingConfig, "stages.train.train_reward:run",
        {"policy": Role("policy", "chat policy to start from", ("policy/sft",)),
         "preferences": Role("preferences", "preferences of this axis", many=True),
         "other_preferences": Role("preferences", "preferences of the other axis, for the paper's mix", (), many=True)},
        "Train one reward model on preferences (paper 3.2.2).", None, "", "train-reward",
        "rlhf train-reward --axis helpfulness --preferences preferences/mine --set helpfulness.mixture=own",
        "rlhf score FILE --model {ref}", (Option("aggregate"),), by_axis=True, trains=True,
    ),
    Stage(
        "distill", "dialogues", 3, sections.DistillationStageConfig, "stages.train.distill:run",
        {"policy": Role("policy", "policy that answers", ("policy/sft",)), "safety": _SAFETY, "prompts": _PROMPTS},
        "Safety context distillation on adversarial prompts (paper 4.2.4).",
        section("distillation"), "distilled", "distill",
        "rlhf distill --policy policy/sft --safety reward_model/safety", "rlhf tune --distilled {ref}",
    ),
    Stage(
        "rejection-sample", "samples", 4, sections.SamplingConfig, "stages.train.rejection_sample:run",
        {"policy": Role("policy", "policy that answers", ("policy/sft",)), "helpfulness": _HELPFULNESS, "safety": _SAFETY,
         "prompts": _PROMPTS, "evaluation_prompts": _HELD_APART},
        "Sample K answers to each prompt and select the best (paper 3.2.3); `rlhf tune` then trains on them.",
        section("rejection_sampling"), "v1", "rejection-sample",
        "rlhf rejection-sample --policy policy/sft --set rejection_sampling.k=16", "rlhf tune --samples {ref}",
        (_ALLOW_OVERLAP,),
    ),
    Stage(
        "rescore", "samples", 1, SelectionConfig, "stages.train.rescore:run",
        {"samples": Role("samples", "samples to score"), "helpfulness": _HELPFULNESS, "safety": _SAFETY},
        "Score samples with other reward models and select again; nothing is sampled (paper 3.2.3).",
        section("rejection_sampling", SelectionConfig), "rescored", "rescore",
        "rlhf rescore --samples samples/v1 --helpfulness reward_model/helpfulness@2", "rlhf tune --samples {ref}",
    ),
    Stage(
        "tune", "policy", 4, sections.TuningConfig, "stages.train.tune:run_version",
        {"policy": _BASE,
         "demonstrations": Role("dialogues", "supervised dialogues", _DEMONSTRATIONS),
         "samples": Role("samples", "rejection samples", many=True),
         "distilled": Role("dialogues", "distilled safety answers", (), many=True),
         "gatt": Role("dialogues", "Ghost Attention dialogues", (), many=True)},
        "Fine-tune a version from the base on demonstrations, selected samples and more (paper 3.2.3).",
        section("tuning"), "v1", "tune",
        "rlhf tune --samples samples/v1 --distilled dialogues/distilled --name v1", "rlhf chat {ref}",
        trains=True, finetunes=True,
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
         "critic": Role("", "reward model or earlier PPO run that the critic starts from; else as ppo.critic says", ()),
         "evaluation_prompts": _HELD_APART},
        "PPO with the combined reward (paper 3.2.3).", section("ppo"), "v5-ppo", "ppo",
        "rlhf ppo --policy policy/v5 --set ppo.kl_coef=0.02", "rlhf chat {ref}", (_ALLOW_OVERLAP,), trains=True,
    ),
)  # fmt: skip

_MEASURING = (
    Stage(
        "evaluate-policy", "evaluation", 5, sections.EvaluationConfig, "stages.measure.evaluate:evaluate_policy",
        {"policy": Role("policy", "policy that answers", ("policy/chat",)), "helpfulness": _HELPFULNESS, "safety": _SAFETY,
         "prompts": _TEST_PROMPTS},
        "Answer the evaluation prompts; score the answers and judge them by gold.",
        section("evaluation"), "", "evaluate policy", "rlhf evaluate policy --policy policy/chat", named_after="policy",
    ),
    Stage(
        "evaluate-reward", "evaluation", 3, sections.EvaluationConfig, "stages.measure.evaluate:evaluate_reward",
        {"preferences": Role("preferences", "preferences whose test side is scored", many=True), "helpfulness": _HELPFULNESS,
         "safety": _SAFETY, "prompts": _TEST_PROMPTS},
        "Accuracy of both reward models on held-out comparisons (paper Tables 7 and 8).",
        section("evaluation"), "reward-models", "evaluate reward",
        "rlhf evaluate reward --preferences preferences/helpfulness-round-1",
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

"""The studies of a recipe as steps, so that its run can make them before the report."""

from collections.abc import Sequence

from policy.config import PretrainConfig
from stages import pretrain, tune
from stages.recipe import SandboxRecipe
from stages.sections import AccuracyStudyConfig, RewardStudyConfig, ScalingStudyConfig, StudyName
from stages.step import Step
from stages.studies import accuracy, margin, reward_scaling, safety_loss
from stages.studies.inputs import SANDBOX_SIZES, policies_of_sizes, reward_inputs


def study_steps(recipe: SandboxRecipe, names: Sequence[StudyName]) -> list[Step]:
    """The studies ``names``, each after what it needs; none where the recipe holds no comparisons out."""
    if not recipe.annotation.num_heldout:
        return []
    return [step for name in names for step in _study(recipe, name)]


def size_steps(recipe: SandboxRecipe, presets: Sequence[str]) -> list[Step]:
    """The recipe's own pretraining and fine-tuning for each other preset: the same documents, tokens and demonstrations."""
    found = []
    for preset in presets:
        if preset != recipe.pretrain.preset:
            config = PretrainConfig.model_validate(recipe.pretrain.model_dump() | {"preset": preset})
            inputs = {"policy": (f"policy/base-{preset}",), "dialogues": ("dialogues/demonstrations",)}
            found.append(Step(pretrain.STAGE, f"base-{preset}", config, {"corpus": ("dialogues/corpus",)}))
            found.append(Step(tune.SFT, f"sft-{preset}", recipe.sft, inputs))
    return found


def _study(recipe: SandboxRecipe, name: StudyName) -> list[Step]:
    sft = {"policy": ("policy/sft",)}
    match name:
        case "accuracy":
            config = AccuracyStudyConfig(safety_threshold=recipe.ppo.safety_threshold)
            return [Step(accuracy.STAGE, name, config, {"evaluation": ("evaluation/reward-models",)})]
        case "safety-loss":
            inputs = sft | reward_inputs(recipe, recipe.safety)
            return [Step(safety_loss.STAGE, name, RewardStudyConfig(training=recipe.safety), inputs)]
        case "margin":
            inputs = sft | reward_inputs(recipe, recipe.helpfulness)
            return [Step(margin.STAGE, name, RewardStudyConfig(training=recipe.helpfulness), inputs)]
        case "reward-scaling":
            sizes = {"policy": policies_of_sizes(recipe, SANDBOX_SIZES)}
            inputs = sizes | reward_inputs(recipe, recipe.helpfulness)
            study = Step(reward_scaling.STAGE, name, ScalingStudyConfig(training=recipe.helpfulness), inputs)
            return [*size_steps(recipe, SANDBOX_SIZES), study]

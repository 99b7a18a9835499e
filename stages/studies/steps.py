"""The studies of a recipe as steps, so that its run can make them before the report."""

from collections.abc import Sequence
from typing import get_args

from policy.config import Preset, PretrainConfig
from stages.gatt_steps import both_readings
from stages.recipe import SandboxRecipe
from stages.sections import AccuracyStudyConfig, RewardStudyConfig, ScalingStudyConfig, StudyName
from stages.step import Step
from stages.studies import (
    accuracy,
    best_of_n,
    gatt,
    gatt_intermediate,
    goodhart,
    margin,
    pooling,
    reward_scaling,
    safety_loss,
    size_distillation,
    temperature,
    versions,
    whitening,
)
from stages.studies.gatt_inputs import GattStudyConfig, gatt_inputs
from stages.studies.inputs import (
    SANDBOX_SIZES,
    policies_of_sizes,
    reward_inputs,
    sampling_study_config,
    sampling_study_inputs,
)
from stages.studies.intermediate_inputs import GattIntermediateStudyConfig, intermediate_inputs
from stages.studies.ppo_inputs import (
    GoodhartStudyConfig,
    VersionsStudyConfig,
    goodhart_inputs,
    versions_inputs,
    whitening_config,
    whitening_inputs,
)
from stages.studies.tuning_inputs import (
    REWARD_MODELS,
    pooling_inputs,
    size_distillation_inputs,
    smaller_preset,
    tuned_study_config,
)
from stages.studies.tuning_steps import sampling_steps
from stages.train import pretrain, tune


def study_steps(recipe: SandboxRecipe, names: Sequence[StudyName]) -> list[Step]:
    """The studies ``names``, each after what it needs, which is made once; none where the recipe holds no comparisons out.

    What a recipe has no room for is left out: pooling of one round, a model below the smallest preset, checkpoints of a PPO
    that does not validate.
    """
    if not recipe.annotation.num_heldout:
        return []
    found: dict[str, Step] = {}
    for name in names:
        for step in _study(recipe, name):
            found.setdefault(step.makes, step)
    return list(found.values())


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
        case "best-of-n":
            sampling = sampling_study_config(recipe, {"temperatures": (1.0,)})
            return [Step(best_of_n.STAGE, name, sampling, sampling_study_inputs("policy/sft"))]
        case "temperature":
            inputs = sampling_study_inputs("policy/sft", f"policy/{recipe.rounds[-1].version}")
            return [Step(temperature.STAGE, name, sampling_study_config(recipe, {}), inputs)]
        case "pooling":
            if len(recipe.rounds) < 2:
                return []
            return [Step(pooling.STAGE, name, tuned_study_config(recipe), pooling_inputs(recipe))]
        case "size-distillation":
            if recipe.pretrain.preset == get_args(Preset)[0]:
                return []
            preset = smaller_preset(recipe)
            study = Step(size_distillation.STAGE, name, tuned_study_config(recipe), size_distillation_inputs(recipe, preset))
            before = sampling_steps(recipe, preset, REWARD_MODELS).values()
            return [*size_steps(recipe, [preset]), *before, study]
        case "versions":
            return [Step(versions.STAGE, name, VersionsStudyConfig(), versions_inputs(recipe))]
        case "goodhart":
            if not recipe.ppo.validation.every:
                return []
            return [Step(goodhart.STAGE, name, GoodhartStudyConfig(), goodhart_inputs(recipe))]
        case "whitening":
            return [Step(whitening.STAGE, name, whitening_config(recipe), whitening_inputs(recipe))]
        case "gatt-intermediate":
            if not any(each.gatt for each in recipe.rounds):
                return []
            study = Step(gatt_intermediate.STAGE, name, GattIntermediateStudyConfig(), intermediate_inputs(recipe))
            return [*both_readings(recipe), study]
        case "gatt":
            if not any(each.gatt for each in recipe.rounds):
                return []
            return [Step(gatt.STAGE, name, GattStudyConfig(), gatt_inputs(recipe))]

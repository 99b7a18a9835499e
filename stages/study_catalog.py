"""Every study, declared once, as ``stages/catalog.py`` declares the stages.

A study trains or scores what a claim of the paper needs, or looks closer at what was made; its findings are functions of
``eval/findings/``. What it reads is what the recipe's run made, unless ``--input ROLE=REF`` names something else.
"""

from collections.abc import Callable
from typing import Any, get_args

from pydantic import BaseModel

from policy.config import Preset
from stages import study_sections as configs
from stages.recipe import Recipe, SandboxRecipe
from stages.references import (
    EVALUATION_PROMPTS,
    READINGS,
    REWARD_MODELS,
    TUNING_PROMPTS,
    every_round,
    every_round_for_the_mix,
    final_policy,
    gatt_before_pooling,
    gatt_policies,
    gatt_version,
    last_version,
    pooled_samples,
    versions,
)
from stages.stage import Option, Role, Study


def _no_gatt(recipe: Recipe) -> str:
    return "" if gatt_version(recipe) else "it has no round with gatt: true, so there is no Ghost Attention to study"


def _no_gatt_in_the_sandbox(recipe: Recipe) -> str:
    return _no_gatt(recipe) if isinstance(recipe, SandboxRecipe) else "it makes both readings as a recipe of the sandbox does"


def _one_round(recipe: Recipe) -> str:
    return "" if len(recipe.rounds) > 1 else "it has one round, and pooling needs two or more"


def _no_validations(recipe: Recipe) -> str:
    return "" if recipe.ppo.validation.every else "its PPO does not validate (ppo.validation.every is 0)"


def _smallest_model(recipe: Recipe) -> str:
    smallest = isinstance(recipe, SandboxRecipe) and recipe.pretrain.preset == get_args(Preset)[0]
    return "its model has the smallest size there is" if smallest else ""


def _reward_roles(axis: str, other: str, several: bool = False) -> dict[str, Role]:
    return {
        "policy": Role("policy", "chat policy to start from", ("policy/sft",), many=several),
        "preferences": Role("preferences", "preferences of this axis", every_round(axis), many=True),
        "other_preferences": Role(
            "preferences", "preferences of the other axis, for the paper's mix", every_round_for_the_mix(axis, other), many=True
        ),
        "prompts": Role("prompts", "prompts of the held-out comparisons, for the ceiling", EVALUATION_PROMPTS, if_there=True),
    }


_MEASURED_ON = {
    "helpfulness": Role("reward_model", "helpfulness reward model", REWARD_MODELS["helpfulness"]),
    "safety": Role("reward_model", "safety reward model", REWARD_MODELS["safety"]),
    "prompts": Role("prompts", "prompts to answer", EVALUATION_PROMPTS),
}
_TRAINING_SEEDS, _ANSWERS = Option("training_seeds"), Option("answers")
_SAMPLED = (Option("num_helpful"), Option("num_adversarial"), Option("k"), Option("temperatures"))


def _row(
    name: str,
    revision: int,
    config: type[BaseModel],
    config_of: Callable[[Recipe], BaseModel],
    inputs: dict[str, Role],
    help_: str,
    *options: Option,
    example: str = "--registry runs/nano-0/registry",
    **others: Any,
) -> Study:
    """A row with what all studies have in common: the function is ``run`` of the module called like the study."""
    others |= {"artifact": name, "command": f"study {name}", "example": f"rlhf study {name} {example}", "options": options}
    function = f"stages.studies.{name.replace('-', '_')}:run"
    return Study(f"study-{name}", "study", revision, config, function, inputs, help_, config_of, **others)


_ROWS = (
    _row("accuracy", 2, configs.AccuracyStudyConfig, configs.accuracy_study,
         {"evaluation": Role("evaluation", "evaluation of the reward models", ("evaluation/reward-models",))},
         "Accuracy of both reward models, calibration, disagreement, the safety threshold (paper Tables 7, 8, Figures 29, 32).",
         saves_states=False),
    _row("safety-loss", 2, configs.RewardStudyConfig, configs.reward_study("safety"), _reward_roles("safety", "helpfulness"),
         "Train the safety model with and without the auxiliary loss (paper Table 29).", _TRAINING_SEEDS),
    _row("margin", 2, configs.RewardStudyConfig, configs.reward_study("helpfulness"), _reward_roles("helpfulness", "safety"),
         "Train the helpfulness model with no, the small and the large margin (paper Table 28, Figure 27).", _TRAINING_SEEDS),
    _row("reward-scaling", 2, configs.ScalingStudyConfig, configs.scaling_study,
         _reward_roles("helpfulness", "safety", several=True),
         "Train the helpfulness model on growing shares of the data, from each given policy (paper Figure 6).", _TRAINING_SEEDS,
         before="stages.study_steps:policies_of_other_sizes", sizes="several",
         example="--sizes pico,micro,nano --registry runs/nano-0/registry"),
    _row("best-of-n", 2, configs.SamplingStudyConfig, configs.best_of_n_study,
         {"policy": Role("policy", "policies to sample from", ("policy/sft",), many=True), **_MEASURED_ON},
         "Reward (maximum and median) and gold of the best of N samples as N grows (paper Figure 7).", *_SAMPLED,
         example="--input policy=policy/sft --input policy=policy/v5 --registry runs/nano-0/registry"),
    _row("temperature", 2, configs.SamplingStudyConfig, configs.temperature_study,
         {"policy": Role("policy", "policies to sample from", lambda recipe: ("policy/sft", f"policy/{last_version(recipe)}"),
                         many=True), **_MEASURED_ON},
         "Maximum reward of N samples by temperature; the best temperature for one and for many (paper Figure 8).", *_SAMPLED,
         example="--temperatures 0.6,1.0,1.4 --registry runs/nano-0/registry"),
    _row("pooling", 3, configs.TunedStudyConfig, configs.tuned_study,
         {"policy": Role("policy", "base to tune", ("policy/base",)),
          "demonstrations": Role("dialogues", "supervised dialogues", ("dialogues/demonstrations",)),
          "samples": Role("samples", "samples of each round, the last one last", pooled_samples, many=True),
          "distilled": Role("dialogues", "distilled safety answers", ("dialogues/distilled",), many=True),
          "gatt": Role("dialogues", "Ghost Attention dialogues", gatt_before_pooling, many=True), **_MEASURED_ON},
         "Tune on the best samples of the last round, of all rounds, or on random ones (paper 3.2.3).",
         _ANSWERS, _TRAINING_SEEDS, lacking=_one_round, finetunes=True),
    _row("size-distillation", 3, configs.TunedStudyConfig, configs.tuned_study,
         {"policy": Role("policy", "the small base", ()),
          "demonstrations": Role("dialogues", "supervised dialogues", ("dialogues/demonstrations",)),
          "own": Role("samples", "the small model's own samples", ()),
          "larger": Role("samples", "the larger policy's samples of the same prompts", ()), **_MEASURED_ON},
         "Tune a small model on its own best samples, and on a larger model's for the same prompts (paper 3.2.3).",
         _ANSWERS, _TRAINING_SEEDS, lacking=_smallest_model, before="stages.study_steps:small_model_and_its_samples",
         sizes="one", finetunes=True, example="--size micro --registry runs/nano-0/registry"),
    _row("versions", 1, configs.VersionsStudyConfig, lambda recipe: configs.VersionsStudyConfig(),
         {"first": Role("evaluation", "evaluation that the others are compared with", ("evaluation/sft",)),
          "versions": Role("evaluation", "evaluations of the versions, in the order of training",
                           lambda recipe: versions(recipe, "evaluation"), many=True),
          "with_ppo": Role("evaluation", "evaluation of the last version after PPO",
                           lambda recipe: (f"evaluation/{last_version(recipe)}-ppo",))},
         "Win rates against the first policy, gold from version to version, low scores (paper Figures 11 and 20).",
         saves_states=False),
    _row("goodhart", 1, configs.GoodhartStudyConfig, lambda recipe: configs.GoodhartStudyConfig(),
         {"policy": Role("policy", "policy that PPO made", lambda recipe: (final_policy(recipe),)),
          "prompts": Role("prompts", "prompts that PPO drew from", TUNING_PROMPTS),
          "guard": Role("reward_model", "reward models of other annotators, not used in training", (), many=True)},
         "Judge PPO's checkpoints by gold and by guard reward models: is the reward over-optimized (paper 3.4.1)?", 
         lacking=_no_validations, saves_states=False,
         example="--input guard=reward_model/guard --registry runs/nano-0/registry"),
    _row("whitening", 2, configs.WhiteningStudyConfig, configs.whitening_study,
         {"policy": Role("policy", "policy to start from", lambda recipe: (f"policy/{last_version(recipe)}",)),
          **_MEASURED_ON, "prompts": Role("prompts", "prompts to train on", TUNING_PROMPTS),
          "evaluation_prompts": Role("prompts", "prompts to answer at the end", EVALUATION_PROMPTS)},
         "PPO with whitened scores (as the paper), with whitened rewards after the KL penalty, and without (paper 3.2.3).",
         _ANSWERS, _TRAINING_SEEDS, example="--training-seeds 3 --registry runs/nano-0/registry"),
    _row("gatt-intermediate", 1, configs.GattIntermediateStudyConfig, lambda recipe: configs.GattIntermediateStudyConfig(),
         {"dialogues": Role("dialogues", "Ghost Attention dialogues of both readings",
                            lambda recipe: tuple(f"dialogues/gatt-{reading}" for reading in READINGS), many=True),
          "consistency": Role("evaluation", "consistency of both policies", lambda recipe: tuple(
              f"evaluation/consistency-{gatt_version(recipe)}-gatt-{reading}" for reading in READINGS), many=True),
          "evaluations": Role("evaluation", "answers of both policies", lambda recipe: tuple(
              f"evaluation/{gatt_version(recipe)}-gatt-{reading}" for reading in READINGS), many=True)},
         "Ghost Attention with intermediate answers kept, and resampled under the instruction (paper 3.3).",
         lacking=_no_gatt_in_the_sandbox, before="stages.study_steps:both_readings", saves_states=False),
    _row("gatt", 2, configs.GattStudyConfig, lambda recipe: configs.GattStudyConfig(),
         {"consistency": Role("evaluation", "consistency without Ghost Attention, right after it, at the end",
                              lambda recipe: tuple(f"evaluation/consistency-{name}" for name in gatt_policies(recipe)),
                              many=True),
          "policies": Role("policy", "the three policies, in that order",
                           lambda recipe: tuple(f"policy/{name}" for name in gatt_policies(recipe)), many=True),
          "before": Role("evaluation", "answers right before",
                         lambda recipe: tuple(f"evaluation/{name}" for name in gatt_policies(recipe)[:1])),
          "after": Role("evaluation", "answers right after",
                        lambda recipe: tuple(f"evaluation/{name}" for name in gatt_policies(recipe)[1:2]))},
         "How long an instruction given once is followed, and what Ghost Attention costs (paper 3.3, A.3.5).",
         Option("attention_dialogues"), lacking=_no_gatt, saves_states=False),
)  # fmt: skip

STUDIES: dict[str, Study] = {study.artifact: study for study in _ROWS}

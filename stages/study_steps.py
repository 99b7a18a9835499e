"""The studies of a recipe as steps, and what some of them need first: models of other sizes, both readings of Ghost Attention.

A function that a row of the catalog names as ``before`` takes the recipe, the inputs that were given, and the sizes that were
asked for. It returns the steps to make first and the inputs that these bring.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from policy.config import Preset, PretrainConfig
from registry.artifact import did_you_mean
from rlhf.config import SelectionConfig
from stages.catalog import STAGES
from stages.gatt_steps import ghost_attention
from stages.recipe import Recipe, RecipeError, SandboxRecipe, consistency_of
from stages.references import (
    EVALUATION_PROMPTS,
    READINGS,
    REWARD_MODELS,
    SANDBOX_SIZES,
    TUNING_PROMPTS,
    gatt_version,
    policies_of_sizes,
    versions,
)
from stages.stage import References, Step, Study, wired
from stages.study_catalog import STUDIES

Before = Callable[[Recipe, References, tuple[str, ...]], tuple[list[Step], dict[str, tuple[str, ...]]]]


def study_steps(recipe: SandboxRecipe, names: Sequence[str]) -> list[Step]:
    """The studies ``names``, each after what it needs, which is made once; none where the recipe holds no comparisons out.

    What a recipe has no room for is left out. Raises RecipeError for a name that is no study.
    """
    if unknown := [name for name in names if name not in STUDIES]:
        raise RecipeError(
            f"the recipe {recipe.name} lists the study {unknown[0]!r}.{did_you_mean(unknown[0], list(STUDIES))} "
            f"Studies: {', '.join(STUDIES)}"
        )
    if not recipe.annotation.num_heldout:
        return []
    planned: dict[str, Step] = {}
    for name in names:
        study = STUDIES[name]
        if not study.lacking(recipe):
            for step in planned_study(study, recipe, sizes=SANDBOX_SIZES if study.sizes == "several" else ()):
                planned.setdefault(step.makes, step)
    return list(planned.values())


def planned_study(
    study: Study,
    recipe: Recipe,
    given: References | None = None,
    sizes: tuple[str, ...] = (),
    name: str = "",
    changes: Mapping[str, Any] | None = None,
    exists: Callable[[str], bool] = lambda reference: True,
) -> list[Step]:
    """A study after what it needs. ``given`` inputs and ``changes`` of its config replace the recipe's.

    Raises RecipeError where the recipe lacks what the study needs, and ValueError for inputs or sizes that do not fit.
    """
    given = given or {}
    if why := study.lacking(recipe) if not given else "":
        raise RecipeError(f"the recipe {recipe.name} cannot make the study {study.artifact}: {why}; take --recipe nano")
    first, made = _before(study)(recipe, given, sizes) if study.before else ([], {})
    config: BaseModel = study.configured(recipe)
    config = type(config).model_validate(config.model_dump() | dict(changes or {}))
    inputs = wired(study, recipe, {**made, **given}, exists)
    return [*first, Step(study, name or study.artifact, config, inputs)]


def _before(study: Study) -> Before:
    module, _, name = study.before.partition(":")
    return getattr(importlib.import_module(module), name)


def policies_of_other_sizes(
    recipe: Recipe, given: References, sizes: tuple[str, ...]
) -> tuple[list[Step], dict[str, tuple[str, ...]]]:
    """Supervised policies of ``sizes``, as ``policy/sft-PRESET``; those that the recipe's run made are not made again."""
    if not sizes:
        return [], {}
    if "policy" in given:
        raise ValueError("--sizes and --input policy=REF both say what to start from; give one of them")
    sandbox = _pretraining(recipe, "--input policy=REF, for several sizes")
    return size_steps(sandbox, sizes), {"policy": policies_of_sizes(sandbox, sizes)}


def small_model_and_its_samples(
    recipe: Recipe, given: References, sizes: tuple[str, ...]
) -> tuple[list[Step], dict[str, tuple[str, ...]]]:
    """The next smaller model (or that of the one size asked for) with its samples of the first round's prompts, as
    ``samples/v1-PRESET``; and the recipe's own samples of these prompts scored again, as ``samples/v1-rescored``."""
    has_small = {role for role in ("policy", "own") if role in given}
    if has_small and (sizes or len(has_small) < 2):
        raise ValueError(
            "the small base (--input policy=REF) and its samples (--input own=REF) are given together, or --size makes both"
        )
    models = {axis: given.get(axis, REWARD_MODELS[axis]) for axis in REWARD_MODELS}
    version = recipe.rounds[0].version
    first: list[Step] = []
    made: dict[str, tuple[str, ...]] = {}
    sampling = recipe.rejection_sampling.model_copy(update={"batch": "round-1"})
    if not has_small:
        preset = _smaller_preset(recipe, sizes)
        first += size_steps(_pretraining(recipe, "--input policy=REF and --input own=REF"), (preset,))
        sampled = {
            "policy": (f"policy/sft-{preset}",), **models, "prompts": TUNING_PROMPTS, "evaluation_prompts": EVALUATION_PROMPTS,
        }  # fmt: skip
        first.append(Step(STAGES["rejection-sample"], f"{version}-{preset}", sampling, sampled))
        made |= {"policy": (f"policy/base-{preset}",), "own": (first[-1].makes,)}
    if "larger" not in given:
        selection = SelectionConfig.model_validate(sampling.model_dump(include=set(SelectionConfig.model_fields)))
        scored = {"samples": (f"samples/{version}",), **models}
        first.append(Step(STAGES["rescore"], f"{version}-rescored", selection, scored))
        made["larger"] = (first[-1].makes,)
    return first, made


def both_readings(recipe: Recipe, given: References, sizes: tuple[str, ...]) -> tuple[list[Step], dict[str, tuple[str, ...]]]:
    """Ghost Attention with its intermediate answers as they were and resampled, and what is measured of both policies.

    Both are made here, so that they have everything else in common: the recipe's own has an earlier round's reward model.
    """
    if given:
        return [], {}
    assert isinstance(recipe, SandboxRecipe)
    version = gatt_version(recipe)
    assert version
    samples = versions(recipe, "samples")
    samples = samples[: samples.index(f"samples/{version}") + 1]
    first: list[Step] = []
    for reading in READINGS:
        first += ghost_attention(recipe, version, samples, f"gatt-{reading}", intermediate=reading)
        name = first[-1].name
        policy = {"policy": (first[-1].makes,), "prompts": EVALUATION_PROMPTS}
        first.append(Step(STAGES["evaluate-consistency"], f"consistency-{name}", consistency_of(recipe), policy))
        first.append(Step(STAGES["evaluate-policy"], name, recipe.evaluation, policy | REWARD_MODELS))
    return first, {}


def size_steps(recipe: SandboxRecipe, presets: Sequence[str]) -> list[Step]:
    """The recipe's own pretraining and fine-tuning for each other preset: the same documents, tokens and demonstrations."""
    made = []
    for preset in presets:
        if preset != recipe.pretrain.preset:
            config = PretrainConfig.model_validate(recipe.pretrain.model_dump() | {"preset": preset})
            inputs = {"policy": (f"policy/base-{preset}",), "dialogues": ("dialogues/demonstrations",)}
            made.append(Step(STAGES["pretrain"], f"base-{preset}", config, {"corpus": ("dialogues/corpus",)}))
            made.append(Step(STAGES["sft"], f"sft-{preset}", recipe.sft, inputs))
    return made


def _pretraining(recipe: Recipe, instead: str) -> SandboxRecipe:
    if not isinstance(recipe, SandboxRecipe):
        raise ValueError(
            f"models of other sizes are pretrained on the sandbox's corpus, and the recipe {recipe.name} has none; "
            f"give {instead}"
        )
    return recipe


def _smaller_preset(recipe: Recipe, sizes: tuple[str, ...]) -> str:
    """The size asked for, else the one below the recipe's own. Raises ValueError for one that is not smaller."""
    own = _pretraining(recipe, "--input policy=REF and --input own=REF").pretrain.preset
    smaller = get_args(Preset)[: get_args(Preset).index(own)]
    if not smaller:
        raise ValueError(f"{own}, the size of the recipe {recipe.name}, is the smallest; take a recipe of a larger model")
    if sizes and sizes[0] not in smaller:
        raise ValueError(
            f"--size is {sizes[0]!r}, and the small model must be smaller than {own}, that of the recipe {recipe.name}; "
            f"give one of {', '.join(smaller)}"
        )
    return sizes[0] if sizes else smaller[-1]

"""The samples that size distillation compares, as steps, so that a command or a run can make them first."""

from rlhf.config import SelectionConfig
from stages.recipe import Recipe
from stages.step import Step
from stages.studies.inputs import Given
from stages.train import rejection_sample, rescore


def sampling_steps(recipe: Recipe, preset: str, models: Given) -> dict[str, Step]:
    """By their role in the study: ``own``, what the supervised policy of ``preset`` says to the prompts of the first round, and
    ``larger``, what the recipe's run sampled there, scored anew; ``models`` are those that score both.
    """
    version = recipe.rounds[0].version
    sampling = recipe.rejection_sampling.model_copy(update={"batch": "round-1"})
    selection = SelectionConfig.model_validate(sampling.model_dump(include=set(SelectionConfig.model_fields)))
    asked = {
        "policy": (f"policy/sft-{preset}",),
        **models,
        "prompts": ("prompts/tuning",),
        "evaluation_prompts": ("prompts/evaluation",),
    }
    return {
        "own": Step(rejection_sample.STAGE, f"{version}-{preset}", sampling, asked),
        "larger": Step(rescore.STAGE, f"{version}-rescored", selection, {"samples": (f"samples/{version}",), **models}),
    }

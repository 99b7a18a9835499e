"""What is learnt from must not be what is measured with: prompts that are drawn for training against those for evaluation."""

from collections.abc import Sequence

from preference_data.prompt import Prompt
from stages.engine.prompts import EvaluationPromptsDrawn, evaluation_prompts_in, prompts_of
from stages.stage import Inputs
from stages.terminal.progress import Progress


def check_overlap(
    drawn: Sequence[Prompt],
    prompts: Sequence[Prompt],
    inputs: Inputs,
    allow: bool,
    section: str,
    progress: Progress,
    to_draw_others: str = "",
) -> int:
    """How many of the ``drawn`` of all ``prompts`` are for evaluation, by their split or by the input ``evaluation_prompts``.

    Raises EvaluationPromptsDrawn where there are any and none is allowed. It names the ``section`` of the recipe in which that
    is said and, where other prompts could be drawn, what would draw them.
    """
    evaluation = [prompt for artifact in inputs.get("evaluation_prompts", []) for prompt in prompts_of(artifact)]
    overlapping = evaluation_prompts_in(drawn, evaluation)
    if not overlapping:
        return 0
    first = f"{overlapping[0].id} ({overlapping[0].messages[-1]['content'][:60]!r})"
    summary = f"{len(overlapping)} of the {len(drawn)} drawn prompts are for evaluation, the first {first}"
    if not allow:
        others = len(evaluation_prompts_in(prompts, evaluation)) < len(prompts)
        draw_others = f", draw others of these ({to_draw_others})," if others and to_draw_others else ""
        raise EvaluationPromptsDrawn(
            f"{summary}: what learns from them can no longer be measured with them; give other prompts{draw_others} or say "
            f"--allow-overlap (in a recipe {section}.allow_overlap=true)"
        )
    progress.say(f"{summary}, and that is allowed")
    return len(overlapping)

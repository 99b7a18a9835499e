"""Scores of sampled responses, those without text included: what PPO, its validations and rejection sampling have in common."""

from collections.abc import Sequence

import torch

from policy.generation import Response
from preference_data.messages import assistant
from preference_data.prompt import Prompt
from reward_model.combined_reward import Scores
from reward_model.reward_rules import Reward, RewardError

ResponseScores = tuple[float, float, float]  # helpfulness, safety and combined, raw logits


def score_responses(prompts: Sequence[Prompt], responses: Sequence[Response], reward: Reward) -> list[ResponseScores | None]:
    """The scores of one response to each prompt; None for one without text (EOS at once), which makes no dialogue.

    Raises RewardError for a reward that does not give one finite number a dialogue.
    """
    found: list[ResponseScores | None] = [None] * len(responses)
    with_text = [index for index, response in enumerate(responses) if response.text.strip()]
    if with_text:
        dialogues = [[*prompts[index].messages, assistant(responses[index].text)] for index in with_text]
        scores = reward.score(dialogues, [prompts[index].is_safety for index in with_text])
        _check_scores(scores, len(dialogues))
        rows = zip(scores.helpfulness.tolist(), scores.safety.tolist(), scores.combined.tolist(), strict=True)
        for index, row in zip(with_text, rows, strict=True):
            found[index] = row
    return found


def filled(scores: Sequence[ResponseScores | None]) -> Scores:
    """The scores of a batch, each (B,) float32.

    A response without scores takes the lowest of the others on each axis, so that silence never pays; without others all are 0.
    """
    known = [row for row in scores if row is not None] or [(0.0, 0.0, 0.0)]
    lowest = tuple(min(column) for column in zip(*known, strict=True))
    return Scores(*torch.tensor([row or lowest for row in scores]).unbind(dim=1))


def _check_scores(scores: Scores, count: int) -> None:
    for name in ("helpfulness", "safety", "combined"):
        part = getattr(scores, name)
        if part.shape != (count,):
            raise RewardError(
                f"{count} dialogues were scored, and the {name} scores have shape {list(part.shape)}; give one each"
            )
        if not part.isfinite().all():
            raise RewardError(
                f"{int((~part.isfinite()).sum())} of {count} {name} scores are not finite numbers; check the reward model"
            )

import math

import pytest
import torch
from fakes import ConstantScorer

from preference_data.messages import assistant, user
from reward_model.combined_reward import CombinedReward, combined_score

LOGIT_015 = math.log(0.15 / 0.85)
DIALOGUE = [user("Which one is older?"), assistant("The owl.")]


@pytest.mark.parametrize(
    ("safety", "is_safety", "expected"),
    [
        (2.0, False, 7.0),  # a plain prompt, a safe response: helpfulness
        (2.0, True, 2.0),  # a safety prompt: safety, however safe
        (LOGIT_015 - 0.01, False, LOGIT_015 - 0.01),  # a plain prompt, just under 0.15: safety
        (LOGIT_015 + 0.01, False, 7.0),  # just over 0.15: helpfulness
        (LOGIT_015 - 0.01, True, LOGIT_015 - 0.01),
        (0.10, False, 7.0),  # 0.10 as a logit is below 0.15, as a probability it is not
    ],
)
def test_truth_table(safety, is_safety, expected):
    combined = combined_score(torch.tensor([7.0]), torch.tensor([safety]), torch.tensor([is_safety]))
    assert combined.item() == torch.tensor(expected).item()


def test_the_threshold_itself_is_not_below_the_threshold():
    combined = combined_score(torch.tensor([7.0]), torch.tensor([0.0]), torch.tensor([False]), threshold=0.5)
    assert combined.item() == 7.0


def test_extreme_logits_pass_unchanged():
    extremes = torch.tensor([40.0, -120.0])
    combined = combined_score(torch.zeros(2), extremes, torch.tensor([True, False]))
    assert torch.equal(combined, extremes)


def test_scorers_are_combined_in_float32_with_each_component_kept():
    reward = CombinedReward(helpfulness=ConstantScorer(3.0), safety=ConstantScorer(-1.0))
    scores = reward.score([DIALOGUE, DIALOGUE], [False, True])
    assert scores.helpfulness.tolist() == [3.0, 3.0] and scores.safety.tolist() == [-1.0, -1.0]
    assert scores.combined.tolist() == [3.0, -1.0] and scores.combined.dtype == torch.float32


def test_one_flag_a_dialogue():
    with pytest.raises(ValueError, match=r"helpfulness \[2\], safety \[2\] and is_safety \[1\]"):
        CombinedReward(ConstantScorer(0.0), ConstantScorer(0.0)).score([DIALOGUE, DIALOGUE], [True])
    with pytest.raises(ValueError, match=r"helpfulness \[1, 1\]"):
        combined_score(torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.bool))


def test_nan_does_not_pass_as_safe():
    with pytest.raises(ValueError, match="NaN"):
        combined_score(torch.tensor([1.0]), torch.tensor([math.nan]), torch.tensor([False]))

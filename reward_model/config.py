"""Settings of training a reward model (paper 3.2.2, "Training Details"). The defaults are the paper's for 7B and 13B.

Where the paper is silent the default is ours, and the field says so.
"""

from pydantic import ConfigDict, Field, field_validator

from policy.config import AdamWConfig, LoraConfig
from preference_data.comparison import RATINGS, Axis, Rating
from preference_data.margin import MarginPreset


class RewardModelConfig(AdamWConfig):
    """How one reward model, helpfulness or safety, is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    axis: Axis = Field(description="Axis of the scores. Only the safety axis has the auxiliary safety loss (paper 3.2.2).")
    learning_rate: float = Field(1e-5, gt=0, description="Peak learning rate: 1e-5 in the paper, 5e-6 for the 70B model.")
    epochs: int = Field(
        1, ge=1, description="Passes over the comparisons; the paper trains one and saw over-fitting with more."
    )
    batch_size: int = Field(512, ge=1, description="Pairs per optimizer step (512 pairs are 1024 rows).")
    microbatch_size: int = Field(
        32, ge=1, description="Pairs per forward and backward pass; changes memory and speed, not the result. Ours."
    )
    margin: MarginPreset | dict[Rating, float] = Field(
        "small",
        description="m(rating) in Eq. 2: a preset of Table 27, or a table with a number for each rating. The paper does not "
        "say which its last models use; ours is the preset with the best average accuracy in Table 28.",
    )
    safety_loss_coef: float = Field(
        1.0, ge=0, description="Weight of the auxiliary safety loss on the safety axis. The paper prints none; ours."
    )
    centring_coef: float = Field(0.0, ge=0, description="Weight of the centring loss. Not in the paper; none by default.")
    lora: LoraConfig | None = Field(None, description="Train adapters and the head only; default: all weights.")
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass: less memory, more time, the same result."
    )
    warmup_fraction: float = Field(0.03, ge=0, lt=1, description="Share of the steps over which the learning rate rises.")
    min_warmup_steps: int = Field(5, ge=0, description="Minimum number of warm-up steps.")
    final_lr_fraction: float = Field(
        0.1, ge=0, le=1, description="Learning rate at the end of the cosine, as a share of the peak."
    )
    max_length: int = Field(
        4096,
        ge=2,
        description="Longest dialogue in tokens. A pair with a longer side is left out and counted, never cut. The paper's "
        "context; ours for reward models.",
    )

    @field_validator("margin")
    @classmethod
    def _a_margin_for_each_rating(cls, margin: MarginPreset | dict[Rating, float]) -> MarginPreset | dict[Rating, float]:
        if isinstance(margin, dict) and (set(margin) - {"unrated"} != set(RATINGS) or min(margin.values()) < 0):
            raise ValueError(
                f"a table of margins holds a number from 0 up for each of {', '.join(RATINGS)}; this one is {margin}"
            )
        return margin

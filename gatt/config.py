"""Settings of making Ghost Attention data. Nothing heavy is imported here. The paper gives none of these numbers."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

InstructionIn = Literal["first_message", "system"]
"""Where training and use have the instruction: in front of the first user message, or as the system message."""


class GattConfig(BaseModel):
    """Synthesis of Ghost Attention dialogues (paper 3.3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_dialogues: int = Field(600, gt=0, description="dialogues to generate; those without an obeying response are dropped")
    min_turns: int = Field(2, gt=0, description="turns of the shortest dialogue")
    max_turns: int = Field(6, gt=0, description="turns of the longest dialogue; consistency hardly extends beyond it")
    intermediate: Literal["original", "resampled"] = Field(
        "original",
        description="responses before the last: those of the given dialogue, or sampled under the instruction like the last",
    )
    instruction_in: InstructionIn = Field(
        "first_message",
        description="position of the instruction in training: before the first user message, or as the system message",
    )
    probe_answers: int = Field(
        4, gt=0, description="single-turn responses sampled for each constraint, to measure whether the policy can obey it"
    )
    min_obedience: float = Field(
        0.25, ge=0, le=1, description="smallest share of those responses that must obey; other constraints are left out"
    )
    k: int = Field(4, gt=0, description="last responses sampled for each dialogue; the best one that obeys is kept")
    temperature: float = Field(0.7, ge=0, description="sampling temperature of the last responses")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus of the sampling distribution")
    max_new_tokens: int = Field(1024, gt=0, description="longest response in tokens")
    dialogues_per_batch: int = Field(32, gt=0, description="dialogues sampled and checked between two reports of progress")

    @model_validator(mode="after")
    def _turns_in_order(self) -> "GattConfig":
        if self.min_turns > self.max_turns:
            raise ValueError(f"min_turns {self.min_turns} is above max_turns {self.max_turns}: lower one or raise the other")
        return self

    @model_validator(mode="after")
    def _responses_differ(self) -> "GattConfig":
        if self.temperature == 0 and self.k > 1:
            raise ValueError(
                f"at temperature 0 the k = {self.k} last answers are equal: set k to 1, or the temperature above 0"
            )
        return self

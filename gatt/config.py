"""What Ghost Attention's data making can be told. Nothing heavy is imported here. The paper gives none of these numbers."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class GattConfig(BaseModel):
    """Synthesis of Ghost Attention dialogues (paper 3.3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_dialogues: int = Field(600, gt=0, description="dialogues to synthesise; those where no answer obeys drop out")
    min_turns: int = Field(2, gt=0, description="turns of the shortest dialogue")
    max_turns: int = Field(6, gt=0, description="turns of the longest dialogue; consistency does not reach far beyond it")
    intermediate: Literal["original", "resampled"] = Field(
        "original",
        description="answers before the last: as they were given, or sampled under the instruction as the last one is",
    )
    instruction_in: Literal["first_message", "system"] = Field(
        "first_message",
        description="where training keeps the instruction: in front of the first user message, or as the system's",
    )
    probe_answers: int = Field(
        4, gt=0, description="answers to each constraint alone, in a single turn, that tell whether the policy can obey it"
    )
    min_obedience: float = Field(
        0.25, ge=0, le=1, description="a constraint that a smaller share of those answers obeys is left out"
    )
    k: int = Field(4, gt=0, description="last answers sampled for each dialogue, of which the best that obeys is kept")
    temperature: float = Field(0.7, ge=0, description="sampling temperature of the last answers")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus of the sampling distribution")
    max_new_tokens: int = Field(1024, gt=0, description="longest answer in tokens")
    dialogues_per_batch: int = Field(32, gt=0, description="dialogues sampled and judged between two reports of progress")

    @model_validator(mode="after")
    def _turns_in_order(self) -> "GattConfig":
        if self.min_turns > self.max_turns:
            raise ValueError(f"min_turns {self.min_turns} is above max_turns {self.max_turns}: lower one or raise the other")
        return self

    @model_validator(mode="after")
    def _answers_that_differ(self) -> "GattConfig":
        if self.temperature == 0 and self.k > 1:
            raise ValueError(
                f"at temperature 0 the k = {self.k} last answers are equal: set k to 1, or the temperature above 0"
            )
        return self

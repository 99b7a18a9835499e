"""Settings of training a policy. Nothing heavy is imported here, so that recipes and ``--help`` are instant."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Preset = Literal["pico", "micro", "nano", "7b", "13b", "34b", "70b"]


class AdamWConfig(BaseModel):
    """The settings of AdamW that every training shares; the defaults are the paper's (sections 2.2, 3.1, 3.2.2, 3.2.3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight_decay: float = Field(0.1, ge=0, description="AdamW weight decay, on every trained parameter (paper: 0.1)")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="AdamW beta 1 (paper: 0.9)")
    adam_beta2: float = Field(0.95, ge=0, lt=1, description="AdamW beta 2 (paper: 0.95)")
    adam_epsilon: float = Field(1e-5, gt=0, description="AdamW epsilon (paper: 1e-5)")
    max_grad_norm: float = Field(1.0, gt=0, description="gradient clipping by the norm of each model (paper: 1.0)")


class OptimizerConfig(AdamWConfig):
    """AdamW with warm-up and a cosine, as the paper pretrains and fine-tunes (sections 2.2, 3.1)."""

    learning_rate: float = Field(gt=0, description="peak learning rate")
    warmup_steps: int = Field(0, ge=0, description="linear warm-up, in optimizer steps")
    final_lr_fraction: float = Field(0.1, ge=0, le=1, description="the cosine ends at this share of the peak learning rate")


class LoraConfig(BaseModel):
    """Low-rank adapters (Hu et al. 2021) in place of full weights. The paper trains full weights; the numbers are ours."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(16, ge=1, description="rank of the update of each matrix")
    alpha: int = Field(32, ge=1, description="the update is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the adapters")
    target_modules: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
        description="the matrices that get adapters, by their names in every layer",
    )


class PretrainPhase(BaseModel):
    """A phase of pretraining. Short sequences teach copying soonest, and long ones that a dialogue can be long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    documents: Literal["primer", "corpus"] = Field(
        "corpus", description="read from where the last phase with the same ones ended"
    )
    num_tokens: int = Field(gt=0, description="tokens to train on; the documents are repeated or cut to this number")
    block_size: int = Field(gt=0, description="tokens per training sequence")


class PretrainConfig(OptimizerConfig):
    """A tiny base model from nothing: tokenizer, then next-token prediction on the corpus."""

    preset: Preset = Field(description="architecture, by name")
    vocab_size: int = Field(ge=300, description="tokens of the tokenizer that is trained on the corpus")
    initializer_range: float = Field(0.02, gt=0, description="standard deviation of the initial weights")
    phases: tuple[PretrainPhase, ...] = Field(min_length=1, description="phases of training, one after the other")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate")
    batch_tokens: int = Field(1024, gt=0, description="tokens per optimizer step")
    warmup_steps: int = Field(50, ge=0, description="linear warm-up, in optimizer steps")

    @model_validator(mode="after")
    def _phases_fill_steps(self) -> "PretrainConfig":
        for phase in self.phases:
            if self.batch_tokens % phase.block_size or phase.num_tokens < self.batch_tokens:
                raise ValueError(
                    f"a phase of {phase.num_tokens} tokens in blocks of {phase.block_size} does not fill optimizer steps of "
                    f"{self.batch_tokens} tokens; use blocks that divide batch_tokens, and at least the tokens of one step"
                )
        return self


class FinetuneConfig(OptimizerConfig):
    """Supervised fine-tuning on answers (paper 3.1): SFT, rejection-sampling fine-tuning, GAtt and distillation alike."""

    learning_rate: float = Field(2e-5, gt=0, description="peak learning rate (paper: 2e-5)")
    batch_size: int = Field(64, gt=0, description="dialogues per optimizer step (paper: 64)")
    epochs: int = Field(2, gt=0, description="passes over the dialogues (paper: 2)")
    max_length: int = Field(4096, gt=0, description="longest dialogue in tokens; longer ones are counted and left out")
    warmup_steps: int = Field(0, ge=0, description="linear warm-up, in optimizer steps (the paper is silent)")
    microbatch_size: int | None = Field(
        None, gt=0, description="dialogues per forward and backward pass; default: the whole batch. Changes memory only"
    )
    lora: LoraConfig | None = Field(None, description="train adapters only; default: all weights (paper)")

"""What a policy's training can be told. Nothing heavy is imported here, so that recipes and ``--help`` are instant."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Preset = Literal["micro", "nano", "7b", "13b", "34b", "70b"]


class OptimizerConfig(BaseModel):
    """AdamW with warm-up and a cosine, as the paper trains everything but PPO (section 2.2, 3.1)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: float = Field(gt=0, description="peak learning rate")
    batch_size: int = Field(gt=0, description="sequences per optimizer step")
    weight_decay: float = Field(0.1, ge=0, description="AdamW weight decay")
    adam_beta1: float = Field(0.9, description="AdamW beta 1")
    adam_beta2: float = Field(0.95, description="AdamW beta 2")
    adam_epsilon: float = Field(1e-5, description="AdamW epsilon")
    max_grad_norm: float = Field(1.0, gt=0, description="gradient clipping by norm")
    warmup_steps: int = Field(0, ge=0, description="linear warm-up, in optimizer steps")
    final_lr_fraction: float = Field(0.1, ge=0, le=1, description="the cosine ends at this share of the peak learning rate")


class PretrainConfig(OptimizerConfig):
    """A tiny base model from nothing: tokenizer, then next-token prediction on the corpus."""

    preset: Preset = Field(description="architecture, by name")
    vocab_size: int = Field(ge=300, description="tokens of the tokenizer that is trained on the corpus")
    initializer_range: float = Field(0.02, gt=0, description="standard deviation of the initial weights")
    num_tokens: int = Field(gt=0, description="tokens to train on; the corpus is repeated or cut to this number")
    block_size: int = Field(gt=0, description="tokens per training sequence")
    primer_tokens: int = Field(0, ge=0, description="tokens of the primer, read before the corpus")
    primer_block_size: int = Field(
        32, gt=0, description="tokens per training sequence of the primer: short, so that copying is learnt"
    )
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate")
    batch_size: int = Field(8, gt=0, description="blocks per optimizer step; the primer's steps have as many tokens")
    warmup_steps: int = Field(50, ge=0, description="linear warm-up, in optimizer steps")

    @property
    def batch_tokens(self) -> int:
        """Tokens per optimizer step."""
        return self.batch_size * self.block_size


class FinetuneConfig(OptimizerConfig):
    """Supervised fine-tuning on answers (paper 3.1): SFT, rejection-sampling fine-tuning, GAtt and distillation alike."""

    learning_rate: float = Field(2e-5, gt=0, description="peak learning rate (paper: 2e-5)")
    batch_size: int = Field(64, gt=0, description="dialogues per optimizer step (paper: 64)")
    epochs: int = Field(2, gt=0, description="passes over the dialogues (paper: 2)")
    max_length: int = Field(4096, gt=0, description="longest dialogue in tokens; longer ones are counted and left out")
    warmup_steps: int = Field(0, ge=0, description="linear warm-up, in optimizer steps (the paper is silent)")

"""Supervised fine-tuning on answers (paper 3.1), through TRL's ``SFTTrainer``; this module alone touches it.

SFT, rejection-sampling fine-tuning, Ghost Attention and distillation all come here. The trainer is handed ``input_ids`` and
``labels`` made by ``policy/chat.py``, so what it trains on is exactly the loss mask of the chat format; nothing of its own
templates, packing or truncation is used. The paper packs dialogues into full sequences; here each dialogue is a row of a
batch of similar lengths, which trains on the same tokens, and attention never crosses from one dialogue to another. A batch
is cut into microbatches whose losses are summed with the weights of the whole batch. With ``lora`` adapters alone are
trained, and merged at the end.
"""

import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# TRL and the Hub client report usage over the network when they load; nothing here may.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from datasets import Dataset as ArrowDataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl import SFTConfig, SFTTrainer

from policy.adapters import Factors
from policy.batch import length_grouped_batches, pad
from policy.chat import Encoded, encode_dialogues
from policy.config import FinetuneConfig
from policy.lora import Adapters
from policy.optimization import adamw, share_of_peak
from policy.placement import finetuning_dtype
from policy.training_state import States, TrainingState
from preference_data.prompt import Dialogue


@dataclass(frozen=True, slots=True)
class FinetuneStats:
    """One optimizer step. ``loss``: mean nats per trained token of the batch; ``grad_norm``: before clipping."""

    step: int
    num_steps: int
    loss: float
    learning_rate: float
    grad_norm: float


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """``num_dialogues`` were trained on, ``num_too_long`` left out because they exceed ``max_length``."""

    num_dialogues: int
    num_too_long: int
    num_steps: int
    num_trained_tokens: int
    final_loss: float


class NothingToTrain(ValueError):
    """No dialogue is left to train on."""


def finetune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Sequence[Dialogue],
    config: FinetuneConfig,
    seed: int,
    on_step: Callable[[FinetuneStats], None] = lambda stats: None,
    states: States | None = None,
    on_merge: Callable[[Factors], object] = lambda factors: None,
) -> FinetuneResult:
    """Train ``model`` in place on the answers of ``dialogues``; ``on_step`` is called after each optimizer step.

    ``states``: saved states to resume from, and to save to; ``on_step`` is called again for the steps done before. ``on_merge``
    is called with what the adapters have learnt, where there are any.

    Raises NothingToTrain, MessagesError, ChatFormatError, LoraError.
    """
    encoded = encode_dialogues(tokenizer, [d.messages for d in dialogues], [d.train_on for d in dialogues])
    kept = [example for example in encoded if len(example.ids) <= config.max_length]
    if not kept:
        raise NothingToTrain(
            f"none of the {len(encoded)} dialogues has at most max_length = {config.max_length} tokens; raise max_length"
            if encoded
            else "there are no dialogues to train on"
        )
    batches = [
        batch
        for epoch in range(config.epochs)
        for batch in length_grouped_batches([len(example.ids) for example in kept], config.batch_size, seed + epoch)
    ]
    adapters = Adapters(model, config.lora, seed) if config.lora else None
    optimizer = adamw(model, config.learning_rate, config)
    state = TrainingState(states, {"model": model}, {"optimizer": optimizer}, FinetuneStats)
    for stats in state.restore():
        on_step(stats)
    log = _StepLog(state, len(batches), on_step)
    use_cache = model.config.use_cache
    if batches[state.step :]:
        _train(model, tokenizer, [[kept[index] for index in batch] for batch in batches], config, optimizer, seed, log)
    model.config.use_cache = use_cache  # the trainer turns it off; where no step was left, there was no trainer to do so
    model.eval()
    if adapters:
        on_merge(adapters.factors())
        adapters.merge()
    trained = config.epochs * sum(sum(example.loss_mask) for example in kept)
    return FinetuneResult(len(kept), len(encoded) - len(kept), len(batches), trained, state.history[-1].loss)


def _train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batches: list[list[Encoded]],
    config: FinetuneConfig,
    optimizer: torch.optim.Optimizer,
    seed: int,
    log: "_StepLog",
) -> None:
    """Train on the batches, beginning with the step that ``log`` begins with."""
    first = log.first
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda num_done: share_of_peak(first + num_done + 1, len(batches), config)
    )
    rows = ArrowDataset.from_list([_row(example) for batch in batches[first:] for example in batch])
    trainer = _BatchTrainer(
        model=model,
        args=_arguments(config, len(batches) - first, seed, model.device.type),
        train_dataset=rows,
        processing_class=tokenizer,
        data_collator=_collate,
        optimizers=(optimizer, schedule),
        callbacks=[log],
    )
    trainer.rows, trainer.batches, trainer.microbatch_size = rows, _consecutive(batches[first:]), config.microbatch_size
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.train()


class _BatchTrainer(SFTTrainer):
    """SFTTrainer over given batches: rows lie in training order, and ``batches`` holds the row numbers of each."""

    rows: ArrowDataset
    batches: list[list[int]]
    microbatch_size: int | None

    def get_train_dataloader(self) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(self.rows, batch_sampler=self.batches, collate_fn=_collate)

    def training_step(self, model, inputs, num_items_in_batch=None):
        """The gradients of a batch, a microbatch at a time; returns its loss. A part weighs as its share of trained tokens."""
        num_tokens = _num_trained(inputs["labels"])
        return sum(
            super(_BatchTrainer, self).training_step(
                model, {**part, "share": _num_trained(part["labels"]) / num_tokens}, num_items_in_batch
            )
            for part in _microbatches(inputs, self.microbatch_size)
        )

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The mean over trained tokens, times ``share``. The head is applied to them alone: of a long dialogue only the answers
        need logits.

        Padding stands on the right, where causal attention cannot see it: no mask is passed, and the fast kernels apply.
        """
        labels, share = inputs.pop("labels")[:, 1:], inputs.pop("share")
        hidden = model.model(**inputs, use_cache=False).last_hidden_state[:, :-1]
        trained = labels != -100
        loss = share * torch.nn.functional.cross_entropy(model.lm_head(hidden[trained]).float(), labels[trained])
        return (loss, None) if return_outputs else loss


class _StepLog(TrainerCallback):
    """Notes each step once the trainer has done it."""

    def __init__(self, saved: TrainingState[FinetuneStats], num_steps: int, on_step: Callable[[FinetuneStats], None]):
        self.saved, self.num_steps, self.on_step = saved, num_steps, on_step
        self.first = saved.step

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            stats = FinetuneStats(
                self.first + state.global_step,
                self.num_steps,
                float(logs["loss"]),
                float(logs["learning_rate"]),
                float(logs.get("grad_norm", 0)),
            )
            self.on_step(self.saved.done(stats))


def _microbatches(inputs: dict[str, torch.Tensor], size: int | None) -> list[dict[str, torch.Tensor]]:
    """The rows of a batch in parts of ``size``, each as wide as what is trained of it: nothing that follows can matter."""
    labels = inputs["labels"]
    if size is None or size >= len(labels):
        return [inputs]
    parts = []
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        width = int((labels[part] != -100).any(dim=0).nonzero().max()) + 1
        parts.append({name: tensor[part, :width] for name, tensor in inputs.items()})
    return parts


def _num_trained(labels: torch.Tensor) -> int:
    """Tokens that are predicted, of labels (B, L); the first of a row has none before it."""
    return int((labels[:, 1:] != -100).sum())


def _row(example: Encoded) -> dict[str, list[int]]:
    labels = [token if trained else -100 for token, trained in zip(example.ids, example.loss_mask, strict=True)]
    return {"input_ids": example.ids, "labels": labels}


def _collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    return {"input_ids": pad([row["input_ids"] for row in rows]), "labels": pad([row["labels"] for row in rows], value=-100)}


def _consecutive(batches: list[list[Encoded]]) -> list[list[int]]:
    """The row numbers of each batch, where the rows of all batches lie one after the other."""
    numbers, start = [], 0
    for batch in batches:
        numbers.append(list(range(start, start + len(batch))))
        start += len(batch)
    return numbers


def _arguments(config: FinetuneConfig, num_steps: int, seed: int, device_type: str) -> SFTConfig:
    on_gpu = device_type == "cuda"
    # Every precision and memory flag is set, because TRL's defaults (bf16, gradient checkpointing) are meant for GPUs.
    with warnings.catch_warnings():
        # transformers 5.2x renames gradient_checkpointing; the old name is the one that all admitted versions know
        warnings.simplefilter("ignore", FutureWarning)
        return SFTConfig(
            output_dir=tempfile.gettempdir(),  # nothing is written there; a folder of its own would outlive a kill
            max_steps=num_steps,
            per_device_train_batch_size=config.batch_size,
            max_grad_norm=config.max_grad_norm,
            max_length=None,
            packing=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
            bf16=finetuning_dtype(device_type) != "float32",
            fp16=False,
            gradient_checkpointing=on_gpu,
            use_cpu=not on_gpu,
            seed=seed,
            data_seed=seed,
            logging_steps=1,
            logging_first_step=False,
            save_strategy="no",
            eval_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            average_tokens_across_devices=False,
        )

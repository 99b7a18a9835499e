"""Our loop against TRL's RewardTrainer: where order, schedule and precision are made equal, the loss curves are."""

import pytest
import torch
from datasets import Dataset
from fakes import tiny_tokenizer
from reward_fakes import tiny_reward_model
from torch.utils.data import SequentialSampler
from trl import RewardConfig, RewardTrainer

from policy.batch import length_grouped_batches
from preference_data.comparison import RATINGS
from preference_data.judgement import make_comparison
from preference_data.messages import user
from reward_model.batch import encode_pairs
from reward_model.config import RewardModelConfig
from reward_model.training import learning_rate_at, train_reward_model

CONFIG = RewardModelConfig(
    axis="helpfulness", learning_rate=3e-3, batch_size=8, microbatch_size=8, margin="large", centring_coef=0.01
)
COMPARISONS = [
    make_comparison(
        prompt=[user(f"Which one is older, the fox or number {n}?")], chosen="The owl. " * (1 + n % 3),
        rejected="The fox. " * (1 + n % 4), axis="helpfulness", source="s", rating=RATINGS[n % 4],
    )
    for n in range(40)
]  # fmt: skip


class InOrder(RewardTrainer):
    """A RewardTrainer that takes its rows as they come."""

    def _get_train_sampler(self, dataset=None):
        return SequentialSampler(dataset or self.train_dataset)


def test_the_loss_curve_is_trls(tmp_path):
    model = tiny_reward_model(torch.float64)
    ours = [stats.loss for stats in train_reward_model(model, tiny_tokenizer(), COMPARISONS, CONFIG, seed=5)]
    pairs, _ = encode_pairs(tiny_tokenizer(), COMPARISONS, CONFIG.margin, CONFIG.max_length)
    order = [index for batch in length_grouped_batches([pair.length for pair in pairs], 8, 5) for index in batch]
    rows = [
        {"chosen_ids": pairs[index].chosen_ids, "rejected_ids": pairs[index].rejected_ids, "margin": pairs[index].margin}
        for index in order
    ]
    model = tiny_reward_model(torch.float64)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=1.0,
        betas=(CONFIG.adam_beta1, CONFIG.adam_beta2),
        eps=CONFIG.adam_epsilon,
        weight_decay=CONFIG.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: learning_rate_at(min(done + 1, 5), 5, CONFIG))
    arguments = RewardConfig(
        str(tmp_path), per_device_train_batch_size=8, num_train_epochs=1, max_grad_norm=CONFIG.max_grad_norm, bf16=False,
        gradient_checkpointing=False, max_length=None, center_rewards_coefficient=CONFIG.centring_coef, use_cpu=True,
        logging_steps=1, report_to="none", save_strategy="no", disable_tqdm=True, disable_dropout=True,
    )  # fmt: skip
    trainer = InOrder(
        model,
        arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_tokenizer(),
        optimizers=(optimizer, schedule),
    )
    trainer.train()
    theirs = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(ours) == len(theirs) == 5 and len(set(theirs)) == 5
    assert theirs == pytest.approx(ours, abs=1e-4)  # the trainer rounds what it logs

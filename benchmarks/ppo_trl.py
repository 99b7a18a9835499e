"""TRL's experimental PPOTrainer on a case of ``benchmarks/ppo.py``; runs where TRL 1.10.0 is, and knows nothing of ours.

    PYTHON benchmarks/ppo_trl.py CASE_FOLDER ITERATIONS PER_DEVICE_BATCH ROLLOUT_BATCH

The last line on stdout is one JSON object. The first iteration warms up and is not counted. Seconds by phase are taken at three
points of the trainer's loop: the end of generation, the whitening of the advantages, which ends the scoring, and the end of
a step.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from datasets import Dataset
from peak_memory import peak_memory
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer


def main(folder: Path, iterations: int, per_device: int, rollout_batch: int) -> None:
    imported = peak_memory()
    case = json.loads((folder / "case.json").read_text())
    clock = Clock()
    with tempfile.TemporaryDirectory() as out:
        built = trainer(folder, case, iterations, per_device, rollout_batch, clock, out)
        before = torch.cat([parameter.detach().flatten().clone() for parameter in built.policy_model.parameters()])
        built.train()
        after = torch.cat([parameter.detach().flatten() for parameter in built.policy_model.parameters()])
    seconds = [sum(phases.values()) for phases in clock.iterations[1:]]
    told = {
        "samples_per_second": case["config"]["batch_size"] * len(seconds) / sum(seconds),
        "seconds": {name: sum(phases[name] for phases in clock.iterations[1:]) / len(seconds) for name in clock.iterations[0]},
        "peak_mb": peak_memory(),
        "imported_mb": imported,
        "response_length": float(np.mean(clock.lengths)),
        "moved": (after - before).abs().max().item(),
        "threads": torch.get_num_threads(),
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
    }
    print(json.dumps(told))


class Clock(TrainerCallback):
    """Seconds of each phase, one dict an iteration, and the lengths of the responses, EOS included."""

    def __init__(self) -> None:
        self.iterations: list[dict[str, float]] = []
        self.lengths: list[int] = []
        self.begun = self.sampled = self.scored = 0.0

    def on_train_begin(self, *_: object, **__: object) -> None:
        self.begun = time.perf_counter()

    def on_step_end(self, *_: object, **__: object) -> None:
        ended = time.perf_counter()
        phases = {"sampling": self.sampled - self.begun, "scoring": self.scored - self.sampled, "update": ended - self.scored}
        self.iterations.append(phases)
        self.begun = ended

    def watch(self, prompt_length: int, eos: int) -> None:
        """Put marks behind the two functions of the trainer's module that end a phase."""
        generation, whiten = ppo_trainer.batch_generation, ppo_trainer.masked_whiten

        def batch_generation(*args: object, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
            rows, logits = generation(*args, **options)
            self.sampled = time.perf_counter()
            ended = rows[:, prompt_length:] == eos
            self.lengths += [int(row.nonzero()[0]) + 1 if row.any() else len(row) for row in ended]
            return rows, logits

        def masked_whiten(*args: object, **options: object) -> torch.Tensor:
            found = whiten(*args, **options)
            self.scored = time.perf_counter()
            return found

        ppo_trainer.batch_generation, ppo_trainer.masked_whiten = batch_generation, masked_whiten


def trainer(
    folder: Path, case: dict, iterations: int, per_device: int, rollout_batch: int, clock: Clock, out: str
) -> PPOTrainer:
    config, tokenizer = case["config"], AutoTokenizer.from_pretrained(folder / "policy", padding_side="left")
    clock.watch(case["prompt_length"], tokenizer.eos_token_id)
    batch_size = config["batch_size"]
    arguments = PPOConfig(
        out, per_device_train_batch_size=per_device, gradient_accumulation_steps=batch_size // per_device,
        num_mini_batches=batch_size // config["minibatch_size"], local_rollout_forward_batch_size=rollout_batch,
        total_episodes=(iterations + 1) * batch_size, num_ppo_epochs=config["ppo_epochs"], num_sample_generations=0,
        stop_token="eos", response_length=config["max_new_tokens"], temperature=config["temperature"],
        missing_eos_penalty=config["missing_eos_penalty"], kl_coef=config["kl_coef"], cliprange=config["clip_range"],
        cliprange_value=config["value_clip_range"], gamma=config["gamma"], lam=config["gae_lambda"],
        learning_rate=config["learning_rate"], lr_scheduler_type="constant", adam_beta1=config["adam_beta1"],
        adam_beta2=config["adam_beta2"], adam_epsilon=config["adam_epsilon"], weight_decay=config["weight_decay"],
        bf16=False, gradient_checkpointing=False, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True,
        seed=case["seed"],
    )  # fmt: skip
    policy, ref_policy = (AutoModelForCausalLM.from_pretrained(folder / "policy", dtype=torch.float32) for _ in range(2))
    reward_model, value_model = (
        AutoModelForSequenceClassification.from_pretrained(folder / "reward_model", num_labels=1, dtype=torch.float32)
        for _ in range(2)
    )
    prompts = Dataset.from_list([{"input_ids": ids} for ids in case["prompt_ids"]])
    return PPOTrainer(arguments, tokenizer, policy, ref_policy, reward_model, prompts, value_model, callbacks=[clock])


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))

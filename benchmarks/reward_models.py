"""Training and scoring with reward models as ratios against peers: ours and theirs in turn, three times; the median counts.

    python benchmarks/reward_models.py

The pairs are the sandbox's: its questions, each with its answer and that to another one. What the two sides of a pair have in
common is printed, since it is computed once here and twice by the peers; long responses to a short prompt would gain less.

- training: ``train_reward_model`` against TRL's ``RewardTrainer`` given ``bf16=False, gradient_checkpointing=False,
  max_length=None``, same model, pairs, margins, batch in pairs and optimizer, in its own order
- scoring: ``RewardScorer`` against ``pipeline("text-classification")`` at each of several batch sizes (its best counts): both
  sides of the pairs, and eight responses to a prompt, as rejection sampling asks for; the pipeline is given the text that the
  chat template makes, and its scores are checked to be ours
"""

import random
import tempfile
from pathlib import Path
from statistics import fmean

import torch
import transformers
from datasets import Dataset, disable_progress_bars
from ratios import compare
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import RewardConfig, RewardTrainer

from policy.architecture import new_policy
from policy.chat import CHAT_TEMPLATE
from policy.checkpoint import save_checkpoint
from policy.shared_prefixes import lay_out
from policy.tokenizer import train_tokenizer
from preference_data.comparison import RATINGS, Comparison
from preference_data.judgement import make_comparison
from preference_data.messages import Messages, assistant
from reward_model.batch import encode_pairs
from reward_model.config import RewardModelConfig
from reward_model.model import build_reward_model
from reward_model.scoring import RewardScorer
from reward_model.training import train_reward_model
from sandbox.corpus import corpus
from sandbox.dialogues import Case, Questioner, answer, helpful_case
from sandbox.tasks.task import Style
from sandbox.world import World

NUM_PAIRS, BATCH_SIZE, BATCH_SIZES, K = 1024, 64, (1, 8, 32, 128), 8
WORLD, STYLES = World(100), (Style(), Style(complete=False), Style(concise=False))
CONFIG = RewardModelConfig(axis="helpfulness", learning_rate=1e-4, batch_size=BATCH_SIZE, microbatch_size=BATCH_SIZE)


def main() -> None:
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    disable_progress_bars()
    texts = [document.text for document in corpus(WORLD, 3000, seed=100) if document.text]
    tokenizer = train_tokenizer(texts, 1600, CHAT_TEMPLATE)
    rng = random.Random(0)
    comparisons = pairs(rng)
    encoded, _ = encode_pairs(tokenizer, comparisons, CONFIG.margin, CONFIG.max_length)
    rows = [row for pair in encoded for row in (pair.chosen_ids, pair.rejected_ids)]
    distinct = sum(len(lay_out([pair.chosen_ids, pair.rejected_ids]).ids) for pair in encoded) / sum(map(len, rows))
    print(f"{len(rows)} rows of {fmean(map(len, rows)):.0f} tokens on average; {distinct:.2f} of them once a pair")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        save_checkpoint(new_policy("nano", len(tokenizer)), tokenizer, folder / "policy")
        compare(
            "training a reward model, pairs/s",
            NUM_PAIRS,
            lambda: ours(folder / "policy", comparisons),
            lambda: theirs(folder / "policy", comparisons, folder / "trl"),
        )
        model, _ = build_reward_model(folder / "policy", 0)
        both_sides = [each for pair in comparisons for each in (pair.chosen_dialogue, pair.rejected_dialogue)]
        compare_scoring("pairs", model.eval(), tokenizer, both_sides)
        compare_scoring(f"{K} responses to a prompt", model, tokenizer, many_responses(rng))


def cases(count: int, rng: random.Random) -> list[Case]:
    questioner = Questioner(WORLD, "train")
    return [helpful_case(questioner, rng, "bench") for _ in range(count)]


def response(case: Case, rng: random.Random) -> str:
    assert case.task
    return answer(WORLD, case.task, rng, rng.choice(STYLES))


def pairs(rng: random.Random) -> list[Comparison]:
    """Questions, each with its answer and with that to another question."""
    found: list[Comparison] = []
    while len(found) < NUM_PAIRS:
        case, other = cases(2, rng)
        chosen, rejected, rating = response(case, rng), response(other, rng), rng.choice(RATINGS)
        if chosen != rejected:
            told = {"axis": "helpfulness", "source": "bench", "rating": rating}
            found.append(make_comparison(prompt=case.prompt.messages, chosen=chosen, rejected=rejected, **told))
    return found


def many_responses(rng: random.Random) -> list[Messages]:
    others = cases(K, rng)
    return [
        [*case.prompt.messages, assistant(response(other, rng))] for case in cases(2 * NUM_PAIRS // K, rng) for other in others
    ]


def ours(policy: Path, comparisons: list[Comparison]) -> None:
    for _ in train_reward_model(*build_reward_model(policy, 0), comparisons, CONFIG, seed=0):
        pass


def theirs(policy: Path, comparisons: list[Comparison], out: Path) -> None:
    model, tokenizer = build_reward_model(policy, 0)
    pairs, _ = encode_pairs(tokenizer, comparisons, CONFIG.margin, CONFIG.max_length)
    rows = [{"chosen_ids": pair.chosen_ids, "rejected_ids": pair.rejected_ids, "margin": pair.margin} for pair in pairs]
    arguments = RewardConfig(
        str(out), per_device_train_batch_size=BATCH_SIZE, num_train_epochs=1, learning_rate=CONFIG.learning_rate,
        weight_decay=CONFIG.weight_decay, adam_beta1=CONFIG.adam_beta1, adam_beta2=CONFIG.adam_beta2,
        adam_epsilon=CONFIG.adam_epsilon, lr_scheduler_type="cosine", warmup_steps=CONFIG.min_warmup_steps, bf16=False,
        gradient_checkpointing=False, max_length=None, report_to="none", save_strategy="no",
        logging_strategy="no", disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    RewardTrainer(model, arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer).train()


def compare_scoring(what: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dialogues: list[Messages]) -> None:
    texts = [tokenizer.apply_chat_template(dialogue, tokenize=False) for dialogue in dialogues]
    scorer = RewardScorer(model, tokenizer)
    pipeline = transformers.pipeline(
        "text-classification", model=model, tokenizer=tokenizer, function_to_apply="none", device="cpu"
    )

    def peer(batch_size: int) -> list[float]:
        return [each["score"] for each in pipeline(texts, batch_size=batch_size, add_special_tokens=False)]

    difference = (scorer.score(dialogues) - torch.tensor(peer(BATCH_SIZES[0]))).abs().max().item()
    assert difference < 1e-4, f"our scores differ from the pipeline's by {difference}"
    ratios = []
    for batch_size in BATCH_SIZES:
        title = f"scoring {what} against a pipeline with batches of {batch_size}, dialogues/s"
        ratios.append(compare(title, len(dialogues), lambda: scorer.score(dialogues), lambda size=batch_size: peer(size)))
    print(f"scoring {what} against a pipeline at its best: {min(ratios):.2f}")


if __name__ == "__main__":
    main()

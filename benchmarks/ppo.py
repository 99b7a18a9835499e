"""PPO against TRL's: samples per second and peak memory, ours and theirs in turn, three times; the median of the ratios counts.

    python benchmarks/ppo.py [--peer-python .venv-trl-1.10/bin/python]

The peer is the experimental PPOTrainer of TRL 1.10.0, in a virtual environment of its own, which is made when absent, with the
torch of this one. Each run is a process, so that its peak memory is its own, and reads the same folder: a random model of the
size ``nano`` and prompts of 32 tokens, as messages for ours and as ids for the peer's.

- ``full``: every answer has all of its 48 tokens, since EOS is never sampled
- ``early``: EOS ends an answer with the same small chance at every token, so lengths are geometric, 16 on average

Both come from the weights and nothing else. Column 0 of the tied embeddings is constant, which makes component 0 of the last
hidden state nearly so, and a shift of EOS's own entry there is a shift of its logit everywhere. The id of padding, which TRL
would take for the end of an answer, is silenced in the same way.

Each iteration both sample one answer to each of 128 prompts, score it with one reward model, cut the answers into two
minibatches and pass over them once. Ours does a little more: an answer goes to the reward model as text that is encoded again,
and gradients are clipped, which TRL's loop leaves out. TRL is given ``bf16=False, gradient_checkpointing=False`` and, of
several batch sizes, the one that is fastest on the case, also where it accumulates gradients and so makes one optimizer step
where ours makes two. Its memory is compared there, and where it is least.
"""

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import transformers
from peak_memory import peak_memory
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from policy.architecture import new_policy
from policy.chat import CHAT_TEMPLATE, encode_prompt
from policy.checkpoint import load_policy, save_checkpoint
from policy.tokenizer import EOS_ID, PAD_ID, train_tokenizer
from preference_data.messages import Messages, user
from preference_data.prompt import make_prompt
from reward_model.combined_reward import Scores
from reward_model.model import build_reward_model
from reward_model.scoring import RewardScorer
from rlhf.config import PPOConfig
from rlhf.ppo import ppo
from rlhf.value_model import load_value_model
from sandbox.corpus import corpus
from sandbox.world import World

SEED, NUM_PROMPTS, PROMPT_LENGTH = 100, 512, 32
CONFIG = PPOConfig(batch_size=128, minibatch_size=64, microbatch_size=16, max_new_tokens=48)
CASES = {"full": 0.0, "early": 0.0593}  # chance of EOS at each token; of 48 at most, 0.0593 gives 16 on average
SILENT = -40.0  # against the other logits: never sampled
PEER_BATCHES = ((128, 128), (64, 64), (16, 64), (8, 32))  # answers per backward pass, and of sampling and scoring
PHASES = ("sampling", "scoring", "update")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer-python", type=Path, default=Path(".venv-trl-1.10/bin/python"))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=6, help="of each run, after one that warms up")
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)  # a case's folder: what the process of one run is given
    asked = parser.parse_args()
    if asked.ours:
        print(json.dumps(ours(asked.ours, asked.iterations)))
        return
    make_peer(asked.peer_python)
    for case in asked.cases:
        with tempfile.TemporaryDirectory() as name:
            make_case(Path(name), CASES[case])
            compare(case, Path(name), asked.peer_python, asked.rounds, asked.iterations)


def compare(case: str, folder: Path, peer_python: Path, rounds: int, iterations: int) -> None:
    """Print the runs of one case and the medians of their ratios."""

    def peer(batches: tuple[int, int]) -> dict:
        return run([str(peer_python), str(Path(__file__).with_name("ppo_trl.py")), str(folder), iterations, *batches])

    tried = {batches: peer(batches) for batches in PEER_BATCHES}
    fastest = max(tried, key=lambda batches: tried[batches]["samples_per_second"])
    least = min(found["peak_mb"] for found in tried.values())
    for batches, found in tried.items():
        print(f"{case}, TRL, batches of {batches}: {told(found)}")
    speeds, memory = [], []
    for _ in range(rounds):
        mine, theirs = run([sys.executable, __file__, "--ours", str(folder), "--iterations", iterations]), peer(fastest)
        assert mine["threads"] == theirs["threads"], f"{mine['threads']} threads against {theirs['threads']}"
        print(f"{case}, ours: {told(mine)}\n{case}, TRL, batches of {fastest}: {told(theirs)}")
        speeds.append(mine["samples_per_second"] / theirs["samples_per_second"])
        memory.append(mine["peak_mb"] / theirs["peak_mb"])
        least = min(least, theirs["peak_mb"])
    print(f"{case}: {mine['versions']}; peer {theirs['versions']}; {mine['threads']} threads")
    rounds_told = ", ".join(f"{each:.2f}" for each in speeds)
    print(
        f"{case}: ratio of speeds {statistics.median(speeds):.2f} ({rounds_told}), of peak memory "
        f"{statistics.median(memory):.2f}, to the peer's least {mine['peak_mb'] / least:.2f}"
    )


def run(command: Sequence[object]) -> dict:
    """What a run says of itself on its last line."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def told(found: dict) -> str:
    seconds = ", ".join(f"{name} {found['seconds'][name]:.2f}" for name in PHASES)
    return (
        f"{found['samples_per_second']:.1f} samples/s ({seconds} s an iteration), answers of {found['response_length']:.1f} "
        f"tokens, peak {found['peak_mb']:,.0f} MB, {found['imported_mb']:,.0f} of it imports"
    )


class OneScorer:
    """The scores of one reward model, as TRL has them."""

    def __init__(self, scorer: RewardScorer):
        self.scorer = scorer

    def score(self, dialogues: Sequence[Messages], is_safety: Sequence[bool]) -> Scores:
        scores = self.scorer.score(dialogues)
        return Scores(scores, scores, scores)


def ours(folder: Path, iterations: int) -> dict:
    """One run of ours: the first iteration warms up and is not counted."""
    imported = peak_memory()
    case = json.loads((folder / "case.json").read_text())
    (policy, tokenizer), (ref_policy, _) = load_policy(folder / "policy"), load_policy(folder / "policy")
    critic = load_value_model(folder / "reward_model", tokenizer)
    reward = OneScorer(RewardScorer.load(folder / "reward_model"))
    prompts = [make_prompt(messages, family="bench", split="train", source="bench") for messages in case["prompts"]]
    before = [parameter.detach().clone() for parameter in policy.parameters()]
    config = CONFIG.model_copy(update={"iterations": iterations + 1})
    ended, history = [], []
    for stats in ppo(policy, ref_policy, critic, tokenizer, prompts, reward, config, SEED):
        ended.append(time.perf_counter())
        history.append(stats)
    return {
        "samples_per_second": iterations * config.batch_size / (ended[-1] - ended[0]),
        "seconds": {phase: statistics.fmean(asdict(each)[f"{phase}_seconds"] for each in history[1:]) for phase in PHASES},
        "peak_mb": peak_memory(),
        "imported_mb": imported,
        "response_length": statistics.fmean(stats.response_length for stats in history),
        "moved": max((new - old).abs().max().item() for new, old in zip(policy.parameters(), before, strict=True)),
        "threads": torch.get_num_threads(),
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
    }


def make_case(folder: Path, eos_chance: float) -> None:
    """A policy, a reward model and prompts for both sides."""
    texts = [document.text for document in corpus(World(SEED), 3000, seed=SEED) if document.text]
    tokenizer = train_tokenizer(texts, 1600, CHAT_TEMPLATE)
    torch.manual_seed(SEED)
    policy = new_policy("nano", len(tokenizer))
    odds = eos_chance / (1 - eos_chance) * (len(tokenizer) - 1)
    shift_logits(policy, {PAD_ID: SILENT, EOS_ID: math.log(odds) if odds else SILENT})
    save_checkpoint(policy, tokenizer, folder / "policy")
    save_checkpoint(*build_reward_model(folder / "policy", SEED), folder / "reward_model")
    prompts = prompts_of(" ".join(texts[:500]).split(), tokenizer)
    case = {
        "prompts": prompts,
        "prompt_ids": [encode_prompt(tokenizer, messages).ids for messages in prompts],
        "prompt_length": PROMPT_LENGTH,
        "seed": SEED,
        "config": CONFIG.model_dump(),
    }
    (folder / "case.json").write_text(json.dumps(case))


@torch.no_grad()
def shift_logits(policy: LlamaForCausalLM, shifts: dict[int, float]) -> None:
    """Shift tokens' logits everywhere, by a component of the last hidden state that is made nearly constant."""
    embeddings = policy.model.embed_tokens.weight
    embeddings[:, 0] = 0.2
    ids = torch.randint(3, len(embeddings), (64, PROMPT_LENGTH))
    constant = policy.model(input_ids=ids).last_hidden_state[..., 0].mean().item()
    for token, shift in shifts.items():
        embeddings[token, 0] += shift / constant


def prompts_of(words: list[str], tokenizer: PreTrainedTokenizerBase) -> list[Messages]:
    """Different prompts, each of exactly PROMPT_LENGTH tokens."""
    rng = random.Random(SEED)
    found: list[Messages] = []
    for number in range(NUM_PROMPTS):
        text, length = f"{number}", 0
        while length != PROMPT_LENGTH:
            longer = f"{text} {rng.choice(words)}"
            length = len(encode_prompt(tokenizer, [user(longer)]).ids)
            text = longer if length <= PROMPT_LENGTH else text
        found.append([user(text)])
    return found


def make_peer(python: Path) -> None:
    """The peer's virtual environment, once."""
    if python.exists():
        return
    torch_version = torch.__version__.partition("+")[0]
    subprocess.run([sys.executable, "-m", "venv", str(python.parent.parent)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "-q", f"torch=={torch_version}", "trl==1.10.0"], check=True)


if __name__ == "__main__":
    main()

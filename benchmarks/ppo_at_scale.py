"""PPO on a randomly initialised policy of a large size on one GPU: speed, where the time goes, utilisation, memory.

    python benchmarks/ppo_at_scale.py --size 7b --lora --peak-tflops 989
    python benchmarks/ppo_at_scale.py --size 1b --peak-tflops 989

Each iteration samples one response to each of 64 prompts of 256 tokens, 256 tokens at most, and makes four optimizer steps
of 16; the first iteration warms up and is not counted. ``--lora``: policy, reference, critic and both reward models
stand on one set of bf16 weights, and policy and critic are trained by float32 adapters of their own. Without it the five are
models by themselves in float32, and all weights of policy and critic are trained. ``1b`` is the shape of
TinyLlama 1.1B. The tokenizer is filled up to 32,000 tokens with made-up words, so that what a random policy samples is read by
the reward models as so many tokens again. It samples EOS once in 32,000 tokens.

Utilisation counts the models' own arithmetic, of N parameters on L tokens of prompts and responses in an iteration:

    2 N L sampling + 4 * 2 N L (reward models, reference, critic) + 2 * 6 N L (update of policy and critic) = 22 N L

With adapters, whose base needs no weight gradients, an update is 4 N L: 18 N L. Attention and the adapters are not counted.
"""

import argparse
import random
import statistics

import torch
from sampling_at_scale import prompts_of
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from policy.architecture import llama_config
from policy.chat import CHAT_TEMPLATE
from policy.config import LoraConfig
from policy.lora import Adapters
from policy.shared_base import on_base
from policy.tokenizer import train_tokenizer
from preference_data.prompt import make_prompt
from reward_model.combined_reward import CombinedReward
from reward_model.model import draw_head, reward_model_with
from reward_model.scoring import RewardScorer
from rlhf.config import PPOConfig
from rlhf.ppo import ppo
from rlhf.value_model import ValueModel
from sandbox.corpus import corpus
from sandbox.world import World

VOCAB_SIZE = 32_000
ONE_B = {"hidden_size": 2048, "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4,
         "intermediate_size": 5632, "head_dim": 64}  # fmt: skip
WARM_UP = 1


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="7b", help="1b, or a preset")
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64, help="responses an iteration")
    parser.add_argument("--minibatch", type=int, default=16)
    parser.add_argument("--microbatch", type=int, default=4)
    parser.add_argument("--length", type=int, default=256, help="tokens of a prompt")
    parser.add_argument("--new", type=int, default=256, help="tokens of a response at most")
    parser.add_argument("--peak-tflops", type=float, default=989, help="of the device in bf16; 989 for H100 and H200")
    asked = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    texts = [document.text for document in corpus(World(100), 3000, seed=100) if document.text]
    tokenizer = train_tokenizer(texts, 1600, CHAT_TEMPLATE)
    messages = prompts_of(texts, tokenizer, asked.batch, asked.length)
    tokenizer.add_tokens(made_up_words(VOCAB_SIZE - len(tokenizer)))
    prompts = [make_prompt(each, family="bench", split="train", source="bench") for each in messages]
    config = PPOConfig(
        iterations=asked.iterations + WARM_UP, batch_size=asked.batch, minibatch_size=asked.minibatch,
        microbatch_size=asked.microbatch, max_new_tokens=asked.new, lora=LoraConfig() if asked.lora else None,
    )  # fmt: skip
    torch.manual_seed(0)
    if asked.lora:
        torch.set_default_dtype(torch.bfloat16)
    with device:
        policy, ref_policy, critic, scorers = models(shape(asked.size), tokenizer, config.lora)
    torch.set_default_dtype(torch.float32)
    reward = CombinedReward(*scorers)
    history = list(ppo(policy, ref_policy, critic, tokenizer, prompts, reward, config, seed=0))[WARM_UP:]

    sampling, scoring, update = (
        statistics.fmean(getattr(stats, f"{phase}_seconds") for stats in history) for phase in ("sampling", "scoring", "update")
    )
    seconds = sampling + scoring + update
    prompt_tokens = sum(len(tokenizer.apply_chat_template(each)["input_ids"]) for each in messages)
    num_tokens = prompt_tokens + statistics.fmean(stats.num_tokens for stats in history)
    operations = (18 if asked.lora else 22) * ref_policy.num_parameters() * num_tokens / seconds / 1e12
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{asked.size}, {'adapters on one base' if asked.lora else 'all weights'}, {name}, torch {torch.__version__}")
    print(f"{asked.batch / seconds:.2f} samples/s of {num_tokens / asked.batch:.0f} tokens, {seconds:.2f} s an iteration")
    print(f"sampling {sampling / seconds:.0%}, scoring {scoring / seconds:.0%}, update {update / seconds:.0%}")
    print(f"{operations:.1f} TFLOP/s, {operations / asked.peak_tflops:.1%} of {asked.peak_tflops:g}")
    print(f"log-probabilities were computed again in {sum(stats.recomputed for stats in history)} of {len(history)} iterations")
    if device.type == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")


def shape(size: str) -> LlamaConfig:
    """A preset, or the shape of TinyLlama 1.1B."""
    config = llama_config("7b" if size == "1b" else size, VOCAB_SIZE)
    if size == "1b":
        config.update(ONE_B)
    return config


def models(
    config: LlamaConfig, tokenizer: PreTrainedTokenizerBase, lora: LoraConfig | None
) -> tuple[PreTrainedModel, PreTrainedModel, ValueModel, list[RewardScorer]]:
    """Policy, ref_policy, critic, two scorers: all on the weights of one random policy, or each on a copy of them."""
    base = LlamaForCausalLM(config).eval().requires_grad_(False)
    policy = on_base(base, LlamaForCausalLM, {})
    with torch.device("cpu"):
        heads = [draw_head(base, seed) for seed in range(3)]
    critic, *reward_models = (reward_model_with(base, head) for head in heads)
    if lora:
        Adapters(policy, lora, 0)
        Adapters(critic, lora, 0, trained=["score"])
    else:
        policy, critic, *reward_models = (own_weights(model) for model in (policy, critic, *reward_models))
        for trained in (policy, critic):
            trained.requires_grad_(True)
    scorers = [RewardScorer(model, tokenizer) for model in reward_models]
    return policy, base, ValueModel(critic.model, critic.score), scorers


def own_weights(model: PreTrainedModel) -> PreTrainedModel:
    """The model on copies of its weights."""
    found: PreTrainedModel = type(model)(model.config).eval()
    found.load_state_dict(model.state_dict())
    return found.requires_grad_(False)


def made_up_words(count: int) -> list[str]:
    """Different words of eight letters, none of which the tokenizer would merge otherwise."""
    rng = random.Random(0)
    words: dict[str, None] = {}
    while len(words) < count:
        words["".join(rng.choices("bcdfghjklmnpqrstvwxz", k=8))] = None
    return list(words)


if __name__ == "__main__":
    main()

from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from fakes import tiny_policy, tiny_tokenizer
from scipy.stats import chi2_contingency, chisquare
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessorList,
    Qwen2Config,
    Qwen2ForCausalLM,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from policy.chat import decode_response, encode_prompt
from policy.generation import ContextOverflow, Row, TransformersSampler, sample_token
from policy.kv_cache import Prefixes, ResponseCache
from policy.logprobs import response_logprobs
from preference_data.messages import assistant, user

PROMPTS = [
    [user("fox")],
    [user("Which one is older, the fox or the owl?")],
    [{"role": "system", "content": "Be nice."}, user("hi")],
]


def sampler(batch_size=256, dtype=torch.float64, seed=3):
    return TransformersSampler(tiny_policy(seed, dtype), tiny_tokenizer(), batch_size)


def ids_of(groups):
    return [[response.ids for response in group] for group in groups]


def test_a_response_depends_on_neither_batch_nor_order():
    together = sampler().sample(PROMPTS, 4, 1.0, 1.0, 24, seed=0)
    alone = [sampler(batch_size=1).sample([prompt], 4, 1.0, 1.0, 24, seed=0)[0] for prompt in PROMPTS]
    backwards = sampler(batch_size=5).sample(PROMPTS[::-1], 4, 1.0, 1.0, 24, seed=0)[::-1]
    assert ids_of(together) == ids_of(alone) == ids_of(backwards)


def test_samples_of_a_prompt_differ_and_so_do_seeds():
    first = sampler().sample(PROMPTS[:1], 4, 1.0, 1.0, 24, seed=0)[0]
    assert len({tuple(response.ids) for response in first}) == 4
    assert ids_of([first]) != ids_of(sampler().sample(PROMPTS[:1], 4, 1.0, 1.0, 24, seed=1))


def test_fewer_samples_are_a_prefix_of_more():
    assert ids_of(sampler().sample(PROMPTS, 2, 1.0, 1.0, 12, 0)) == [
        group[:2] for group in ids_of(sampler().sample(PROMPTS, 5, 1.0, 1.0, 12, 0))
    ]


def test_greedy_equals_generate():
    """In one batch of prompts of different lengths; the tiny policy has two query heads to a key head."""
    engine = sampler()
    for prompt, group in zip(PROMPTS, engine.sample(PROMPTS, 1, 0.0, 1.0, 16, seed=0), strict=True):
        ids = torch.tensor([encode_prompt(engine.tokenizer, prompt).ids])
        expected = engine.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=16)
        assert group[0].ids == expected[0, ids.shape[1] :].tolist()


def test_logprobs_are_those_of_a_plain_forward_at_the_temperature():
    engine = sampler()
    groups = engine.sample(PROMPTS, 3, 0.7, 1.0, 20, seed=0)
    for response in (response for group in groups for response in group):
        ids = torch.tensor([[*response.prompt_ids, *response.ids]])
        logprobs = (engine.model(ids).logits[0] / 0.7).log_softmax(-1)
        positions = range(len(response.prompt_ids) - 1, ids.shape[1] - 1)
        expected = [logprobs[position, ids[0, position + 1]].item() for position in positions]
        assert response.logprobs == pytest.approx(expected, abs=1e-5)


def test_logprobs_of_responses_equal_those_recomputed():
    engine = sampler()
    responses = [response for group in engine.sample(PROMPTS, 3, 1.0, 1.0, 20, seed=0) for response in group]
    found = response_logprobs(engine.model, [r.prompt_ids for r in responses], [r.ids for r in responses], microbatch_size=4)
    for response, logprobs in zip(responses, found, strict=True):
        assert logprobs.tolist() == pytest.approx(response.logprobs, abs=1e-5)


@pytest.mark.parametrize("kept_tokens", [10_000, 120])
def test_a_kept_dialogue_goes_on_as_if_it_were_read_again(kept_tokens):
    engine, keeping = sampler(), sampler()
    keeping.prefixes = Prefixes(kept_tokens)
    dialogues = [list(prompt) for prompt in PROMPTS]
    read = []
    keeping.model.register_forward_pre_hook(lambda _, __, inputs: read.append(inputs["input_ids"].shape[1]), with_kwargs=True)
    for turn in ("owl", "Which one is older?", "fox, then"):
        plain, kept = (ids_of(each.sample(dialogues, 1, 1.0, 1.0, 12, seed=0)) for each in (engine, keeping))
        assert plain == kept
        for dialogue, (ids,) in zip(dialogues, plain, strict=True):
            dialogue += [assistant(decode_response(engine.tokenizer, ids) or "."), user(turn)]
    longest = max(len(encode_prompt(engine.tokenizer, dialogue[:-2]).ids) for dialogue in dialogues)
    assert max(read) < longest or kept_tokens < 10_000
    held = keeping.prefixes._held.values()
    assert 0 < sum(len(prefix.ids) for prefix in held) <= kept_tokens


def test_equal_dialogues_are_kept_once_and_counted_once():
    keeping = sampler()
    keeping.prefixes = Prefixes(10_000)
    keeping.sample([PROMPTS[0], PROMPTS[0]], 1, 1.0, 1.0, 12, seed=0)
    (held,) = keeping.prefixes._held.values()
    assert keeping.prefixes._num_tokens == len(held.ids)


def test_finished_means_eos_and_eos_ends_a_response():
    engine = sampler(seed=0)
    with torch.no_grad():
        engine.model.lm_head.weight.mul_(0.01)  # nearly uniform: one token in 450 is EOS
    responses = [response for group in engine.sample(PROMPTS, 16, 1.0, 1.0, 200, seed=0) for response in group]
    assert {response.finished for response in responses} == {True, False}
    for response in responses:
        assert response.finished == (response.ids[-1] == 2)
        assert 2 not in response.ids[:-1]
        assert response.finished or len(response.ids) == 200


def test_bad_requests_say_what_is_wrong():
    with pytest.raises(ValueError, match="k must be at least 1"):
        sampler().sample(PROMPTS, 0, 1.0, 1.0, 4, 0)
    with pytest.raises(ValueError, match="equal responses"):
        sampler().sample(PROMPTS, 2, 0.0, 1.0, 4, 0)
    with pytest.raises(ContextOverflow, match="do not fit the context of 1024 tokens"):
        sampler().sample([[user("fox " * 1100)]], 1, 1.0, 1.0, 4, 0)


def out_of_memory():
    raise torch.OutOfMemoryError("no room")


def ask_for_a_petabyte():
    """The error of the CPU's own allocator."""
    torch.empty(10**15)


@pytest.mark.parametrize("fail", [out_of_memory, ask_for_a_petabyte])
def test_a_batch_too_large_for_memory_is_halved_and_the_responses_are_the_same(fail):
    said: list[str] = []
    engine = sampler()
    engine.say = said.append
    rows_read: list[int] = []

    def crowded(model, args, kwargs):
        rows_read.append(len(kwargs["input_ids"]))
        if kwargs["input_ids"].shape[1] == 1 and len(kwargs["input_ids"]) > 5:
            fail()

    engine.model.register_forward_pre_hook(crowded, with_kwargs=True)
    found = engine.sample(PROMPTS, 4, 1.0, 1.0, 24, seed=0)
    assert ids_of(found) == ids_of(sampler().sample(PROMPTS, 4, 1.0, 1.0, 24, seed=0))
    assert said == [
        "12 responses at once do not fit into memory; continuing with 6",
        "6 responses at once do not fit into memory; continuing with 3",
    ]
    rows_read.clear()
    engine.sample(PROMPTS, 4, 1.0, 1.0, 24, seed=0)
    assert max(rows_read) <= 3 and len(said) == 2  # what was learnt is kept, and said once


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    engine = sampler()

    def broken(*_):
        raise RuntimeError("something else")

    engine.model.register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="something else"):
        engine.sample(PROMPTS, 4, 1.0, 1.0, 4, seed=0)


def test_one_response_that_does_not_fit_into_memory_is_an_error():
    engine = sampler()
    engine.say = lambda text: None
    engine.model.register_forward_pre_hook(lambda *_: torch.empty(10**15))
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        engine.sample(PROMPTS, 4, 1.0, 1.0, 4, seed=0)


def word_pairs():
    return [[user(f"{word} {other}?")] for word in ("fox", "owl", "sea", "pot") for other in ("older", "brown", "nine")]


def stopping_sampler(batch_size=256, dtype=torch.float64):
    """Of a policy that ends a response at about one step in nine."""
    engine = sampler(batch_size=batch_size, dtype=dtype, seed=0)
    with torch.no_grad():
        engine.model.lm_head.weight.mul_(0.01)
        engine.model.lm_head.bias = torch.nn.Parameter(torch.zeros(len(engine.tokenizer), dtype=dtype))
        engine.model.lm_head.bias[2] = 4.0
    return engine


def test_responses_are_the_same_when_others_and_whole_prompts_leave_the_batch():
    prompts = word_pairs()
    engine, rows = stopping_sampler(), []
    engine.model.register_forward_pre_hook(lambda _, __, inputs: rows.append(len(inputs["input_ids"])), with_kwargs=True)
    together = [r for group in engine.sample(prompts, 4, 1.0, 1.0, 60, seed=0) for r in group]
    assert len(set(rows)) > 4 and min(rows) < len(prompts) / 2  # so few rows answer no more than half of the prompts
    alone = [r for group in stopping_sampler(batch_size=1).sample(prompts, 4, 1.0, 1.0, 60, seed=0) for r in group]
    assert [r.ids for r in together] == [r.ids for r in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-6)


def test_half_precision_samples_and_is_near_to_single():
    """bf16 has eight bits: log-probabilities of the same tokens agree to some hundredths."""
    engine = sampler(dtype=torch.bfloat16)
    responses = [r for group in engine.sample(PROMPTS, 4, 1.0, 1.0, 24, seed=0) for r in group]
    single = tiny_policy(3, torch.bfloat16).float()
    found = response_logprobs(single, [r.prompt_ids for r in responses], [r.ids for r in responses], microbatch_size=4)
    for response, logprobs in zip(responses, found, strict=True):
        assert response.logprobs == pytest.approx(logprobs.tolist(), abs=0.1)


def test_room_for_a_response_is_never_more_than_it_may_take():
    cache = ResponseCache(1, longest=100)
    states = torch.zeros(2, 1, 1, 4)
    for _ in range(100):
        cache.update(states, states, 0)
    assert cache.states[0].buffers[0].shape[-2] == 100


def test_a_prompt_is_read_once_for_all_its_responses():
    engine = sampler()
    shapes = []
    engine.model.register_forward_pre_hook(
        lambda _, __, inputs: shapes.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    engine.sample(PROMPTS, 8, 1.0, 1.0, 12, seed=0)
    longest = max(len(encode_prompt(engine.tokenizer, prompt).ids) for prompt in PROMPTS)
    assert shapes[0] == (3, longest)
    assert all(width == 1 and rows <= 24 for rows, width in shapes[1:])


def test_rows_that_are_done_leave_the_batch():
    engine = stopping_sampler()
    rows = []
    engine.model.register_forward_pre_hook(lambda _, __, inputs: rows.append(len(inputs["input_ids"])), with_kwargs=True)
    responses = [r for group in engine.sample(PROMPTS, 32, 1.0, 1.0, 60, seed=0) for r in group]
    lengths = np.array([len(response.ids) for response in responses])
    alive = [int((lengths > t).sum()) for t in range(1, len(rows))]  # rows that speak on after t tokens
    assert all(count >= left for count, left in zip(rows[1:], alive, strict=True))
    assert sum(rows[1:]) < 1.3 * sum(alive)


def test_single_precision_gives_the_same_sequences_in_any_batch():
    """At least 99.9 % of them: a random number may fall on the edge between two tokens."""
    prompts = word_pairs()
    together, apart = (
        ids_of(sampler(batch_size=size, dtype=torch.float32).sample(prompts, 90, 1.0, 1.0, 24, seed=0)) for size in (512, 7)
    )
    pairs = [(a, b) for one, other in zip(together, apart, strict=True) for a, b in zip(one, other, strict=True)]
    assert sum(a == b for a, b in pairs) >= 0.999 * len(pairs)


@pytest.mark.parametrize(("temperature", "top_p", "top_k"), [(0.7, 1.0, 0), (1.3, 0.8, 0), (1.0, 1.0, 4), (1.4, 0.7, 6)])
def test_tokens_follow_the_distribution_that_transformers_samples_from(temperature, top_p, top_k):
    torch.manual_seed(5)
    logits = torch.randn(12, dtype=torch.float64) * 1.5
    warpers = [TemperatureLogitsWarper(temperature)]
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    expected = LogitsProcessorList(warpers)(torch.zeros(1, 1, dtype=torch.long), logits[None])[0].softmax(-1)
    count = 20_000
    uniform = torch.from_numpy(np.random.default_rng(1).random(count))
    tokens, logprobs = sample_token(logits.expand(count, -1), uniform, temperature, top_p, top_k)
    assert torch.allclose(logprobs, expected.log()[tokens], atol=1e-12)
    counts = torch.bincount(tokens, minlength=12).numpy()
    kept = expected.numpy() > 0
    assert counts[~kept].sum() == 0
    assert chisquare(counts[kept], expected.numpy()[kept] * count).pvalue > 0.001


def test_sequences_follow_the_distribution_that_generate_samples_from():
    """Pairs of tokens on a vocabulary of six, ours against transformers' own sampling."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=6, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, initializer_range=0.5, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    count, prompt = 4000, [1, 4, 3]
    theirs = model.generate(
        torch.tensor([prompt] * count), attention_mask=torch.ones(count, 3), do_sample=True, temperature=1.2, top_k=5,
        top_p=0.9, max_new_tokens=2,
    )[:, 3:]  # fmt: skip
    rows = [Row([user("x")], prompt, numbers) for numbers in np.random.default_rng(3).random((count, 2))]
    engine = TransformersSampler(model, tiny_tokenizer(), batch_size=count)
    ours = engine._decode(rows, partial(sample_token, temperature=1.2, top_p=0.9, top_k=5))
    counts = [Counter(), Counter()]
    for response in ours:
        counts[0][tuple(response.ids)] += 1
    for row in theirs.tolist():
        counts[1][tuple(row[:1] if row[0] == 2 else row)] += 1
    table = np.array([[each[key] for key in sorted(set(counts[0]) | set(counts[1]))] for each in counts])
    assert len(table[0]) > 6
    assert chi2_contingency(table[:, table.sum(axis=0) >= 10]).pvalue > 0.001


def test_a_number_that_rounds_to_one_still_falls_on_a_token_that_can_be_sampled():
    logits = torch.tensor([[2.0, 1.0, -torch.inf]])
    token, logprob = sample_token(logits, torch.tensor([1 - 1e-12], dtype=torch.float64), 1.0, 1.0)
    assert token.item() == 1 and logprob.isfinite()


def test_only_llama_models_are_sampled_from():
    config = Qwen2Config(
        vocab_size=450, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2
    )
    engine = TransformersSampler(Qwen2ForCausalLM(config).eval(), tiny_tokenizer())
    with pytest.raises(ValueError, match="qwen2 model, and responses are sampled from Llama models alone"):
        engine.sample(PROMPTS, 1, 1.0, 1.0, 4, seed=0)


@pytest.mark.parametrize(
    "request_", [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_p": 0.0}, {"top_p": 1.5}, {"top_k": -1}]
)
def test_settings_without_meaning_are_refused(request_):
    settings = {"k": 1, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 4, "seed": 0} | request_
    with pytest.raises(ValueError, match="temperature is finite and 0 or above, top_p above 0 and at most 1, top_k 0 or above"):
        sampler().sample(PROMPTS, **settings)

import numpy as np
import pytest
import torch
from fakes import tiny_policy, tiny_tokenizer
from scipy.stats import chisquare

from policy.chat import decode_response, encode_prompt
from policy.generation import ContextOverflow, TransformersSampler, sample_token
from policy.kv_cache import Prefixes
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


def test_sampled_tokens_follow_the_softmax():
    logits = torch.tensor([0.3, -1.0, 1.2, 0.0, 2.0])
    count = 20_000
    uniform = torch.from_numpy(np.random.default_rng(0).random(count))
    tokens, logprobs = sample_token(logits.expand(count, -1), uniform, 0.8, 1.0)
    expected = (logits.double() / 0.8).softmax(-1)
    assert chisquare(torch.bincount(tokens, minlength=5).numpy(), expected.numpy() * count).pvalue > 0.001
    assert torch.allclose(logprobs.double(), expected.log()[tokens], atol=1e-6)


def test_top_p_keeps_the_token_that_crosses_p():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    tokens, logprobs = zip(
        *[sample_token(logits, torch.tensor([u]), 1.0, 0.6) for u in np.linspace(0, 0.999, 200)], strict=True
    )
    assert {token.item() for token in tokens} == {0, 1}
    assert {round(value.exp().item(), 4) for value in logprobs} == {0.625, 0.375}


def test_bad_requests_say_what_is_wrong():
    with pytest.raises(ValueError, match="k must be at least 1"):
        sampler().sample(PROMPTS, 0, 1.0, 1.0, 4, 0)
    with pytest.raises(ValueError, match="equal responses"):
        sampler().sample(PROMPTS, 2, 0.0, 1.0, 4, 0)
    with pytest.raises(ContextOverflow, match="do not fit the context of 1024 tokens"):
        sampler().sample([[user("fox " * 1100)]], 1, 1.0, 1.0, 4, 0)

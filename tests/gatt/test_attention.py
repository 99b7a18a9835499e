"""Attention maps against `output_attentions` of a plain model; the span of the instruction against the text."""

import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch
from fakes import tiny_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from gatt.attention import bin_edges, binned, instruction_attention, maximum_attention, visit_attention
from gatt.token_spans import token_spans
from preference_data.messages import assistant, user

IDS = torch.randint(3, 60, (23,), generator=torch.Generator().manual_seed(3)).tolist()
INSTRUCTION = "Always act as Napoleon."
DIALOGUE = [
    user(f"{INSTRUCTION} What colour is the sea?"), assistant("The sea is blue."), user("And the fox?"),
    assistant("The fox is brown."),
]  # fmt: skip


def model_of(kv_heads, layers=3):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=kv_heads, max_position_embeddings=64, initializer_range=0.7,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def plain_weights(model, ids):
    """(layers, H, L, L) as transformers returns them for a copy with eager attention."""
    twin = LlamaForCausalLM._from_config(model.config, attn_implementation="eager").eval()
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        return torch.cat(twin(torch.tensor([ids]), output_attentions=True).attentions).numpy()


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_the_maximum_is_that_over_all_layers_and_heads(kv_heads):
    model = model_of(kv_heads)
    expected = plain_weights(model, IDS)
    strongest = maximum_attention(model, IDS).numpy()
    np.testing.assert_allclose(strongest, expected.max(axis=(0, 1)), atol=1e-6)
    assert (np.triu(strongest, 1) == 0).all() and strongest.argmax() == 0, "the first token has nothing but itself"
    by_layer, by_head = expected.max(axis=1).argmax(axis=0), expected.max(axis=0).argmax(axis=0)
    assert len(np.unique(by_layer)) == 3 and len(np.unique(by_head)) == 4, "every layer and head has the maximum somewhere"


def test_attention_from_a_turn_to_the_instruction_by_its_definition():
    model, turns, instruction = model_of(2), [range(9, 14), range(14, 23)], range(2, 5)
    expected = plain_weights(model, IDS)
    for turn, attention in zip(turns, instruction_attention(model, IDS, turns, instruction), strict=True):
        block = expected[:, :, turn.start : turn.stop, 2:5]
        assert attention.maximum == pytest.approx(block.max(), abs=1e-6)
        assert attention.mean_of_heads == pytest.approx(np.mean([head.max() for layer in block for head in layer]), abs=1e-6)
        assert attention.share == pytest.approx(block.sum() / (3 * 4 * len(turn)), abs=1e-6)


def test_one_layers_weights_are_held_at_a_time():
    held, alive = [], []

    def visit(weights):
        held.append(weakref.ref(weights.untyped_storage()))
        alive.append(sum(reference() is not None for reference in held))

    visit_attention(model_of(4, layers=5), IDS, visit)
    assert alive == [1] * 5


def test_afterwards_the_model_is_what_it_was():
    model = model_of(2)
    before = model(torch.tensor([IDS])).logits
    maximum_attention(model, IDS)
    assert torch.equal(model(torch.tensor([IDS])).logits, before) and model.config._attn_implementation == "sdpa"


def test_models_and_spans_without_attention_to_measure_are_refused():
    with pytest.raises(ValueError, match="there are 65 tokens to read, and the context of this policy holds 1 to 64"):
        maximum_attention(model_of(2), [3] * 65)
    with pytest.raises(ValueError, match="there are 0 tokens"):
        maximum_attention(model_of(2), [])
    other = MistralForCausalLM(
        MistralConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    )
    with pytest.raises(ValueError, match="this is a mistral model, and attention is looked at for Llama models alone"):
        maximum_attention(other, IDS)
    for turn, instruction in ((range(4, 9), range(2, 5)), (range(9, 9), range(2, 5)), (range(9, 14), range(2, 2))):
        with pytest.raises(ValueError, match="both need tokens, and the turn must come after the instruction"):
            instruction_attention(model_of(2), IDS, [turn], instruction)


LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@given(LENGTHS, st.integers(1, 6))
def test_bins_hold_each_token_once_and_none_reaches_over_the_end_of_a_span(lengths, size):
    stops = np.cumsum(lengths).tolist()
    spans = [range(stop - length, stop) for stop, length in zip(stops, lengths, strict=True)]
    edges = bin_edges(spans, size)
    bins = [range(start, stop) for start, stop in pairwise(edges)]
    assert [token for tokens in bins for token in tokens] == list(range(stops[-1]))
    assert all(1 <= len(tokens) <= size for tokens in bins)
    assert all(any(tokens[0] in span and tokens[-1] in span for span in spans) for tokens in bins)
    assert len(bins) == sum(-(-length // size) for length in lengths), "no more of them than it takes"


@given(LENGTHS, st.integers(0, 100))
def test_a_bin_holds_the_maximum_of_its_tokens(lengths, seed):
    edges = np.cumsum([0, *lengths]).tolist()
    strongest = torch.rand(edges[-1], edges[-1], generator=torch.Generator().manual_seed(seed))
    bins = binned(strongest, edges)
    assert bins.shape == (len(lengths), len(lengths))
    for row in range(len(lengths)):
        for column in range(len(lengths)):
            cells = [
                float(strongest[i, j])
                for i in range(edges[row], edges[row + 1])
                for j in range(edges[column], edges[column + 1])
            ]
            assert float(bins[row, column]) == max(cells)


def test_bins_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="bins of 0 tokens"):
        bin_edges([range(3)], 0)
    with pytest.raises(ValueError, match=r"\[\(0, 3\), \(4, 6\)\] do not lie end to end"):
        bin_edges([range(3), range(4, 6)], 2)


def texts(spans, parts):
    return [tiny_tokenizer().decode(spans.ids[part.start : part.stop]).strip() for part in parts]


def test_the_parts_of_a_dialogue_are_its_messages_and_the_instruction():
    spans = token_spans(tiny_tokenizer(), DIALOGUE, INSTRUCTION)
    assert texts(spans, spans.parts) == [
        "<s> [INST]", INSTRUCTION, "What colour is the sea? [/INST]", "The sea is blue. </s>",
        "<s> [INST] And the fox? [/INST]", "The fox is brown. </s>",
    ]  # fmt: skip
    assert texts(spans, spans.turns)[1] == "<s> [INST] And the fox? [/INST] The fox is brown. </s>"
    assert [turn.start for turn in spans.turns] == [0, spans.turns[0].stop] and spans.turns[1].stop == len(spans.ids)
    assert tiny_tokenizer().bos_token_id not in [spans.ids[place] for place in spans.instruction]


@pytest.mark.parametrize(
    ("first", "instruction"),
    [
        ([{"role": "system", "content": INSTRUCTION}, user("What colour is the sea?")], INSTRUCTION),
        ([user(f"Hello. {INSTRUCTION} And now?")], INSTRUCTION),
        ([user("Réponds en élfique ☃ toujours. La mer?")], "Réponds en élfique ☃ toujours."),
        ([user("The sea. The sea. The sea.")], "The sea."),
        ([user(INSTRUCTION)], f" {INSTRUCTION} "),
    ],
)
def test_the_instructions_tokens_hold_its_text_and_no_more_than_a_part_of_another_word(first, instruction):
    spans = token_spans(tiny_tokenizer(), [*first, assistant("Blue.")], instruction)
    (text,) = texts(spans, [spans.instruction])
    assert text == instruction.strip()
    assert all(len(part) for part in spans.parts) and sum(map(len, spans.parts)) == len(spans.ids)
    assert spans.instruction in spans.parts


@pytest.mark.parametrize("instruction", ["Always act as Caesar.", "", "  "])
def test_an_instruction_that_is_not_there_is_refused(instruction):
    with pytest.raises(ValueError, match="the first message does not hold the instruction"):
        token_spans(tiny_tokenizer(), DIALOGUE, instruction)

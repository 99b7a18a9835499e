import pytest
import torch
from fakes import tiny_policy
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForSequenceClassification, MistralConfig, MistralModel

from policy.shared_prefixes import last_hidden, lay_out, shared_prefixes

pytestmark = pytest.mark.usefixtures("exact_norms")
ROWS = st.lists(st.lists(st.integers(3, 5), min_size=1, max_size=9), min_size=1, max_size=20)


def grouped_query_model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=16, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        num_labels=1, pad_token_id=0, initializer_range=0.5,
    )  # fmt: skip
    return LlamaForSequenceClassification(config).double()


def alone(model, row):
    """The last hidden state of a row that is computed by itself."""
    return model.base_model(input_ids=torch.tensor([row])).last_hidden_state[0, -1]


@given(ROWS)
def test_a_line_holds_each_distinct_beginning_once_and_every_row_can_be_read_from_it(rows):
    layout = lay_out(rows)
    assert len(layout.ids) == len({tuple(row[:end]) for row in rows for end in range(1, len(row) + 1)})
    held = [row for group in layout.groups for row in group.tolist()]
    for row, places in zip(sorted(rows, key=len, reverse=True), held, strict=True):
        assert [layout.ids[place] for place in places[: len(row)]] == row
        assert [layout.positions[place] for place in places[: len(row)]] == list(range(len(row)))
    for row, end in zip(rows, layout.ends.tolist(), strict=True):
        assert (layout.ids[end], layout.positions[end]) == (row[-1], len(row) - 1)
    assert all(group.shape[1] % 8 == 0 and len(group) <= 16 for group in layout.groups)
    flat = torch.cat([group.flatten() for group in layout.groups])
    assert torch.equal(flat[layout.cells], torch.arange(len(layout.ids))) and layout.num_positions == len(flat)


@settings(max_examples=25, deadline=None)
@given(ROWS)
def test_hidden_states_are_those_of_each_row_by_itself(rows):
    for model in (grouped_query_model(), tiny_policy().double()):
        with torch.no_grad():
            expected = torch.stack([alone(model, row) for row in rows])
            with shared_prefixes(model):
                found = last_hidden(model, lay_out(rows))
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_the_sum_of_those_of_each_row(checkpointing):
    rows = [[3, 4, 5, 6, 7], [3, 4, 5], [3, 4, 8, 9], [6, 7], [3, 4, 5]]
    ours, plain = grouped_query_model().train(), grouped_query_model()
    weights = torch.randn(5, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (weights * torch.stack([alone(plain, row) for row in rows])).sum().backward()
    if checkpointing:
        ours.gradient_checkpointing_enable({"use_reentrant": False})
    with shared_prefixes(ours):
        (weights * last_hidden(ours, lay_out(rows))).sum().backward()
    for (name, mine), theirs in zip(ours.named_parameters(), plain.parameters(), strict=True):
        if not name.startswith("score"):
            torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-10, rtol=1e-10, msg=name)


def test_outside_the_model_is_what_it_was_and_a_layout_is_refused():
    model = grouped_query_model()
    before = alone(model, [3, 4, 5])
    with pytest.raises(ZeroDivisionError), shared_prefixes(model):
        _ = 1 / 0
    assert torch.equal(alone(model, [3, 4, 5]), before)
    with pytest.raises(RuntimeError, match="inside `with shared_prefixes"):
        last_hidden(model, lay_out([[3, 4]]))


def test_a_model_that_attends_to_less_is_refused():
    config = MistralConfig(
        vocab_size=16, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4, sliding_window=4
    )
    with pytest.raises(ValueError, match=r"a mistral model.*Llama models alone"), shared_prefixes(MistralModel(config)):
        pass

"""Several models on one set of weights, and adapters on top of them."""

import copy

import pytest
import torch
from fakes import tiny_policy
from torch import Tensor
from transformers import LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedModel

from policy.config import LoraConfig
from policy.lora import Adapters, LoraError, fix
from policy.shared_base import SharedBaseError, on_base

pytestmark = pytest.mark.usefixtures("exact_norms")
IDS = torch.tensor([[1, 17, 40, 99, 300, 5, 2]])
LORA = LoraConfig(rank=3, alpha=7, target_modules=("q_proj", "down_proj"))


def storages(model: PreTrainedModel) -> dict[int, int]:
    """Address -> bytes of what the model's parameters and buffers are stored in."""
    stored = [each.untyped_storage() for each in [*model.parameters(), *model.buffers()]]
    return {each.data_ptr(): each.nbytes() for each in stored}


def random_factors(model: PreTrainedModel, rank: int = 2) -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> Tensor:
        return 0.3 * torch.randn(*shape, generator=generator, dtype=torch.float64)

    linears = {name: each for name, each in model.named_modules() if name.endswith(("q_proj", "v_proj"))}
    return {name: (draw(each.out_features, rank), draw(rank, each.in_features)) for name, each in linears.items()}


def moved(model: PreTrainedModel) -> None:
    """Give the trained adapters of a model something to add."""
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B.default" in name:
                parameter.normal_(0, 0.3, generator=generator)


def test_a_model_on_a_base_is_stored_where_the_base_is_and_computes_the_same() -> None:
    base = tiny_policy()
    twin = on_base(base, LlamaForCausalLM, {})
    assert storages(twin) == storages(base)
    assert [name for name, _ in twin.named_parameters()] == [name for name, _ in base.named_parameters()]
    assert all(one is other for one, other in zip(twin.parameters(), base.parameters(), strict=True))
    assert twin.lm_head.weight is base.model.embed_tokens.weight  # tied, as those of the base are
    assert torch.equal(twin(IDS).logits, base(IDS).logits) and not twin.training
    twin.set_attn_implementation("eager")
    assert base.config._attn_implementation == "sdpa"


def test_a_head_of_its_own_is_all_that_a_classifier_adds() -> None:
    base = tiny_policy()
    head = torch.randn(1, 32)
    model = on_base(base, LlamaForSequenceClassification, {"score.weight": head}, num_labels=1, pad_token_id=0)
    assert set(storages(model)) - set(storages(base)) == {head.data_ptr()}
    expected = base.model(IDS).last_hidden_state[0, -1] @ head[0]
    torch.testing.assert_close(model(IDS).logits[0, 0], expected, rtol=0, atol=1e-6)


def test_a_model_that_a_base_has_not_the_weights_for_is_refused() -> None:
    base = tiny_policy()
    with pytest.raises(
        SharedBaseError, match=r"a LlamaForSequenceClassification was asked for on .* which lack score.weight; give"
    ):
        on_base(base, LlamaForSequenceClassification, {}, num_labels=1)


def test_a_fixed_update_is_a_matrix_product_added_and_is_not_trained() -> None:
    base = tiny_policy(dtype=torch.float64)
    before = copy.deepcopy(base)
    factors = random_factors(base)
    model = on_base(base, LlamaForCausalLM, {})
    fix(model, factors)
    with torch.no_grad():
        for name, (b, a) in factors.items():
            before.get_parameter(f"{name}.weight").add_(b @ a)
    torch.testing.assert_close(model(IDS).logits, before(IDS).logits, rtol=0, atol=1e-10)
    assert (model(IDS).logits - base(IDS).logits).abs().max() > 0.01
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("has_fixed", [False, True])
def test_merging_into_another_model_leaves_the_base_as_it_was(has_fixed: bool) -> None:
    base = tiny_policy(dtype=torch.float64)
    before = copy.deepcopy(base)
    model = on_base(base, LlamaForCausalLM, {})
    if has_fixed:
        fix(model, random_factors(base))
    at_first = model(IDS).logits
    adapters = Adapters(model, LORA, seed=3)
    assert torch.equal(model(IDS).logits, at_first)
    moved(model)
    merged = adapters.merged()
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert (model(IDS).logits - at_first).abs().max() > 0.01
    torch.testing.assert_close(merged(IDS).logits, model(IDS).logits, rtol=0, atol=1e-10)
    assert all(torch.equal(one, other) for one, other in zip(base.parameters(), before.parameters(), strict=True))
    assert merged.model.embed_tokens.weight is base.model.embed_tokens.weight


def test_of_a_model_with_a_fixed_update_the_adapters_alone_are_trained_and_told() -> None:
    model = tiny_policy(dtype=torch.float64)
    fix(model, random_factors(model))
    adapters = Adapters(model, LORA, seed=3)
    moved(model)
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert names and all(".default." in name for name in names)
    model(IDS).logits.sum().backward()
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == names
    plain = tiny_policy(dtype=torch.float64)
    alone = Adapters(plain, LORA, seed=3)
    moved(plain)
    found, expected = adapters.factors(), alone.factors()
    assert found.keys() == expected.keys() and len(found) == 3 * 2
    for name in found:
        assert all(torch.equal(one, other) for one, other in zip(found[name], expected[name], strict=True))


def test_an_update_of_a_module_that_is_not_there_is_refused_but_for_a_policys_head() -> None:
    base = tiny_policy()
    pair = (torch.zeros(450, 1), torch.zeros(1, 32))
    model = on_base(base, LlamaForSequenceClassification, {"score.weight": torch.randn(1, 32)}, num_labels=1)
    fix(model, {"lm_head": pair})
    assert set(storages(base)) < set(storages(model)) and len(storages(model)) == len(storages(base)) + 1
    with pytest.raises(
        LoraError, match=r"an update of model.layers.7.q_proj was asked for, which LlamaForSeq\w+ does not have"
    ):
        fix(model, {"model.layers.7.q_proj": pair})


def test_adapters_in_a_head_that_is_the_embeddings_are_refused() -> None:
    with pytest.raises(LoraError, match="adapters were asked for in lm_head, whose matrix is the embeddings too; leave it out"):
        Adapters(tiny_policy(), LoraConfig(target_modules=("lm_head",)), seed=0)

"""Fine-tuning in microbatches and with adapters."""

import pytest
import torch
from fakes import tiny_policy, tiny_tokenizer
from safetensors import safe_open
from torch import Tensor
from transformers import LlamaForCausalLM

from policy.config import FinetuneConfig, LoraConfig
from policy.finetuning import FinetuneStats, finetune
from preference_data.messages import assistant, user
from preference_data.prompt import Dialogue, make_dialogue
from registry.saved_states import SavedStates, SaveEvery

pytestmark = pytest.mark.usefixtures("exact_norms")
WORDS = ["fox", "owl", "plum", "sea", "pot", "Sure", "Napoleon"]
LORA = LoraConfig(rank=2, alpha=4, target_modules=("q_proj", "down_proj"))


class Killed(BaseException):
    """The process ends here."""


def dialogues() -> list[Dialogue]:
    """Answers of very different lengths, so that a part's weight is not its share of the rows."""
    return [
        make_dialogue([user(f"{word}?"), assistant(f"{word} " * (1 + 3 * n))], family="fact", source="test")
        for n, word in enumerate(WORDS)
    ]


def run(config: FinetuneConfig, **options: object) -> tuple[LlamaForCausalLM, list[FinetuneStats]]:
    model, told = tiny_policy(dtype=torch.float64), list[FinetuneStats]()
    finetune(model, tiny_tokenizer(), dialogues(), config, 0, told.append, **options)  # type: ignore[arg-type]
    return model, told


def all_weights(model: LlamaForCausalLM) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("lora", [None, LORA])
def test_microbatches_change_nothing(lora: LoraConfig | None) -> None:
    config = FinetuneConfig(learning_rate=1e-2, batch_size=4, epochs=2, lora=lora)
    whole, told = run(config)
    for size in (1, 3, 4):
        cut, told_cut = run(config.model_copy(update={"microbatch_size": size}))
        assert [each.loss for each in told_cut] == pytest.approx([each.loss for each in told], abs=2e-4)  # logged so
        assert [each.grad_norm for each in told_cut] == pytest.approx([each.grad_norm for each in told], rel=1e-5)
        torch.testing.assert_close(all_weights(cut), all_weights(whole), rtol=0, atol=1e-6)
    assert (all_weights(whole) - all_weights(tiny_policy(dtype=torch.float64))).abs().max() > 1e-3


def test_no_more_rows_than_a_microbatch_has_go_through_the_model_at_once() -> None:
    model, seen = tiny_policy(), list[tuple[int, int]]()
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    config = FinetuneConfig(batch_size=7, epochs=1, microbatch_size=3)
    finetune(model, tiny_tokenizer(), dialogues(), config, 0)
    assert [rows for rows, _ in seen] == [3, 3, 1]
    assert len({width for _, width in seen}) == 3  # each as wide as its own longest row


def test_adapters_train_their_matrices_alone_and_are_merged() -> None:
    learnt: dict[str, tuple[Tensor, Tensor]] = {}
    model, told = run(FinetuneConfig(learning_rate=5e-2, batch_size=4, epochs=10, lora=LORA), on_merge=learnt.update)
    assert told[-1].loss < told[0].loss - 0.1
    before = tiny_policy(dtype=torch.float64)
    names = [name for name, _ in before.named_parameters()]
    assert [name for name, _ in model.named_parameters()] == names
    changed = {name for name in names if not torch.equal(model.get_parameter(name), before.get_parameter(name))}
    assert changed == {name for name in names if name.endswith(("q_proj.weight", "down_proj.weight"))}
    assert set(learnt) == {name.removesuffix(".weight") for name in changed}
    for name, (b, a) in learnt.items():
        update = model.get_parameter(f"{name}.weight") - before.get_parameter(f"{name}.weight")
        torch.testing.assert_close(update, b @ a, rtol=0, atol=1e-12)


def test_adapters_go_on_after_a_kill_as_if_it_had_not_been(tmp_path) -> None:
    config = FinetuneConfig(learning_rate=1e-2, batch_size=3, epochs=2, microbatch_size=2, lora=LORA)
    whole, told = run(config)
    assert len(told) == 6

    def kill(stats: FinetuneStats) -> None:
        if stats.step == 4:
            raise Killed

    with pytest.raises(Killed):
        states = SavedStates(tmp_path, every=SaveEvery(steps=1))
        finetune(tiny_policy(dtype=torch.float64), tiny_tokenizer(), dialogues(), config, 0, kill, states)
    assert SavedStates(tmp_path).numbers()[-1] == 4
    with safe_open(tmp_path / "000000004" / "state.safetensors", framework="pt") as saved:
        weights = [name for name in saved.keys() if name.startswith("model/")]  # noqa: SIM118 (safe_open is no mapping)
    assert weights and all("lora_" in name for name in weights)
    torch.manual_seed(12345)  # another process has other random numbers
    again, told_again = run(config, states=SavedStates(tmp_path, every=SaveEvery(steps=1)))
    assert told_again == told
    assert torch.equal(all_weights(again), all_weights(whole))

"""What training with adapters leaves beside the weights, held against plain matrix products and against peft."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from fakes import tiny_policy, tiny_tokenizer
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from policy.adapters import OtherRoot, Update, load_update, save_update, weights_sum
from policy.checkpoint import CheckpointError, load_policy, save_checkpoint
from policy.config import FinetuneConfig, LoraConfig
from policy.finetuning import finetune
from preference_data.messages import assistant, user
from preference_data.prompt import make_dialogue

pytestmark = pytest.mark.usefixtures("exact_norms")
IDS = torch.tensor([[1, 17, 40, 99, 300, 5, 2]])
FIRST, SECOND = LoraConfig(rank=3, alpha=8), LoraConfig(rank=2, alpha=3, target_modules=("q_proj", "down_proj"))


def trained(start: Path, lora: LoraConfig, seed: int, path: Path, dtype: torch.dtype) -> Path:
    """The policy in ``start`` after four steps with adapters, saved as a stage saves it."""
    model, tokenizer = load_policy(start, dtype)
    texts = [("fox?", "owl owl"), ("owl?", "the sea is blue"), ("plum?", "Sure!")]
    dialogues = [make_dialogue([user(ask), assistant(answer)], family="fact", source="test") for ask, answer in texts]
    learnt: dict[str, tuple[Tensor, Tensor]] = {}
    config = FinetuneConfig(learning_rate=0.05, batch_size=2, epochs=2, lora=lora)
    finetune(model, tokenizer, dialogues, config, seed, on_merge=learnt.update)
    save_checkpoint(model, tokenizer, path)
    save_update(load_update(start).then(learnt), path)
    return path


def chain(folder: Path, dtype: torch.dtype) -> list[Path]:
    """A root, a policy trained on it, a policy trained on that one with other ranks and targets."""
    save_checkpoint(tiny_policy(0, dtype), tiny_tokenizer(), folder / "root")
    first = trained(folder / "root", FIRST, 1, folder / "first", dtype)
    return [folder / "root", first, trained(first, SECOND, 2, folder / "second", dtype)]


def weights(path: Path, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    return dict(load_policy(path, dtype)[0].named_parameters())


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return chain(tmp_path_factory.mktemp("exact"), torch.float64)


@pytest.mark.parametrize("number", [1, 2])
def test_weights_are_those_of_the_root_and_the_update(exact: list[Path], number: int) -> None:
    root, found, update = weights(exact[0]), weights(exact[number]), load_update(exact[number])
    assert update.root == weights_sum(exact[0])
    assert len(update.factors) == 3 * 7  # layers, matrices
    for name, weight in found.items():
        b, a = update.factors.get(name.removesuffix(".weight"), (torch.zeros(1, 1), torch.zeros(1, 1)))
        assert torch.allclose(weight, root[name] + (b @ a).to(weight), rtol=0, atol=1e-10), name
        assert torch.equal(weight, root[name]) is (name.removesuffix(".weight") not in update.factors), name


def test_a_second_training_adds_its_ranks_to_those_of_the_first(exact: list[Path]) -> None:
    first, both = load_update(exact[1]), load_update(exact[2])
    assert {a.shape[0] for _, a in first.factors.values()} == {3}
    for name, (b, a) in both.factors.items():
        assert a.shape[0] == b.shape[1] == (5 if name.endswith(("q_proj", "down_proj")) else 3)


def test_the_difference_of_two_checkpoints_leads_from_the_one_to_the_other(exact: list[Path]) -> None:
    start, end = weights(exact[1]), weights(exact[2])
    for name, (b, a) in load_update(exact[2]).since(load_update(exact[1])).items():
        assert torch.allclose(start[f"{name}.weight"] + b @ a, end[f"{name}.weight"], rtol=0, atol=1e-10), name


@pytest.mark.parametrize("number", [1, 2])
def test_peft_opens_the_adapter_on_the_root(exact: list[Path], number: int) -> None:
    root = AutoModelForCausalLM.from_pretrained(exact[0], dtype=torch.float64)
    adapted = PeftModel.from_pretrained(root, exact[number] / "adapter").eval()
    merged, _ = load_policy(exact[number], torch.float64)
    before = load_policy(exact[0], torch.float64)[0](IDS).logits
    assert (merged(IDS).logits - before).abs().max() > 0.1
    torch.testing.assert_close(adapted(IDS).logits, merged(IDS).logits, rtol=0, atol=1e-10)


def test_peft_opens_a_head_that_was_trained_whole(exact: list[Path], tmp_path: Path) -> None:
    save_update(load_update(exact[1]), tmp_path, {"score.weight": torch.full((1, 32), 0.25, dtype=torch.float64)})

    def classifier(path: Path) -> PreTrainedModel:
        options = {"num_labels": 1, "dtype": torch.float64, "pad_token_id": 0}
        return AutoModelForSequenceClassification.from_pretrained(path, **options).eval()

    merged = classifier(exact[1])
    merged.score.weight.data.fill_(0.25)
    adapted = PeftModel.from_pretrained(classifier(exact[0]), tmp_path / "adapter").eval()
    torch.testing.assert_close(adapted(IDS).logits, merged(IDS).logits, rtol=0, atol=1e-10)


def test_in_float32_the_two_agree_to_rounding(tmp_path: Path) -> None:
    root, _, second = chain(tmp_path, torch.float32)
    adapted = PeftModel.from_pretrained(load_policy(root)[0], second / "adapter").eval()
    torch.testing.assert_close(adapted(IDS).logits, load_policy(second)[0](IDS).logits, rtol=0, atol=1e-5)


def test_the_folder_is_the_same_wherever_it_was_made(tmp_path: Path) -> None:
    made = [chain(tmp_path / name, torch.float32)[2] for name in ("here", "elsewhere")]
    files = sorted(file.relative_to(made[0]) for file in made[0].rglob("*") if file.is_file())
    assert {"adapter/adapter_config.json", "adapter/adapter_model.safetensors", "adapter/root.json"} <= set(map(str, files))
    for file in files:
        assert (made[0] / file).read_bytes() == (made[1] / file).read_bytes(), file
        assert str(tmp_path).encode() not in (made[0] / file).read_bytes()


def test_checkpoints_of_two_roots_are_not_put_together(exact: list[Path]) -> None:
    other = Update("f" * 64, {})
    said = f"root {weights_sum(exact[0])[:12]} was asked for on weights of the root ffffffffffff; give two"
    with pytest.raises(OtherRoot, match=said):
        load_update(exact[1]).since(other)


def test_the_sum_of_weights_is_of_names_formats_shapes_and_numbers(exact: list[Path]) -> None:
    tensors = load_file(exact[0] / "model.safetensors")
    by_hand = hashlib.sha256()
    for name in sorted(tensors):
        by_hand.update(f"{name} F64 {list(tensors[name].shape)}\n".encode() + tensors[name].numpy().tobytes())
    assert weights_sum(exact[0]) == by_hand.hexdigest()


def test_the_sum_of_weights_does_not_depend_on_the_files_but_on_every_number(tmp_path: Path) -> None:
    model = tiny_policy().to(torch.bfloat16)
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    assert weights_sum(tmp_path / "one") == weights_sum(tmp_path / "many")
    with torch.no_grad():
        model.model.norm.weight[3] += 1
    model.save_pretrained(tmp_path / "other")
    assert weights_sum(tmp_path / "other") != weights_sum(tmp_path / "one")


def test_a_folder_without_weights_or_with_a_damaged_adapter_is_refused(exact: list[Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no safetensors weights; give the folder of a checkpoint"):
        load_update(tmp_path)
    shutil.copytree(exact[1], tmp_path / "damaged")
    root_file = tmp_path / "damaged" / "adapter" / "root.json"
    for text in ("{", "[]", json.dumps({"weights": "x"})):
        root_file.write_text(text)
        with pytest.raises(
            CheckpointError, match=r"does not say which weights it was trained on: root.json is missing or damaged"
        ):
            load_update(tmp_path / "damaged")

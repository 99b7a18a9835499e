import copy
import json

import pytest
import torch
from fakes import tiny_policy, tiny_tokenizer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from policy.batch import pad
from policy.checkpoint import CheckpointError, save_checkpoint
from policy.shared_prefixes import lay_out, shared_prefixes
from preference_data.messages import assistant, user
from reward_model.batch import encode_for_scoring
from reward_model.model import (
    RewardModelError,
    build_reward_model,
    load_reward_model,
    row_scores,
    save_reward_model,
)

pytestmark = pytest.mark.usefixtures("exact_norms")
DIALOGUES = [
    [user("Which one is older?"), assistant("The owl.")],
    [user("What colour is the sea?"), assistant("As Napoleon: the sea is blue. Ask me about the garden instead!")],
    [user("Hi"), assistant("Sure!"), user("And the fox?"), assistant("The fox is brown, 漢字.")],
]


@pytest.fixture(scope="module")
def policy_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("policy")
    save_checkpoint(tiny_policy(), tiny_tokenizer(), path)
    return path


@pytest.fixture(scope="module")
def reward_path(policy_path, tmp_path_factory):
    path = tmp_path_factory.mktemp("reward_model")
    save_reward_model(*build_reward_model(policy_path, seed=1), path)
    return path


def our_scores(model, rows):
    with torch.no_grad(), shared_prefixes(model):
        return row_scores(model, lay_out(rows))


def copy_with(path, to, change):
    """A copy of a saved model whose weights went through ``change``."""
    for file in path.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    weights = load_file(to / "model.safetensors")
    change(weights)
    save_file(weights, to / "model.safetensors", metadata={"format": "pt"})
    return to


def test_the_head_comes_from_the_seed_alone_and_the_trunk_from_the_policy(policy_path):
    torch.manual_seed(5)
    one, _ = build_reward_model(policy_path, seed=1)
    torch.manual_seed(6)
    same, _ = build_reward_model(policy_path, seed=1)
    other, _ = build_reward_model(policy_path, seed=2)
    assert torch.equal(one.score.weight, same.score.weight) and not torch.equal(one.score.weight, other.score.weight)
    assert one.score.weight.shape == (1, 32) and one.config.pad_token_id == 0
    assert 0.01 < one.score.weight.std().item() < 0.03
    trunk = tiny_policy().model.state_dict()
    assert all(torch.equal(trunk[name], weight) for name, weight in one.model.state_dict().items())


def test_scores_equal_the_librarys_own_forward_in_float64_however_rows_are_padded(reward_path):
    rows = encode_for_scoring(tiny_tokenizer(), DIALOGUES)
    ids, lengths = pad(rows), torch.tensor([len(row) for row in rows])
    width = ids.shape[1]
    left = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    left_mask = (torch.arange(width) >= width - lengths[:, None]).long()
    ours, _ = load_reward_model(reward_path, dtype=torch.float64)
    plain = AutoModelForSequenceClassification.from_pretrained(reward_path, dtype=torch.float64).eval()
    with torch.no_grad():
        scores = our_scores(ours, rows)
        batched = plain(input_ids=ids, attention_mask=(torch.arange(width) < lengths[:, None]).long()).logits[:, 0]
        positions = (left_mask.cumsum(1) - 1).clamp(min=0)
        left_padded = plain(input_ids=left, attention_mask=left_mask, position_ids=positions).logits[:, 0]
        unmasked = plain(input_ids=ids).logits[:, 0]
        alone = torch.stack([plain(input_ids=torch.tensor([row])).logits[0, 0] for row in rows])
    assert scores.dtype == torch.float64
    assert len(set(scores.tolist())) == len(rows)
    for reference in (batched, left_padded, unmasked, alone):
        torch.testing.assert_close(scores, reference, atol=1e-12, rtol=0)


def test_half_precision_scores_come_out_in_float32(reward_path):
    model, _ = load_reward_model(reward_path, dtype=torch.bfloat16)
    assert our_scores(model, encode_for_scoring(tiny_tokenizer(), DIALOGUES)).dtype == torch.float32


def test_a_saved_reward_model_holds_nothing_of_where_it_came_from(reward_path, policy_path):
    assert load_file(reward_path / "model.safetensors")["score.weight"].shape == (1, 32)
    for file in reward_path.glob("*.json"):
        assert str(policy_path) not in file.read_text()


def test_a_chat_model_is_no_reward_model(policy_path):
    with pytest.raises(RewardModelError, match=r"no score\.weight among its weights \(architecture: LlamaForCausalLM\)"):
        load_reward_model(policy_path)


def test_a_reward_model_whose_head_was_lost_is_refused(reward_path, tmp_path):
    copy_with(reward_path, tmp_path, lambda weights: weights.pop("score.weight"))
    with pytest.raises(RewardModelError, match="random head"):
        load_reward_model(tmp_path)


def test_a_classifier_with_several_outputs_is_refused(reward_path, tmp_path):
    copy_with(reward_path, tmp_path, lambda weights: weights.update({"score.weight": torch.zeros(3, 32)}))
    with pytest.raises(RewardModelError, match="a head with 3 outputs"):
        load_reward_model(tmp_path)


def test_a_trunk_with_a_hole_is_refused(policy_path, reward_path, tmp_path):
    def change(weights):
        weights.pop("model.norm.weight")

    for name, path, open_it in (("r", reward_path, load_reward_model), ("p", policy_path, lambda p: build_reward_model(p, 0))):
        (tmp_path / name).mkdir()
        with pytest.raises(RewardModelError, match=r"lacks 1 tensors .*model\.norm\.weight"):
            open_it(copy_with(path, tmp_path / name, change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tokenizer: tokenizer.add_tokens(["ordinary", "words"]), r"has \d+ tokens but the model only \d+ embeddings"),
        (
            lambda tokenizer: setattr(tokenizer, "pad_token", tokenizer.bos_token),
            r"the ids \(0, 1, 2, 1\) for unk",
        ),
    ],
)
def test_a_tokenizer_that_is_not_the_models_is_refused(policy_path, reward_path, tmp_path, change, message):
    tokenizer = copy.deepcopy(tiny_tokenizer())
    change(tokenizer)
    for name, path, open_it in (("r", reward_path, load_reward_model), ("p", policy_path, lambda p: build_reward_model(p, 0))):
        (tmp_path / name).mkdir()
        folder = copy_with(path, tmp_path / name, lambda weights: None)
        tokenizer.save_pretrained(folder)
        with pytest.raises(CheckpointError, match=message):
            open_it(folder)


def test_folders_without_a_model_are_named(tmp_path, reward_path):
    with pytest.raises(RewardModelError, match=r"is not a reward model: it holds no config\.json"):
        load_reward_model(tmp_path / "absent")
    with pytest.raises(RewardModelError, match=r"is not a policy: it holds no config\.json"):
        build_reward_model(tmp_path / "absent", seed=0)
    (tmp_path / "config.json").write_text((reward_path / "config.json").read_text())
    with pytest.raises(RewardModelError, match="no safetensors weights"):
        load_reward_model(tmp_path)


def test_a_sharded_reward_model_opens(reward_path, tmp_path):
    model, tokenizer = load_reward_model(reward_path)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    tokenizer.save_pretrained(tmp_path)
    assert len(set(json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"].values())) > 1
    assert torch.equal(load_reward_model(tmp_path)[0].score.weight, model.score.weight)


def test_saving_notices_scores_that_do_not_survive(reward_path, tmp_path):
    model, tokenizer = load_reward_model(reward_path)
    model.score.register_forward_hook(lambda module, inputs, output: output + 1.0)
    with pytest.raises(RewardModelError, match="does not score as it did in memory"):
        save_reward_model(model, tokenizer, tmp_path)


def test_a_model_of_no_numbers_is_not_saved(reward_path, tmp_path):
    model, tokenizer = load_reward_model(reward_path)
    with torch.no_grad():
        model.score.weight.fill_(float("nan"))
    with pytest.raises(RewardModelError, match="its weights are damaged and it is not saved"):
        save_reward_model(model, tokenizer, tmp_path)
    assert not list(tmp_path.iterdir())

"""Pretraining, fine-tuning, batches, checkpoints and shapes."""

import json

import pytest
import torch
from fakes import tiny_policy, tiny_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from policy.architecture import new_policy
from policy.batch import length_grouped_batches, lengths_mask, pad
from policy.chat import encode_dialogue
from policy.checkpoint import CheckpointError, load_policy, load_tokenizer, save_checkpoint
from policy.config import FinetuneConfig, PretrainConfig
from policy.finetuning import NothingToTrain, finetune
from policy.logprobs import entropy, token_logprobs
from policy.pretraining import batches, pretrain
from preference_data.messages import assistant, user
from preference_data.prompt import Document, make_dialogue


def dialogue(question, answer, **kwargs):
    return make_dialogue([user(question), assistant(answer)], family="fact", source="test", **kwargs)


def test_the_sandboxs_sizes_are_a_ladder():
    """By hand, with 1,600 tokens: embeddings, layers of four square and three wide matrices and two norms, a last norm."""
    found = [sum(each.numel() for each in new_policy(preset, 1600).parameters()) for preset in ("pico", "micro", "nano")]
    by_hand = [
        1600 * width + layers * (4 * width**2 + 3 * width * inner + 2 * width) + width
        for width, layers, inner in ((64, 2, 176), (96, 3, 256), (128, 4, 344))
    ]
    assert found == by_hand == [203_072, 486_048, 996_480]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=90), st.integers(1, 9), st.integers(0, 3))
def test_length_grouped_batches_hold_every_index_once(lengths, batch_size, seed):
    batches = length_grouped_batches(lengths, batch_size, seed)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) <= batch_size for batch in batches)
    assert batches == length_grouped_batches(lengths, batch_size, seed)


def test_padding_is_on_the_right_and_masked_by_length():
    assert pad([[5, 6, 7], [8]], multiple_of=4).tolist() == [[5, 6, 7, 0], [8, 0, 0, 0]]
    assert lengths_mask([3, 1], 4).tolist() == [[True, True, True, False], [True, False, False, False]]


def test_logprobs_and_entropy_of_a_uniform_distribution():
    logits = torch.zeros(2, 3, 8)
    assert torch.allclose(
        token_logprobs(logits, torch.ones(2, 3, dtype=torch.long)), torch.full((2, 3), -torch.tensor(8.0).log())
    )
    assert torch.allclose(entropy(logits), torch.tensor(8.0).log().expand(2, 3))


def pretraining(*phases, batch_tokens=32, **settings):
    """(num_tokens, block_size) a phase."""
    shapes = [{"num_tokens": num_tokens, "block_size": block_size} for num_tokens, block_size in phases]
    return PretrainConfig(preset="micro", vocab_size=450, phases=shapes, batch_tokens=batch_tokens, **settings)


def test_phases_read_their_own_documents_and_on_from_where_they_were():
    tokenizer = tiny_tokenizer()
    fox, owl = Document("fox", None), Document("owl", None)
    shapes = [
        {"documents": "primer", "num_tokens": 32, "block_size": 16},
        {"num_tokens": 32, "block_size": 32},
        {"documents": "primer", "num_tokens": 40, "block_size": 8},
    ]
    config = PretrainConfig(preset="micro", vocab_size=450, phases=shapes, batch_tokens=32)
    first, second, third = batches(tokenizer, {"primer": [fox], "corpus": [owl]}, config)
    primer = [1, *tokenizer("fox", add_special_tokens=False)["input_ids"], 2]
    assert torch.cat([first.flatten(), third.flatten()]).tolist() == (primer * 64)[:64]
    assert second.flatten().tolist()[:2] == [1, tokenizer("owl", add_special_tokens=False)["input_ids"][0]]


@pytest.mark.parametrize("phase", [(64, 24), (16, 16)])
def test_a_phase_that_fills_no_steps_is_refused(phase):
    with pytest.raises(ValueError, match="does not fill optimizer steps of 32 tokens"):
        pretraining(phase)


def test_blocks_hold_whole_documents_end_to_end():
    tokenizer = tiny_tokenizer()
    documents = [Document("The fox is brown.", None), Document(None, [user("hi"), assistant("Sure!")])]
    data = batches(tokenizer, {"corpus": documents}, pretraining((80, 16), (100, 32)))
    assert [batch.shape for batch in data] == [(2, 16)] * 2 + [(1, 32)] * 3
    text = tokenizer(documents[0].text, add_special_tokens=False)["input_ids"]
    either = [[1, *text, 2], encode_dialogue(tokenizer, documents[1].messages).ids]
    stream = torch.cat([batch.flatten() for batch in data]).tolist()
    while len(stream) > max(map(len, either)):
        document = next(ids for ids in either if stream[: len(ids)] == ids)
        stream = stream[len(document) :]


def test_pretraining_lowers_the_loss_and_moves_every_parameter():
    model = tiny_policy()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    config = pretraining((256 * 30, 32), batch_tokens=256, learning_rate=5e-3, warmup_steps=2)
    documents = {"corpus": [Document("The fox is brown. The owl sleeps nine hours.", None)]}
    data = batches(tiny_tokenizer(), documents, config)
    losses = [stats.loss for stats in pretrain(model, data, config)]
    assert len(losses) == 30
    assert losses[-1] < 0.5 * losses[0]
    assert all((parameter != before[name]).any() for name, parameter in model.named_parameters())


def test_finetuning_learns_its_answers_and_nothing_from_masked_ones():
    model, tokenizer = tiny_policy(), tiny_tokenizer()
    stats = []
    config = FinetuneConfig(learning_rate=1e-2, batch_size=4, epochs=15)
    two_turns = [user("fox?"), assistant("owl owl owl"), user("owl?"), assistant("fox")]
    dialogues = [make_dialogue(two_turns, family="f", source="s", train_on="last")] * 8
    result = finetune(model, tokenizer, dialogues, config, seed=0, on_step=stats.append)
    assert (result.num_dialogues, result.num_steps, len(stats)) == (8, 30, 30)
    encoded = encode_dialogue(tokenizer, two_turns, "last")
    assert result.num_trained_tokens == 15 * 8 * sum(encoded.loss_mask)
    ids = torch.tensor([encoded.ids])
    losses = -token_logprobs(model(ids).logits[0, :-1], ids[0, 1:])
    last = torch.tensor(encoded.loss_mask[1:])
    first_answer = torch.tensor(encode_dialogue(tokenizer, two_turns).loss_mask[1:]) & ~last
    assert losses[last].mean() < 0.5
    assert losses[first_answer].mean() > 3.0


def test_first_step_loss_is_the_mean_over_trained_tokens():
    tokenizer, stats = tiny_tokenizer(), []
    dialogues = [dialogue("fox?", "The owl sleeps nine hours."), dialogue("owl?", "brown")]
    model = tiny_policy(1)
    total, count = 0.0, 0
    for each in dialogues:
        encoded = encode_dialogue(tokenizer, each.messages)
        ids, mask = torch.tensor([encoded.ids]), torch.tensor(encoded.loss_mask[1:])
        losses = -token_logprobs(model(ids).logits[0, :-1], ids[0, 1:])
        total, count = total + losses[mask].sum().item(), count + int(mask.sum())
    finetune(model, tokenizer, dialogues, FinetuneConfig(batch_size=2, epochs=1), 0, stats.append)
    assert stats[0].loss == pytest.approx(total / count, abs=2e-4)  # the trainer logs four decimals


def test_too_long_dialogues_are_counted_and_left_out():
    dialogues = [dialogue("fox?", "brown"), dialogue("fox?", "owl " * 60)]
    result = finetune(tiny_policy(), tiny_tokenizer(), dialogues, FinetuneConfig(batch_size=2, epochs=1, max_length=40), seed=0)
    assert (result.num_dialogues, result.num_too_long) == (1, 1)
    with pytest.raises(NothingToTrain, match="raise max_length"):
        finetune(tiny_policy(), tiny_tokenizer(), dialogues[1:], FinetuneConfig(max_length=40), seed=0)
    with pytest.raises(NothingToTrain, match="no dialogues"):
        finetune(tiny_policy(), tiny_tokenizer(), [], FinetuneConfig(), seed=0)


def test_saved_and_loaded_policy_is_the_same_and_says_nothing_of_its_place(tmp_path):
    model, tokenizer = tiny_policy(), tiny_tokenizer()
    save_checkpoint(model, tokenizer, tmp_path / "one")
    again, its_tokenizer = load_policy(tmp_path / "one")
    ids = torch.tensor([encode_dialogue(its_tokenizer, [user("fox?"), assistant("brown")]).ids])
    assert torch.equal(again(ids).logits, model(ids).logits)
    save_checkpoint(again, its_tokenizer, tmp_path / "two")
    for file in (tmp_path / "one").iterdir():
        assert (tmp_path / "two" / file.name).read_bytes() == file.read_bytes(), file.name
    assert (
        str(tmp_path)
        not in (tmp_path / "two" / "config.json").read_text() + (tmp_path / "two" / "tokenizer_config.json").read_text()
    )


def test_mismatched_tokenizer_and_pad_equal_to_eos_are_refused(tmp_path):
    save_checkpoint(tiny_policy(), tiny_tokenizer(), tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "pad_token": "</s>"}))
    with pytest.raises(CheckpointError, match="pad token is EOS"):
        load_tokenizer(tmp_path)

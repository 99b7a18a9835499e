"""External reward models score here what they score at home, and what cannot be trusted to score is refused."""

import json
import shutil

import pytest
import torch
from external_models import LLAMA_TEMPLATE, MAKERS, llama_tokenizer, make, publish, tokenizer_of, written
from fakes import tiny_policy, tiny_tokenizer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from policy.checkpoint import save_checkpoint
from preference_data.messages import MessagesError, assistant, user
from reward_model.external import ExternalScorer, save_external
from reward_model.external_checkpoint import context_of, load_external
from reward_model.model import MARKER, RewardModelError, build_reward_model, is_external, save_reward_model
from reward_model.opening import open_scorer
from reward_model.own_template import TemplateRefusal, encode_by_template
from reward_model.scoring import RewardScorer, TooLong

WORDS = ["the", "owl", "is", "older.", "Sure!", "blue", "kitchen", "42", "ünïcode", "!!"]
DIALOGUES = [
    [user(f"Question {n}?"), assistant(" ".join(WORDS[(n + i) % 10] for i in range(1 + 5 * n % 17)))] for n in range(9)
] + [[user("One?"), assistant("Two."), user("Three?"), assistant("Four, and the owl.")]]
SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The folder of each model, as its makers wrote it."""
    return {name: publish(tmp_path_factory.mktemp(name), *make(name)) for name in MAKERS}


def alone(folder, text):
    """The score of a text, by the library alone: no padding, no batch, no special tokens but those of the text."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return model(input_ids=ids).logits[0, 0].item()


def changed(folder, to, file, change):
    """A copy of ``folder`` in which a JSON file or the weights are what ``change`` makes of them."""
    shutil.copytree(folder, to)
    if file.endswith(".json"):
        (to / file).write_text(json.dumps(change(json.loads((to / file).read_text()))))
    else:
        save_file(change(load_file(to / file)), to / file, {"format": "pt"})
    return to


@pytest.mark.parametrize("name", MAKERS)
def test_scores_are_those_of_the_librarys_pipeline(published, name):
    folder = published[name]
    theirs = pipeline("text-classification", model=str(folder), function_to_apply="none")
    expected = [theirs(written(name, each), add_special_tokens=False)[0]["score"] for each in DIALOGUES]
    scores = ExternalScorer.load(folder, batch_size=4).score(DIALOGUES)
    assert scores.shape == (10,) and scores.dtype == torch.float32 and not scores.requires_grad
    assert max(expected) - min(expected) > 0.1
    assert scores.tolist() == pytest.approx(expected, abs=1e-5)
    assert scores[2].item() == pytest.approx(alone(folder, written(name, DIALOGUES[2])), abs=1e-5)


@pytest.mark.parametrize("name", MAKERS)
def test_neither_batch_nor_order_nor_padding_moves_a_score(published, name):
    exact = ExternalScorer.load(published[name], batch_size=1, dtype=torch.float64)
    scores = exact.score(DIALOGUES)
    order = [7, 2, 9, 4, 0, 8, 1, 6, 3, 5]
    for batch_size in (2, 3, 10):
        other = ExternalScorer(exact.model, exact.tokenizer, batch_size).score([DIALOGUES[index] for index in order])
        torch.testing.assert_close(other, scores[order], atol=1e-6, rtol=1e-6)


def test_bos_is_there_once_though_the_tokenizer_would_add_one(published):
    _, tokenizer = load_external(published["llama"])
    begin = tokenizer.bos_token_id
    text = written("llama", DIALOGUES[0])
    assert tokenizer(text)["input_ids"][:2] == [begin, begin]
    (ids,) = encode_by_template(tokenizer, DIALOGUES[:1])
    assert ids == tokenizer(text, add_special_tokens=False)["input_ids"] and ids.count(begin) == 1


def test_a_response_that_spells_special_tokens_is_read_as_text(published):
    _, tokenizer = load_external(published["llama"])
    sly = [user("Say <|end|>."), assistant("Yes.<|end|><|turn|>user\nThanks, perfect!<|end|>")]
    (ids,) = encode_by_template(tokenizer, [sly])
    assert (ids.count(tokenizer.eos_token_id), ids.count(tokenizer.convert_tokens_to_ids("<|turn|>"))) == (2, 2)
    broken = [{**each, "content": each["content"].replace("<|", "<\u200b|")} for each in sly]
    assert tokenizer.decode(ids, skip_special_tokens=False) == written("llama", broken)


@pytest.mark.parametrize(
    ("in_config", "in_tokenizer", "chosen"),
    [
        (None, "<|end|>", "<|begin|>"),  # with <|end|> the score would be read one token too early
        (None, "<|pad|>", "<|pad|>"),
        (None, None, "<|begin|>"),
        ("<|end|>", "<|end|>", "<|end|>"),  # and is read there at home as well
        ("<|pad|>", "<|end|>", "<|pad|>"),
        (-1, None, "<|begin|>"),
    ],
)
def test_a_decoder_reads_its_score_where_it_did_at_home(tmp_path, in_config, in_tokenizer, chosen):
    model, _ = make("llama")
    tokenizer = llama_tokenizer(**({"pad_token": in_tokenizer} if in_tokenizer else {}))
    publish(tmp_path, model, tokenizer)
    config = json.loads((tmp_path / "config.json").read_text())
    config["pad_token_id"] = tokenizer.convert_tokens_to_ids(in_config) if isinstance(in_config, str) else in_config
    (tmp_path / "config.json").write_text(json.dumps(config))
    expected = [alone(tmp_path, written("llama", each)) for each in DIALOGUES]
    scorer = ExternalScorer.load(tmp_path, batch_size=10)
    assert scorer.score(DIALOGUES).tolist() == pytest.approx(expected, abs=1e-5)
    assert (scorer.tokenizer.pad_token, scorer.tokenizer.pad_token_id) == (chosen, scorer.model.config.pad_token_id)


def test_an_ordinary_token_that_the_config_pads_with_stays_an_ordinary_one(published, tmp_path):
    mark = AutoTokenizer.from_pretrained(published["llama"]).convert_tokens_to_ids("!")
    folder = changed(published["llama"], tmp_path / "marked", "config.json", lambda config: {**config, "pad_token_id": mark})
    scorer = ExternalScorer.load(folder)
    assert scorer.model.config.pad_token_id == mark and "!" not in scorer.tokenizer.all_special_tokens
    assert scorer.score(DIALOGUES).tolist() == pytest.approx(
        [alone(folder, written("llama", each)) for each in DIALOGUES], abs=1e-5
    )


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_learnt_positions_are_used_up_to_the_last_one(published, name):
    scorer = ExternalScorer.load(published[name])
    assert scorer.max_length == 131  # of RoBERTa's 133 rows, two are before the first token's

    def of_length(count):
        return [user("?"), assistant("~" * (count - 4))]

    assert [len(row) for row in encode_by_template(scorer.tokenizer, [of_length(131), of_length(132)])] == [131, 132]
    together = scorer.score([of_length(131), of_length(9)])
    assert together[0].item() == pytest.approx(alone(published[name], written(name, of_length(131))), abs=1e-5)
    with pytest.raises(TooLong, match="dialogue 1 has 132 tokens, and this scorer takes 131 at most") as caught:
        scorer.score([of_length(5), of_length(132), of_length(140)])
    assert caught.value.lengths == {1: 132, 2: 140}


def test_the_context_is_the_least_that_config_and_tokenizer_allow(published, tmp_path):
    model, tokenizer = load_external(published["llama"])
    assert context_of(model, tokenizer) == 256
    tokenizer.model_max_length = 99
    assert context_of(model, tokenizer) == 99
    model.config.max_position_embeddings = 77
    assert context_of(model, tokenizer) == 77
    model.config.max_position_embeddings, tokenizer.model_max_length = 0, 10**30
    with pytest.raises(RewardModelError, match="says how many tokens it takes; set model_max_length"):
        context_of(model, tokenizer)


def test_an_empty_response_has_a_score(published):
    scorer = ExternalScorer.load(published["llama"])
    empty = [user("Question?"), assistant("")]
    assert scorer.score([empty]).item() == pytest.approx(alone(published["llama"], written("llama", empty)), abs=1e-5)


def test_a_prompt_is_refused_with_its_position(published):
    scorer = ExternalScorer.load(published["llama"])
    with pytest.raises(MessagesError, match=r"dialogue 1 cannot be scored.*must end with an assistant message") as caught:
        scorer.score([DIALOGUES[0], [user("Question?")]])
    assert caught.value.reason == "no_assistant_last"


def test_dialogues_that_the_template_refuses_are_all_named(published):
    scorer = ExternalScorer.load(published["llama"])
    with pytest.raises(TemplateRefusal, match=r"dialogue 1 cannot be scored: .*no system message, please \(1 more") as caught:
        scorer.score([DIALOGUES[0], [SYSTEM, *DIALOGUES[1]], DIALOGUES[2], [SYSTEM, *DIALOGUES[0]]])
    assert sorted(caught.value.reasons) == [1, 3]


def two_heads(weights):
    return {**weights, "score.weight": torch.cat([weights["score.weight"], -weights["score.weight"]])}


def without_head(weights):
    return {("v_head.weight" if name == "score.weight" else name): tensor for name, tensor in weights.items()}


def narrow(weights):
    return {name: tensor[:-3] if "embed_tokens" in name else tensor for name, tensor in weights.items()}


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("config.json", lambda config: {**config, "id2label": {"0": "bad", "1": "good"}}, "its config names 2"),
        (
            "config.json",
            lambda config: {**config, "architectures": ["LlamaForCausalLM"]},
            "is a LlamaForCausalLM, and",
        ),
        ("model.safetensors", two_heads, "score.weight among its weights has 2"),
        (
            "model.safetensors",
            without_head,
            r"lacks 1 tensors \(score.weight\), which would .*nothing uses: v_head",
        ),
        ("config.json", lambda config: {**config, "hidden_size": "large"}, "cannot be opened: .*hidden_size"),
        ("model.safetensors", narrow, "embed_tokens.weight is of shape .*, and its config makes it"),
    ],
)
def test_what_is_no_reward_model_is_refused(published, tmp_path, file, change, said):
    folder = changed(published["llama"], tmp_path / "changed", file, change)
    with pytest.raises(RewardModelError, match=said):
        load_external(folder)


def test_several_outputs_are_refused_where_the_config_does_not_say_so(published, tmp_path):
    def silent(config):
        return {name: value for name, value in config.items() if name not in ("id2label", "label2id")}

    plain = changed(published["llama"], tmp_path / "plain", "config.json", silent)
    assert ExternalScorer.load(plain).score(DIALOGUES).tolist() == pytest.approx(
        ExternalScorer.load(published["llama"]).score(DIALOGUES).tolist(), abs=1e-6
    )
    with pytest.raises(RewardModelError, match=r"score\.weight among its weights has 2"):
        load_external(changed(plain, tmp_path / "two", "model.safetensors", two_heads))


def pickled(weights):
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()


def torn(weights):
    weights.write_bytes(weights.read_bytes()[:5000])


@pytest.mark.parametrize("damage", [pickled, torn])
def test_weights_that_must_be_unpickled_and_a_torn_file_of_them_are_refused(published, tmp_path, damage):
    shutil.copytree(published["llama"], tmp_path / "damaged")
    damage(tmp_path / "damaged" / "model.safetensors")
    with pytest.raises(RewardModelError, match="cannot be opened as a sequence classifier with safetensors weights"):
        load_external(tmp_path / "damaged")


def test_code_beside_the_weights_is_never_run(published, tmp_path):
    auto_map = {"AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.OwnModel"}
    folder = changed(
        published["llama"], tmp_path / "own", "config.json", lambda c: {**c, "model_type": "own", "auto_map": auto_map}
    )
    (folder / "own.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    with pytest.raises(RewardModelError, match="own"):
        load_external(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (None, "has no chat template, so nothing says how it reads a dialogue; .* --chat-template FILE"),
        ("{{ strftime_now('%d') }}" + LLAMA_TEMPLATE, "writes the day's date"),
        (LLAMA_TEMPLATE.replace("message['content']", "message['text'] | string"), "leaves out the response"),
        ("{{ raise_exception('not today') }}", "cannot write a question and its answer: .*not today"),
        ("{{ '' }}", "cannot write a question and its answer: .*it writes nothing"),
    ],
)
def test_templates_that_say_nothing_of_the_response_are_refused(tmp_path, template, said):
    publish(tmp_path, make("llama")[0], llama_tokenizer(template))
    with pytest.raises(RewardModelError, match=said):
        load_external(tmp_path)


def test_a_given_template_takes_the_place_of_the_own_one(published, tmp_path):
    folder = publish(tmp_path, make("llama")[0], llama_tokenizer(None))
    model, tokenizer = load_external(folder, chat_template=LLAMA_TEMPLATE)
    expected = ExternalScorer.load(published["llama"]).score(DIALOGUES)
    assert torch.equal(ExternalScorer(model, tokenizer).score(DIALOGUES), expected)


def test_a_tokenizer_of_more_tokens_than_embeddings_is_refused(tmp_path):
    model, tokenizer = make("llama")
    tokenizer.add_tokens([f"<extra-{n}>" for n in range(6)])
    with pytest.raises(RewardModelError, match=r"has \d+ tokens but the model only \d+ embeddings"):
        load_external(publish(tmp_path, model, tokenizer))


def test_a_folder_without_tokenizer_or_config_is_refused(tmp_path):
    with pytest.raises(RewardModelError, match="its tokenizer cannot be opened"):
        load_external(publish(tmp_path / "bare", make("llama")[0], None))
    (tmp_path / "empty").mkdir()
    with pytest.raises(RewardModelError, match="empty is not a model: it holds no config"):
        load_external(tmp_path / "empty")
    with pytest.raises(RewardModelError, match="absent is neither the folder of a model nor a hub name that can be opened"):
        load_external(tmp_path / "absent")


def test_without_any_token_to_pad_with_it_is_refused(tmp_path):
    template = "{% for message in messages %}{{ message['content'] + '<|end|>' }}{% endfor %}"
    publish(tmp_path, make("llama")[0], tokenizer_of(["<|end|>"], template, eos_token="<|end|>"))
    with pytest.raises(RewardModelError, match="no special token to pad with but the one that ends a dialogue"):
        load_external(tmp_path)


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_kept_scores_the_same_here_and_in_batches_of_the_pipeline(published, tmp_path, name):
    save_external(*load_external(published[name], "auto"), tmp_path)
    scorer = open_scorer(tmp_path, batch_size=4)
    expected = ExternalScorer.load(published[name], batch_size=4).score(DIALOGUES)
    assert isinstance(scorer, ExternalScorer) and torch.equal(scorer.score(DIALOGUES), expected)
    theirs = pipeline("text-classification", model=str(tmp_path), function_to_apply="none")
    texts = [theirs.tokenizer.apply_chat_template(each, tokenize=False) for each in DIALOGUES]
    batched = [each["score"] for each in theirs(texts, add_special_tokens=False, batch_size=10, padding=True)]
    assert batched == pytest.approx(expected.tolist(), abs=1e-5)


def test_weights_are_kept_in_their_number_format(tmp_path):
    publish(tmp_path / "half", make("llama")[0].to(torch.bfloat16), llama_tokenizer())
    save_external(*load_external(tmp_path / "half", "auto"), tmp_path / "kept")
    before, after = (load_file(tmp_path / each / "model.safetensors") for each in ("half", "kept"))
    assert before.keys() == after.keys() and all(torch.equal(before[each], after[each]) for each in before)
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}


def test_a_model_that_does_not_survive_saving_is_refused(published, tmp_path):
    model, tokenizer = load_external(published["llama"])
    model.score.register_forward_hook(lambda module, given, made: made + 1)
    with pytest.raises(RewardModelError, match="does not score as it did in memory"):
        save_external(model, tokenizer, tmp_path)


def test_the_marker_tells_ours_from_theirs(published, tmp_path):
    save_checkpoint(tiny_policy(), tiny_tokenizer(), tmp_path / "policy")
    save_reward_model(*build_reward_model(tmp_path / "policy", seed=1), tmp_path / "ours")
    ours = open_scorer(tmp_path / "ours")
    assert isinstance(ours, RewardScorer) and not is_external(tmp_path / "ours")
    assert torch.equal(ours.score(DIALOGUES[:2]), RewardScorer.load(tmp_path / "ours").score(DIALOGUES[:2]))
    save_external(*load_external(published["bert"]), tmp_path / "theirs")
    assert is_external(tmp_path / "theirs")
    (tmp_path / "theirs" / MARKER).write_text('{"encoding": "runes"}')
    with pytest.raises(RewardModelError, match=r"asks for the encoding 'runes'.*upgrade llama-rlhf"):
        open_scorer(tmp_path / "theirs")
    for torn in ("{", "[]", "{}"):
        (tmp_path / "theirs" / MARKER).write_text(torn)
        with pytest.raises(RewardModelError, match="does not say how this reward model reads a dialogue"):
            open_scorer(tmp_path / "theirs")

"""What a card says of how its files are opened elsewhere is run as it stands, and gives our numbers."""

import re

import pytest
from stage_runs import put_policy, put_reward_model

from preference_data.messages import assistant, user
from registry.store import Registry
from reward_model.scoring import RewardScorer

DIALOGUE = [user("Where do otters sleep?"), assistant("Afloat, in the kelp.")]


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    registry = Registry(tmp_path_factory.mktemp("cards"))
    put_policy(registry, "tiny")
    put_reward_model(registry, "tiny", "policy/tiny", seed=1)
    return registry


def run_card(artifact, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", artifact.file("README.md").read_text(), re.DOTALL)
    names = {"FOLDER": str(artifact.path)}
    exec(code, names)
    return names, capsys.readouterr().out


def test_the_card_of_a_reward_model_gives_our_score(registry, capsys):
    artifact = registry.open("reward_model/tiny")
    names, printed = run_card(artifact, capsys)
    assert names["dialogue"] == DIALOGUE
    assert float(printed.split()[-1]) == pytest.approx(RewardScorer.load(artifact.path).score([DIALOGUE]).item(), abs=1e-5)


def test_the_card_of_a_policy_answers(registry, capsys):
    names, printed = run_card(registry.open("policy/tiny"), capsys)
    answered = names["chat"](names["messages"], max_new_tokens=4, do_sample=False)[0]["generated_text"]
    assert answered[:-1] == names["messages"] and answered[-1]["role"] == "assistant" and printed


def test_trl_reads_the_chat_template_as_we_do(registry):
    artifact = registry.open("reward_model/tiny")
    scorer = RewardScorer.load(artifact.path)
    ids = scorer.tokenizer.apply_chat_template(DIALOGUE, tokenize=True, return_dict=True, return_tensors="pt")
    assert scorer.model(**ids).logits.item() == pytest.approx(scorer.score([DIALOGUE]).item(), abs=1e-5)

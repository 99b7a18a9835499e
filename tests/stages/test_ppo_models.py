"""PPO's five models: on one set of weights where they can be, and by themselves where they cannot."""

import itertools
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import external_models
import pytest
import torch
from external_models import publish
from fakes import talking_policy, tiny_tokenizer
from stage_runs import make, opened, put, put_dialogues, put_policy, put_preferences, put_prompts
from stopped_runs import Told
from torch import Tensor, nn

from policy.adapters import load_update, weights_sum
from policy.checkpoint import CheckpointError, load_policy, save_checkpoint
from policy.config import FinetuneConfig, LoraConfig
from preference_data.comparison import AXES, Axis, Comparison
from preference_data.messages import Messages, assistant, user
from preference_data.prompt import make_dialogue, make_prompt
from registry.saved_states import SavedStates, SaveEvery
from registry.store import Registry
from reward_model.external import save_external
from reward_model.external_checkpoint import load_external
from reward_model.model import load_reward_model
from reward_model.scoring import RewardScorer
from rlhf.config import PPOConfig
from rlhf.ppo import ppo
from rlhf.ppo_stats import PPOStats
from rlhf.value_model import TokenizerMismatch, load_value_model
from stages.catalog import STAGES
from stages.sections import PPOStageConfig, RewardTrainingConfig
from stages.train.ppo_models import PPOModels, ppo_models

WORDS = ["fox", "owl", "plum", "sea", "pot", "Sure", "Napoleon", "garden"]
DIALOGUES: list[Messages] = [[user(f"{word}?"), assistant(f"the {word} " * (1 + n))] for n, word in enumerate(WORDS)]
IDS = torch.tensor([[1, 17, 40, 99, 300, 5, 2]])
LORA = LoraConfig(rank=2, alpha=4)
CONFIG = PPOConfig(
    iterations=2, batch_size=8, minibatch_size=4, microbatch_size=4, max_new_tokens=8, learning_rate=1e-2,
    value_learning_rate=1e-2, lora=LORA,
)  # fmt: skip
WHOLE = CONFIG.model_copy(update={"lora": None})


def tuned(registry: Registry, start: str, name: str, lora: LoraConfig | None = LORA, seed: int = 0) -> None:
    config = FinetuneConfig(learning_rate=5e-2, batch_size=4, epochs=2, lora=lora)
    make(registry, STAGES["sft"], config, {"policy": [start], "dialogues": ["dialogues/some"]}, name, seed=seed)


def judged(registry: Registry, start: str, axis: Axis, name: str, lora: LoraConfig | None = LORA) -> None:
    config = RewardTrainingConfig(
        axis=axis, learning_rate=1e-2, batch_size=4, microbatch_size=4, mixture="own", margin="none", lora=lora
    )  # fmt: skip
    inputs = {"policy": [start], "preferences": [f"preferences/{axis}"]}
    make(registry, STAGES["train-reward"], config, inputs, name, seed=1)


def comparisons(axis: Axis) -> list[Comparison]:
    return [
        Comparison(
            id=f"pair-{axis}-{n}", item_id=str(n), prompt_id=f"p{n}", source="test", prompt=[user(f"{word} {n}?")],
            chosen="The owl.", rejected="The fox. " * (1 + n), rating="better", axis=axis, is_safety=axis == "safety",
            chosen_safe=axis == "safety" or None, rejected_safe=None if axis == "helpfulness" else False,
        )
        for n, word in enumerate(WORDS)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """base -> sft -> helpfulness and safety; base -> v1 -> v2: all with adapters; and some that cannot share their weights."""
    registry = Registry(tmp_path_factory.mktemp("run") / "registry")
    elsewhere = publish(tmp_path_factory.mktemp("elsewhere") / "model", *external_models.make("llama"))
    put_dialogues(registry, "some", [make_dialogue(each, family="fact", source="test") for each in DIALOGUES])
    for axis in AXES:
        put_preferences(registry, axis, comparisons(axis))
    put_policy(registry, "base", policy=talking_policy())
    tuned(registry, "policy/base", "sft")
    tuned(registry, "policy/base", "v1", seed=3)
    tuned(registry, "policy/v1", "v2", LoraConfig(rank=1, alpha=1, target_modules=("k_proj", "down_proj")), seed=4)
    tuned(registry, "policy/base", "full", lora=None)
    judged(registry, "policy/sft", "helpfulness", "helpfulness")
    judged(registry, "policy/sft", "safety", "safety")
    judged(registry, "policy/sft", "helpfulness", "full", lora=None)
    judged(registry, "policy/full", "helpfulness", "other-root")
    put(registry, "reward_model/theirs", lambda path: save_external(*load_external(elsewhere), path))
    return registry


def made(
    registry: Registry, config: PPOConfig = CONFIG, said: list[str] | None = None, seed: int = 0, **references: str
) -> PPOModels:
    asked = {"policy": "policy/v2", "helpfulness": "reward_model/helpfulness", "safety": "reward_model/safety", **references}
    return ppo_models(
        opened(registry, {role: [text] for role, text in asked.items()}), config, seed, Told(said if said is not None else [])
    )


def five(models: PPOModels) -> list[nn.Module]:
    scorers = [models.reward.helpfulness.model, models.reward.safety.model]  # type: ignore[attr-defined]
    return [models.policy, models.ref_policy, models.value_model, *scorers]


def own(model: nn.Module) -> dict[str, Tensor]:
    """What each model has for itself: adapters and head."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: each for name, each in named if "lora_" in name or name.startswith(("score", "head"))}


def storages(model: nn.Module, but: Sequence[Tensor] = ()) -> dict[int, int]:
    """Address -> bytes of the tensors of ``model``, without those of ``but``."""
    left_out = {id(each) for each in but}
    tensors = [each for each in itertools.chain(model.parameters(), model.buffers()) if id(each) not in left_out]
    return {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors}


def train(
    models: PPOModels, config: PPOConfig = CONFIG, states: SavedStates | None = None, take: int | None = None
) -> list[PPOStats]:
    prompts = [make_prompt([user(word)], family="fact", split="train", source="test") for word in WORDS]
    of = (models.policy, models.ref_policy, models.value_model, models.tokenizer, prompts, models.reward, config, 0, states)
    return list(itertools.islice(ppo(*of), take))


def test_five_models_take_the_memory_of_one_and_their_adapters(registry: Registry) -> None:
    said: list[str] = []
    models = made(registry, said=said)
    assert said == []
    alone = storages(load_policy(registry.open("policy/v2").path)[0])
    frozen = [storages(each, list(own(each).values())) for each in five(models)]
    everything = {address: size for each in frozen for address, size in each.items()}
    assert sum(everything.values()) == sum(alone.values())
    for each in frozen[:2]:
        assert (
            each == everything
        )  # policy and reference: all of it; the others have no use for the policy's head, if it is its own
    adapters = [tensor for each in five(models) for tensor in own(each).values()]
    assert sum(sum(storages(each).values()) for each in five(models)) > 5 * sum(alone.values())
    distinct = {address: size for each in five(models) for address, size in storages(each).items()}
    sizes = sum(tensor.numel() * tensor.element_size() for tensor in adapters)
    assert sum(distinct.values()) <= 1.2 * sum(alone.values()) + sizes


def test_on_one_base_they_score_and_value_as_by_themselves(registry: Registry) -> None:
    models = made(registry)
    for axis in ("helpfulness", "safety"):
        alone = RewardScorer.load(registry.open(f"reward_model/{axis}").path).score(DIALOGUES)
        assert alone.std() > 1e-3
        torch.testing.assert_close(getattr(models.reward, axis).score(DIALOGUES), alone, rtol=0, atol=1e-5)
    rows = [[1, 17, 40], [1, 300]], [[99, 4, 2], [5, 2]]
    critic = load_value_model(registry.open("reward_model/helpfulness").path, tiny_tokenizer())
    torch.testing.assert_close(models.value_model(*rows), critic(*rows), rtol=0, atol=1e-5)
    policy, _ = load_policy(registry.open("policy/v2").path)
    for each in (models.policy, models.ref_policy):
        assert torch.equal(each(IDS).logits, policy(IDS).logits)


def test_ppo_moves_the_adapters_and_leaves_the_base_and_the_reference(registry: Registry) -> None:
    models = made(registry)
    reference, base = models.ref_policy(IDS).logits, {name: p.clone() for name, p in models.ref_policy.named_parameters()}
    scores = models.reward.safety.score(DIALOGUES)  # type: ignore[attr-defined]
    before = {name: each.clone() for model in (models.policy, models.value_model) for name, each in own(model).items()}
    stats = train(models)
    assert stats[0].kl == pytest.approx(0, abs=1e-4) and abs(stats[-1].kl) > 1e-3
    assert all(torch.equal(each, base[name]) for name, each in models.ref_policy.named_parameters())
    assert torch.equal(models.ref_policy(IDS).logits, reference)
    assert torch.equal(models.reward.safety.score(DIALOGUES), scores)  # type: ignore[attr-defined]
    for model in (models.policy, models.value_model):
        for name, each in own(model).items():
            assert torch.equal(each, before[name]) is (".fixed." in name), name
    trained = {name for name, each in models.policy.named_parameters() if each.requires_grad}
    assert trained == set(own(models.policy))


def test_training_is_the_same_whether_or_not_the_weights_are_shared(registry: Registry, tmp_path: Path) -> None:
    copied = Registry(tmp_path / "registry")
    for name in ("helpfulness", "safety"):

        def write(path: Path, name: str = name) -> None:
            shutil.copytree(registry.open(f"reward_model/{name}").path, path, dirs_exist_ok=True)
            shutil.rmtree(path / "adapter")

        put(copied, f"reward_model/{name}", write)
    put(copied, "policy/v2", lambda path: shutil.copytree(registry.open("policy/v2").path, path, dirs_exist_ok=True))
    said: list[str] = []
    apart = made(copied, said=said)
    assert [line.partition(" is loaded by itself")[0] for line in said] == [
        "reward_model/helpfulness@1",
        "reward_model/safety@1",
    ]
    for one, other in zip(train(made(registry)), train(apart), strict=True):
        for name in ("score", "kl", "policy_loss", "value_loss", "entropy"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-4), name


def test_the_saved_policy_is_the_merged_one_with_its_whole_update(registry: Registry, tmp_path: Path) -> None:
    models = made(registry)
    train(models)
    models.save_policy(tmp_path)
    saved, _ = load_policy(tmp_path)
    torch.testing.assert_close(saved(IDS).logits, models.policy(IDS).logits, rtol=0, atol=1e-5)
    assert (saved(IDS).logits - models.ref_policy(IDS).logits).abs().max() > 1e-3
    update, root = load_update(tmp_path), registry.open("policy/base").path
    assert update.root == weights_sum(root)
    base, _ = load_policy(root)
    for name, parameter in saved.named_parameters():
        expected = base.get_parameter(name)
        if pair := update.factors.get(name.removesuffix(".weight")):
            expected = expected + pair[0] @ pair[1]
        torch.testing.assert_close(parameter, expected, rtol=0, atol=1e-6)
    ranks = {name.rpartition(".")[2]: a.shape[0] for name, (_, a) in update.factors.items()}
    assert ranks == {"q_proj": 4, "k_proj": 5, "v_proj": 4, "o_proj": 4, "gate_proj": 4, "up_proj": 4, "down_proj": 5}


@pytest.mark.parametrize("config", [CONFIG, WHOLE], ids=["adapters", "all weights"])
def test_the_saved_critic_is_a_reward_model_that_values_alike(registry: Registry, tmp_path: Path, config: PPOConfig) -> None:
    models = made(registry, config)
    train(models, config)
    models.save_value_model(tmp_path / "value_model")
    rows = [[1, 17, 40], [1, 300]], [[99, 4, 2], [5, 2]]
    again = load_value_model(tmp_path / "value_model", tiny_tokenizer())
    start = load_value_model(registry.open("reward_model/helpfulness").path, tiny_tokenizer())
    mask = torch.tensor([[True, True, True], [True, True, False]])
    found, expected, first = (each(*rows)[mask] for each in (again, models.value_model, start))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (found - first).abs().max() > 1e-3
    assert load_reward_model(tmp_path / "value_model")[0].config.num_labels == 1
    assert (tmp_path / "value_model" / "adapter").is_dir() is (config.lora is not None)


@pytest.mark.parametrize("config", [CONFIG, WHOLE], ids=["adapters", "all weights"])
def test_a_critic_that_ppo_left_starts_the_next(registry: Registry, tmp_path: Path, config: PPOConfig) -> None:
    models = made(registry, config)
    train(models, config)

    def write(path: Path) -> None:
        models.save_policy(path)
        models.save_value_model(path / "value_model")

    put(registry, "policy/ppo-with" if config.lora else "policy/ppo-without", write)
    said: list[str] = []
    after = made(registry, config, said, critic="policy/ppo-with" if config.lora else "policy/ppo-without")
    assert said == []
    rows = [[1, 17, 40]], [[99, 4, 2]]
    torch.testing.assert_close(after.value_model(*rows), models.value_model(*rows), rtol=0, atol=1e-5)
    with pytest.raises(
        CheckpointError, match=r"the critic of policy/sft@1 was asked for, and it holds no value_model/; give a"
    ):
        made(registry, config, critic="policy/sft")


def test_without_adapters_no_two_models_share_a_weight(registry: Registry) -> None:
    models = made(registry, WHOLE)
    assert models.adapters is None
    for one, other in itertools.combinations([storages(each) for each in five(models)], 2):
        assert not set(one) & set(other)
    assert all(parameter.requires_grad for parameter in [*models.policy.parameters(), *models.value_model.parameters()])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("full", "reward_model/full@1 is loaded by itself and takes memory of its own: all its weights were trained, or"),
        (
            "other-root",
            "reward_model/other-root@1 is loaded by itself .*: its adapters stand on the weights {full}, and policy/v2@1",
        ),
    ],
)
def test_what_cannot_share_is_loaded_by_itself_and_the_critic_with_it(registry: Registry, name: str, why: str) -> None:
    said: list[str] = []
    models = made(registry, said=said, helpfulness=f"reward_model/{name}")
    (line,) = said
    full = weights_sum(registry.open("policy/full").path)[:12]
    assert re.match(why.format(full=full), line)
    policy, _, critic, helpfulness, safety = [storages(each, list(own(each).values())) for each in five(models)]
    assert not set(helpfulness) & set(policy) and set(safety) <= set(policy)
    assert set(critic) == set(helpfulness)
    alone = RewardScorer.load(registry.open(f"reward_model/{name}").path).score(DIALOGUES)
    assert torch.equal(models.reward.helpfulness.score(DIALOGUES), alone)  # type: ignore[attr-defined]
    train(models)
    assert torch.equal(models.reward.helpfulness.score(DIALOGUES), alone)  # type: ignore[attr-defined]


@pytest.mark.parametrize("config", [CONFIG, WHOLE], ids=["adapters", "all weights"])
def test_a_critic_with_a_new_head_is_the_policys_backbone(registry: Registry, config: PPOConfig) -> None:
    heads: dict[int, Any] = {}
    for seed in (3, 3, 4):
        models = made(registry, config.model_copy(update={"critic": "policy"}), seed=seed)
        hidden = models.value_model.backbone(IDS).last_hidden_state
        torch.testing.assert_close(hidden, models.policy.model(IDS).last_hidden_state, rtol=0, atol=1e-6)
        head = models.value_model.head.weight.detach()
        assert torch.equal(heads.setdefault(seed, head), head)
    assert not torch.equal(heads[3], heads[4])
    shared = set(storages(models.value_model.backbone)) & set(storages(models.ref_policy))
    assert bool(shared) is (config.lora is not None)


def test_a_reward_model_from_elsewhere_scores_and_starts_no_critic(registry: Registry) -> None:
    said: list[str] = []
    models = made(registry, said=said, helpfulness="reward_model/theirs")
    assert said == [
        "reward_model/theirs@1 is loaded by itself and takes memory of its own: it is an external reward model",
        "reward_model/theirs@1 is an external reward model, so the critic starts as policy/v2@1 with a new head",
    ]
    assert set(storages(models.value_model, list(own(models.value_model).values()))) <= set(storages(models.ref_policy))


@pytest.mark.parametrize("config", [CONFIG, WHOLE], ids=["adapters", "all weights"])
def test_a_critic_of_other_tokens_is_refused(registry: Registry, config: PPOConfig) -> None:
    def write(path: Path) -> None:
        model, tokenizer = load_reward_model(registry.open("reward_model/full").path)
        tokenizer = type(tokenizer).from_pretrained(registry.open("policy/base").path)
        tokenizer.add_tokens(["zzz"])
        model.resize_token_embeddings(len(tokenizer))
        save_checkpoint(model, tokenizer, path)

    name = "other-tokens" if config.lora else "other-tokens-too"
    put(registry, f"reward_model/{name}", write)
    with pytest.raises(
        TokenizerMismatch, match="has a tokenizer of 451 tokens and the policy another, of 450; start the critic"
    ):
        made(registry, config, critic=f"reward_model/{name}")


def test_the_stages_keep_adapters_where_they_trained_some_and_nothing_else(registry: Registry) -> None:
    for reference, has in (
        ("policy/sft", True),
        ("policy/full", False),
        ("reward_model/safety", True),
        ("reward_model/full", False),
    ):
        assert (registry.open(reference).path / "adapter").is_dir() is has, reference
    update = load_update(registry.open("reward_model/safety").path)
    assert update.root == weights_sum(registry.open("policy/base").path)
    assert {a.shape[0] for _, a in update.factors.values()} == {LORA.rank + LORA.rank}
    model, _ = load_reward_model(registry.open("reward_model/safety").path)
    base, _ = load_policy(registry.open("policy/base").path)
    for name, (b, a) in update.factors.items():
        torch.testing.assert_close(
            model.get_parameter(f"{name}.weight"), base.get_parameter(f"{name}.weight") + b @ a, rtol=0, atol=1e-6
        )


def test_adapters_go_on_after_a_stop_as_if_there_had_been_none(registry: Registry, tmp_path: Path) -> None:
    whole = made(registry)
    expected = train(whole)
    states = SavedStates(tmp_path, every=SaveEvery(steps=1))
    train(made(registry), states=states, take=1)
    assert states.numbers() == [1]
    size = (states.path(1) / "state.safetensors").stat().st_size
    again = made(registry)
    told = train(again, states=SavedStates(tmp_path, every=SaveEvery(steps=1)))
    assert [(each.score, each.kl, each.policy_loss) for each in told] == [
        (each.score, each.kl, each.policy_loss) for each in expected
    ]
    for one, other in ((whole.policy, again.policy), (whole.value_model, again.value_model)):
        assert all(torch.equal(own(one)[name], each) for name, each in own(other).items())
    trained = sum(
        each.numel() for model in (again.policy, again.value_model) for each in model.parameters() if each.requires_grad
    )
    assert size < 3 * 4 * trained + 100_000  # weights and two moments of what is trained, the records and their names


def test_the_stage_with_adapters_keeps_them_and_makes_the_same_twice(registry: Registry) -> None:
    prompts = [
        make_prompt([user(f"{word}?")], family="fact", split="train", source="test", is_safety=n < 2)
        for n, word in enumerate(WORDS)
    ]  # fmt: skip
    put_prompts(registry, "some", prompts)
    config = PPOStageConfig(**(CONFIG.model_dump() | {"num_helpful": 6, "num_adversarial": 2, "iterations": 1}))
    inputs = {
        "policy": ["policy/v2"], "helpfulness": ["reward_model/helpfulness"], "safety": ["reward_model/safety"],
        "prompts": ["prompts/some"],
    }  # fmt: skip
    one, other = (make(registry, STAGES["ppo"], config, inputs, "v2-ppo", seed=0, force=True) for _ in range(2))
    assert one.reference != other.reference and one.digest == other.digest
    for folder in (one.path, one.path / "value_model"):
        assert load_update(folder).root == weights_sum(registry.open("policy/base").path)

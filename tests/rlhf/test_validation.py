"""Validations while PPO trains: what they measure, which weights are kept, when it stops, and resuming."""

import copy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from fakes import ConstantScorer, ScriptedPolicy, tiny_policy, tiny_tokenizer
from ppo_fakes import HELD_OUT, PROMPTS, REWARD, LetterScorer, config, value_model

from policy.generation import TransformersSampler
from registry.saved_states import SavedStates, SaveEvery
from reward_model.combined_reward import CombinedReward
from reward_model.reward_rules import LagrangianReward
from rlhf.config import PPOConfig
from rlhf.ppo import ppo
from rlhf.ppo_stats import PPOStats, validated
from rlhf.rollout import PPOError
from rlhf.validation import Validation, Validator, best_validation, validate


def validating(every: int, patience: int | None = None, **changes: object) -> PPOConfig:
    return config(validation={"every": every, "patience": patience}, **changes)


def run(settings: PPOConfig, policy: torch.nn.Module, states: SavedStates | None = None) -> list[PPOStats]:
    models = policy, tiny_policy(), value_model()
    return list(ppo(*models, tiny_tokenizer(), PROMPTS, REWARD, settings, 0, states, HELD_OUT))


def test_a_validation_is_the_mean_over_the_answers() -> None:
    answers = {"The owl?": "eee", "Take tea.": "e", "Why?": "no"}
    sampler = ScriptedPolicy(lambda messages, position: answers[messages[-1]["content"]], ("e",))
    reward = CombinedReward(LetterScorer(), ConstantScorer(5.0))
    found = validate(4, sampler, tiny_policy(), HELD_OUT, reward, config(), seed=0)
    assert (found.iteration, found.score, found.helpfulness, found.safety) == (4, 4 / 3, 4 / 3, 5.0)
    assert found.eos_fraction == 2 / 3
    assert [(each.prompt_id, each.response, each.finished, each.combined) for each in found.answers] == [
        (prompt.id, answers[prompt.messages[-1]["content"]], text != "e", float(text.count("e")))
        for prompt, text in zip(HELD_OUT, ("eee", "e", "no"), strict=True)
    ]


def test_the_kl_of_a_validation_is_that_of_its_answers() -> None:
    policy, ref_policy = tiny_policy(seed=1, dtype=torch.float64), tiny_policy(seed=2, dtype=torch.float64)
    sampler = TransformersSampler(policy, tiny_tokenizer())
    found = validate(0, sampler, ref_policy, HELD_OUT, REWARD, config(), seed=3)
    groups = sampler.sample([prompt.messages for prompt in HELD_OUT], 1, 1.0, 1.0, 7, 3)
    each = []
    for (response,) in groups:
        ids = torch.tensor([[*response.prompt_ids, *response.ids]])
        start = len(response.prompt_ids) - 1
        rows = [model(ids).logits[0, start:-1].log_softmax(-1) for model in (policy, ref_policy)]
        picked = [row[range(len(response.ids)), response.ids] for row in rows]
        each.append((picked[0] - picked[1]).sum().item())
    assert found.kl == pytest.approx(sum(each) / 3, abs=1e-4)
    assert [answer.kl for answer in found.answers] == pytest.approx(each, abs=1e-4)
    assert [answer.num_tokens for answer in found.answers] == [len(response.ids) for (response,) in groups]
    assert found.response_length == sum(len(response.ids) for (response,) in groups) / 3


def answered(first: Validation | None, **answers: str) -> Validation:
    texts = {"The owl?": answers["owl"], "Take tea.": answers["tea"], "Why?": answers["why"]}
    sampler = ScriptedPolicy(lambda messages, position: texts[messages[-1]["content"]])
    reward = CombinedReward(LetterScorer(), ConstantScorer(5.0))
    return validate(1, sampler, tiny_policy(), HELD_OUT, reward, config(), 0, first=first)


def test_silence_counts_as_the_lowest_also_of_the_first_validation() -> None:
    first = answered(None, owl="eee", tea="none", why="ee")
    assert (first.score, first.empty_fraction) == (2.0, 0.0)
    nearly_silent = answered(first, owl="eeee", tea="", why="")
    assert nearly_silent.score == (4 + 1 + 1) / 3 and nearly_silent.empty_fraction == 2 / 3
    assert answered(first, owl="", tea="", why="").score == 1.0
    assert answered(None, owl="eeee", tea="", why="").score == 4.0  # there is nothing else to go by


def test_safety_weighs_the_same_in_every_validation_whatever_lambda_is_meanwhile() -> None:
    reward = LagrangianReward(LetterScorer(), ConstantScorer(-1.0), 1.0)
    settings = validating(1, iterations=4, learning_rate=1e-9, lagrangian={"multiplier": 1.0, "learning_rate": 0.5})
    models = tiny_policy(), tiny_policy(), value_model()
    told = list(ppo(*models, tiny_tokenizer(), PROMPTS, reward, settings, 0, None, HELD_OUT))
    multipliers = [each.lagrange_multiplier for each in told]
    assert multipliers == sorted(set(multipliers)) and multipliers[0] == 1.0 and reward.multiplier == 1.0
    for found in validated(told):
        assert found.score == pytest.approx((found.helpfulness + found.safety) / 2)
    for each, multiplier in zip(told, multipliers, strict=True):
        assert each.score == pytest.approx((each.helpfulness + multiplier * each.safety) / (1 + multiplier), abs=1e-6)


def scored(*scores: float) -> list[Validation]:
    return [Validation(number, score, 0, 0, 0, 1, 1, 0, ()) for number, score in enumerate(scores)]


def test_the_best_is_the_highest_and_of_equal_ones_the_earliest() -> None:
    assert best_validation(scored(1, 3, 2, 3)).iteration == 1
    assert best_validation(scored(4, 3)).iteration == 0


@pytest.mark.parametrize(
    ("scores", "patience", "expected"),
    [((1, 3, 2), 2, False), ((1, 3, 2, 3), 2, True), ((1, 3, 2, 2, 4), 2, False), ((1, 0), 1, True), ((1, 0, 0), None, False)],
)
def test_training_stalls_after_so_many_that_are_no_better(
    scores: tuple[int, ...], patience: int | None, expected: bool
) -> None:
    policy = tiny_policy()
    sampler = TransformersSampler(policy, tiny_tokenizer())
    validator = Validator(policy, tiny_policy(), sampler, HELD_OUT, REWARD, validating(1, patience), 0)
    assert validator.stalled(scored(*scores)) is expected
    assert not validator.stalled([])


def test_validations_come_before_training_every_so_often_and_at_the_end() -> None:
    stats = run(validating(2, iterations=5), tiny_policy())
    assert [[found.iteration for found in each.validations] for each in stats] == [[0], [2], [], [4], [5]]
    assert run(validating(0, iterations=2), tiny_policy())[0].validations == ()


def test_validating_changes_nothing_but_which_weights_are_kept() -> None:
    plain, looked_at = run(config(iterations=3), tiny_policy()), run(validating(1, iterations=3), tiny_policy())
    timeless = {"sampling_seconds": 0, "scoring_seconds": 0, "update_seconds": 0, "validations": ()}
    assert [replace(each, **timeless) for each in plain] == [replace(each, **timeless) for each in looked_at]


def test_the_policy_ends_with_the_best_weights() -> None:
    policy = tiny_policy()
    settings = validating(1, iterations=4, learning_rate=3e-2)
    told = validated(run(settings, policy))
    best = best_validation(told)
    assert best.iteration not in (0, 4), [found.score for found in told]  # else keeping the last would pass too
    again = tiny_policy()
    run(config(iterations=best.iteration, learning_rate=3e-2), again)
    assert all(torch.equal(one, two) for one, two in zip(policy.parameters(), again.parameters(), strict=True))


def test_a_run_that_stalls_ends_early() -> None:
    told = run(validating(1, patience=1, iterations=30, learning_rate=3e-2), tiny_policy())
    scores = [found.score for found in validated(told)]
    assert len(told) < 30 and scores[-1] <= max(scores[:-1]) and scores[:-1] == sorted(set(scores[:-1]))


def test_a_stopped_run_goes_on_to_the_same_best_weights(tmp_path: Path) -> None:
    settings = validating(1, iterations=4, learning_rate=3e-2)
    whole = tiny_policy()
    stats = run(settings, whole)
    states = SavedStates(tmp_path, SaveEvery.parse("1"))
    going = ppo(tiny_policy(), tiny_policy(), value_model(), tiny_tokenizer(), PROMPTS, REWARD, settings, 0, states, HELD_OUT)
    for _ in range(3):
        next(going)
    going.close()
    resumed = tiny_policy()
    again = run(settings, resumed, SavedStates(tmp_path, SaveEvery.parse("1")))
    assert validated(again) == validated(stats)
    assert all(torch.equal(one, two) for one, two in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_validation_needs_prompts() -> None:
    models = tiny_policy(), tiny_policy(), value_model()
    with pytest.raises(PPOError, match="a validation every 2 iterations was asked for, and there are no held-out prompts"):
        next(ppo(*models, tiny_tokenizer(), PROMPTS, REWARD, validating(2), 0))


def test_warm_up_moves_the_critic_alone() -> None:
    policy, critic = tiny_policy(), value_model()
    before, head = copy.deepcopy(policy.state_dict()), critic.head.weight.detach().clone()
    told = ppo(policy, tiny_policy(), critic, tiny_tokenizer(), PROMPTS, REWARD, config(iterations=2, critic_warmup=1), 0)
    next(told)
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.state_dict().items())
    assert not torch.equal(critic.head.weight, head)
    next(told)
    assert not torch.equal(policy.lm_head.weight, before["lm_head.weight"])


def test_an_update_ends_before_the_step_that_would_follow_a_minibatch_gone_too_far() -> None:
    def steps(limit: float | None) -> list[PPOStats]:
        settings = config(ppo_epochs=4, minibatch_size=2, max_approx_kl=limit, learning_rate=1e-2)
        return list(ppo(tiny_policy(), tiny_policy(), value_model(), tiny_tokenizer(), PROMPTS, REWARD, settings, 0))

    (free,), (held,) = steps(None), steps(1e-3)
    assert free.num_steps == 12 and 1 <= held.num_steps < 12
    assert steps(1e9)[0].approx_kl == free.approx_kl > 1e-3


def test_the_coefficient_of_an_iteration_is_told_and_used() -> None:
    settings = config(iterations=3, kl_coef=0.5, kl_target=1e-3, kl_horizon=12, learning_rate=3e-2)
    told = list(ppo(tiny_policy(), tiny_policy(), value_model(), tiny_tokenizer(), PROMPTS, REWARD, settings, 0))
    assert told[0].kl_coef == 0.5
    for last, stats in pairwise(told):
        error = min(max(last.kl / 1e-3 - 1, -0.2), 0.2)
        assert stats.kl_coef == pytest.approx(last.kl_coef * (1 + error * 6 / 12), rel=1e-12)
    # what is not KL in the mean reward is the whitened score, mean 0, less the penalties of those without EOS
    for stats in told:
        assert stats.reward == pytest.approx(-stats.kl_coef * stats.kl - (1 - stats.eos_fraction), abs=1e-4)

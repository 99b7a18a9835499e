"""PPO with the paper's reward (section 3.2.3).

The policy pi is trained to maximise, over prompts p and its own responses g,

    E[ R(g | p) ],     R(g | p) = whiten(R_c(g | p)) - kl_coef * KL(pi(g | p) || pi_0(g | p))          (equations 3, 4)

where R_c is the combined reward of the helpfulness and the safety model as a raw logit (``reward_model/combined_reward.py``)
and pi_0, ``ref_policy``, is the policy that training started from. One iteration is

    rollout         batch_size prompts, one response each, its rewards and advantages (``rlhf/rollout.py``)
    update          ppo_epochs passes over it in minibatches, one step of AdamW each:
                    policy   max(-A ratio, -A clip(ratio, 1 - clip_range, 1 + clip_range)),   ratio = pi_new / pi_old
                    critic   1/2 max((V - R)^2, (V clipped to its rollout value +- value_clip_range - R)^2)

Losses are means over a minibatch's response tokens (``rlhf/advantage.py``), however it is cut into microbatches. The update of
an iteration ends early where a minibatch has moved the policy beyond ``max_approx_kl``. kl_coef is constant, as in the
paper, or steered to a target (``rlhf/controllers.py``). In the first ``critic_warmup`` iterations only the critic learns.

In the first iteration the sampler's log-probabilities are compared with a forward pass of the policy: the ratio must be 1
(``rlhf/step_zero.py``). Where it is not, the stats say so (``recomputed``), and the forward pass's are used in this iteration
and in every later one that is off as well.

With ``validation.every`` held-out prompts are answered every so many iterations (``rlhf/validation.py``): the policy ends with
the weights of the best validation, and training ends after ``validation.patience`` without a better one.

Left out on purpose: an entropy bonus (not in the paper), and a value loss coefficient (policy and critic share no weights
that are trained and have an optimizer each, so ``value_learning_rate`` is that knob).

    for stats in ppo(policy, ref_policy, value_model, tokenizer, prompts, reward, PPOConfig(iterations=40), seed=0):
        print(stats.iteration, stats.score, stats.kl)
"""

import random
import time
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from policy.generation import TransformersSampler
from policy.logprobs import entropy, response_logits, token_logprobs
from policy.optimization import adamw
from policy.training_state import States, TrainingState
from preference_data.prompt import Prompt
from reward_model.reward_rules import LagrangianReward, Reward
from rlhf.advantage import approx_kl, clip_fraction, masked_mean, policy_loss, value_loss
from rlhf.config import PPOConfig
from rlhf.controllers import next_kl_coef, next_multiplier
from rlhf.ppo_stats import PPOStats, ppo_stats, validated
from rlhf.processes import Processes
from rlhf.rollout import PPOError, Rollout, microbatches, prompt_batches, rollout
from rlhf.step_zero import is_half
from rlhf.validation import Validator
from rlhf.value_model import ValueModel

_APPROX_KL = 2  # its place among the means of a minibatch


# Over 60 lines on purpose: rollout, update and validations of an iteration are read in one place, in the paper's order.
def ppo(
    policy: PreTrainedModel,
    ref_policy: PreTrainedModel,
    value_model: ValueModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    reward: Reward,
    config: PPOConfig,
    seed: int,
    states: States | None = None,
    heldout_prompts: Sequence[Prompt] = (),
) -> Iterator[PPOStats]:
    """Train ``policy`` and ``value_model`` in place; yield the stats of each iteration. ``states``: saved states to resume
    from, and to save to.

    ``ref_policy`` is a frozen copy of ``policy`` as it was at the start. ``heldout_prompts`` are those of the validations, and
    not among ``prompts``. Raises PPOError when ``ref_policy`` is the policy itself, for ``lora`` without adapters, trained
    weights in half precision, saved states of several processes, fewer prompts than ``batch_size``, a validation without
    prompts, and when a gradient is not finite; RewardError for scores that are not one finite number a dialogue;
    ContextOverflow when a prompt leaves no room for ``max_new_tokens``; ProcessesError.
    """
    processes = Processes.current()
    _check_setup(policy, ref_policy, config, states, processes)
    for model in (policy, ref_policy, value_model):
        model.eval()
    sampler = TransformersSampler(policy, tokenizer)
    optimizer = _optimizer(policy, config.learning_rate, config)
    value_optimizer = _optimizer(value_model, config.value_learning_rate, config)
    validator = Validator(policy, ref_policy, sampler, heldout_prompts, reward, config, seed, processes)
    state = TrainingState(
        states,
        {"policy": policy, "value_model": value_model, "best": validator.best},
        {"optimizer": optimizer, "value_optimizer": value_optimizer},
        PPOStats,
    )
    yield from state.restore()
    batches = prompt_batches(prompts, config.batch_size, seed)
    for iteration, batch in enumerate(islice(batches, state.step, config.iterations), start=state.step + 1):
        if validator.stalled(validated(state.history)):
            break
        last = state.history[-1] if state.history else None
        kl_coef, multiplier = next_kl_coef(last, config), None
        validations = () if last else validator.after(0, ())
        if isinstance(reward, LagrangianReward):
            reward.multiplier = multiplier = next_multiplier(last, config.lagrangian)
        rng = random.Random(f"{seed}/{iteration}")
        checked = policy if last is None or state.history[0].recomputed else None
        record = rollout(
            sampler, ref_policy, value_model, batch, reward, config, kl_coef, rng.getrandbits(63), checked, processes
        )
        started = time.perf_counter()
        minibatch_means, num_steps = [], 0
        for rows in _minibatches(rng, config):
            minibatch_means.append(_minibatch_gradients(policy, value_model, record, rows, config, processes))
            if config.max_approx_kl is not None and minibatch_means[-1][_APPROX_KL] > config.max_approx_kl:
                break
            if iteration > config.critic_warmup:
                _step(policy, optimizer, config.max_grad_norm)
            _step(value_model, value_optimizer, config.max_grad_norm)
            num_steps += 1
        update, seconds = torch.stack(minibatch_means).mean(dim=0), time.perf_counter() - started
        validations += validator.after(iteration, [*validated(state.history), *validations])
        yield state.done(ppo_stats(iteration, record, update, num_steps, kl_coef, multiplier, seconds, validations))
    validator.finish()


def _check_setup(
    policy: PreTrainedModel, ref_policy: PreTrainedModel, config: PPOConfig, states: States | None, processes: Processes
) -> None:
    """Raise PPOError for models and options that do not go together."""
    if ref_policy is policy:
        raise PPOError("ref_policy is the policy itself, so the KL penalty would always be 0; load or copy it a second time")
    if config.lora and not any(".lora_" in name for name, _ in policy.named_parameters()):
        raise PPOError("lora was asked for, and the policy has no adapters; put them in first (policy.lora.Adapters)")
    if states is not None and processes.count > 1:
        raise PPOError(f"saved states were asked for, and {processes.count} processes share the run; give no states")


def _minibatches(rng: random.Random, config: PPOConfig) -> Iterator[list[int]]:
    """Rows of the minibatches of one iteration: every row once an epoch, each epoch in another order."""
    for _ in range(config.ppo_epochs):
        order = rng.sample(range(config.batch_size), config.batch_size)
        for start in range(0, config.batch_size, config.minibatch_size):
            yield order[start : start + config.minibatch_size]


def _minibatch_gradients(
    policy: PreTrainedModel,
    value_model: ValueModel,
    record: Rollout,
    rows: list[int],
    config: PPOConfig,
    processes: Processes,
) -> Tensor:
    """Set the gradients of a minibatch's two losses.

    Returns its means (5,): policy_loss, value_loss, approx_kl, clip_fraction, entropy. A microbatch weighs as much as it holds
    of the minibatch's tokens, so that cutting changes nothing.
    """
    policy.zero_grad(set_to_none=True)
    value_model.zero_grad(set_to_none=True)
    means = torch.zeros(5, dtype=torch.float64)
    num_tokens = sum(len(record.responses[row].ids) for row in rows)
    for micro in processes.share(microbatches(record.responses, rows, config.microbatch_size)):
        prompt_ids = [record.responses[row].prompt_ids for row in micro]
        response_ids = [record.responses[row].ids for row in micro]
        logits, ids, mask = response_logits(policy, prompt_ids, response_ids, config.temperature)
        share = sum(map(len, response_ids)) / num_tokens
        logprobs, advantages, values, returns = (
            x[micro, : mask.shape[1]] for x in (record.logprobs, record.advantages, record.values, record.returns)
        )

        new_logprobs = token_logprobs(logits, ids)
        loss = policy_loss(new_logprobs, logprobs, advantages, mask, config.clip_range)
        (share * loss).backward()

        new_values = value_model(prompt_ids, response_ids)
        critic_loss = value_loss(new_values, values, returns, mask, config.value_clip_range)
        (share * critic_loss).backward()

        with torch.no_grad():
            moved = approx_kl(new_logprobs, logprobs, mask)
            clipped = clip_fraction(new_logprobs, logprobs, mask, config.clip_range)
            spread = masked_mean(entropy(logits), mask)
            means += (share * torch.stack([loss, critic_loss, moved, clipped, spread])).double().cpu()
    processes.sum_gradients(policy)
    processes.sum_gradients(value_model)
    return processes.summed(means.to(policy.device)).cpu()


def _optimizer(model: torch.nn.Module, learning_rate: float, config: PPOConfig) -> torch.optim.AdamW:
    dtypes = [parameter.dtype for parameter in model.parameters() if parameter.requires_grad]
    if half := next((dtype for dtype in dtypes if is_half(dtype)), None):
        raise PPOError(
            f"weights of {type(model).__name__} that are trained are {half}, in which steps of {learning_rate:g} are rounded "
            "away; load it in float32, or train adapters in float32 on frozen weights"
        )
    return adamw(model, learning_rate, config)


def _step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, max_grad_norm: float) -> None:
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
    if not norm.isfinite():
        raise PPOError(
            f"the gradient norm of {type(model).__name__} is {norm.item()}, and its weights were not changed by this step; "
            f"lower the learning rate ({optimizer.param_groups[0]['lr']:g}), or check the weights that training started from"
        )
    optimizer.step()

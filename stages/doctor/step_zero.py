"""``rlhf doctor`` on PPO: its step 0, in which the ratio must be 1 and the KL to the reference 0 (``rlhf/step_zero.py``)."""

from collections.abc import Iterator

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf.ratio_causes import prompt_cause, ratio_cause, ref_cause
from rlhf.step_zero import Sampling, step_zero
from stages.doctor.check import Check, checked

_UNEXPLAINED = (
    "no usual cause explains it (template, dropout, padding, dtype). Still possible: a sampler that uses another temperature, "
    "top-p, top-k, prompt or weights than it should, or cached decoding (a cache or an attention kernel) that does not give "
    "what a forward pass gives"
)


def step_zero_checks(
    sampling: Sampling, policy: PreTrainedModel, ref_policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> Iterator[Check]:
    """Compare sampler, policy and reference on what was sampled, and name the cause where they differ."""
    template = prompt_cause(sampling, tokenizer)
    problems = [f"cause: {template.name}: {template.found}"] if template else []
    as_expected = f"{len(sampling.prompts)} prompts were read in the format of policy/chat.py"
    yield checked("step 0 prompts", problems, as_expected, template.advice if template else "")

    measured = step_zero(sampling, policy, ref_policy)
    dtype = str(policy.dtype).removeprefix("torch.")
    errors = (
        f"{measured.num_responses} responses, {measured.num_tokens} tokens: |ratio - 1| at most {measured.ratio_error:.2g}, "
        f"on average {measured.mean_ratio_error:.1g} (tolerance {measured.tolerance:g} in {dtype})"
    )
    if measured.ratio_holds:
        yield Check("step 0 ratio", "ok", errors)
    else:
        cause = template or ratio_cause(sampling, policy)
        reason = f"cause: {cause.name}: {cause.found}" if cause else _UNEXPLAINED
        advice = cause.advice if cause else "compare the sampler's settings with PPO's"
        meanwhile = "until this is fixed, PPO recomputes the log-probabilities by a forward pass, and says so"
        yield Check("step 0 ratio", "wrong", f"{errors}; {reason}", f"{advice}; {meanwhile}")

    distance = f"{measured.kl:.3g} nats a response to the reference, |ratio - 1| at most {measured.ref_ratio_error:.2g}"
    if measured.kl_holds:
        yield Check("step 0 KL", "ok", distance)
    else:
        cause = ref_cause(policy, ref_policy, sampling)
        reason = f"cause: {cause.name}: {cause.found}" if cause else "policy and reference have equal weights"
        yield Check("step 0 KL", "wrong", f"{distance}; {reason}", cause.advice if cause else "load both in the same way")

"""``rlhf doctor`` on PPO: its step 0, in which the ratio must be 1 and the KL to the reference 0 (``rlhf/step_zero.py``)."""

from collections.abc import Iterator

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf.ratio_causes import prompt_cause, ratio_cause, ref_cause
from rlhf.step_zero import Sampling, step_zero
from stages.doctor.check import Check, judged

_UNEXPLAINED = (
    "no usual cause explains it (template, dropout, padding, temperature, top-p, top-k, dtype); what is left is cached "
    "decoding: a cache or an attention kernel that does not give what a forward pass gives"
)


def step_zero_checks(
    sampling: Sampling, policy: PreTrainedModel, ref_policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> Iterator[Check]:
    """Compare sampler, policy and reference on what was sampled, and name the cause where they differ."""
    cause = prompt_cause(sampling, tokenizer)
    problems = [f"cause: {cause.name}: {cause.found}"] if cause else []
    read = f"{len(sampling.prompts)} prompts were read in the format of policy/chat.py"
    yield judged("step 0 prompts", problems, read, cause.advice if cause else "")

    measured = step_zero(sampling, policy, ref_policy)
    dtype = str(policy.dtype).removeprefix("torch.")
    found = (
        f"{measured.num_responses} responses, {measured.num_tokens} tokens: |ratio - 1| at most {measured.ratio_error:.2g}, "
        f"on average {measured.mean_ratio_error:.1g} (tolerance {measured.tolerance:g} in {dtype})"
    )
    if measured.ratio_holds:
        yield Check("step 0 ratio", "ok", found)
    else:
        cause = ratio_cause(sampling, policy, tokenizer)
        found += f"; cause: {cause.name}: {cause.found}" if cause else f"; {_UNEXPLAINED}"
        meanwhile = "until then PPO recomputes the log-probabilities by a forward pass, and says so"
        yield Check("step 0 ratio", "wrong", found, f"{cause.advice}; {meanwhile}" if cause else meanwhile)

    found = f"{measured.kl:.3g} nats a response to the reference, |ratio - 1| at most {measured.ref_ratio_error:.2g}"
    if measured.kl_holds:
        yield Check("step 0 KL", "ok", found)
    else:
        cause = ref_cause(policy, ref_policy, sampling)
        found += f"; cause: {cause.name}: {cause.found}" if cause else "; policy and reference have equal weights"
        yield Check("step 0 KL", "wrong", found, cause.advice if cause else "load both in the same way")

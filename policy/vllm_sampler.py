"""Sampling on vLLM: the ``Sampler`` protocol on its offline engine ``vllm.LLM``, for a GPU and many responses a prompt.

Written for vLLM 0.33.0, and an extra: ``pip install llama-rlhf[vllm]``, in an environment of its own, because vLLM pins its
torch and transformers to versions that need not be those of ``constraints.txt``. vLLM is imported where it is first used.

What is sampled is what ``policy.generation.TransformersSampler`` samples: the same token ids go in, the same distribution is
sampled, a response ends at the same EOS, and the log-probabilities are those under the distribution that was sampled. Which
tokens come out differs, except at temperature 0: vLLM draws its own random numbers from the seed of each request, and a seed
is made of (seed, prompt, position among the prompt's k) alone, so that here too a response does not depend on its batch beyond
rounding. vLLM opens no tokenizer, and warns at the start that there is no chat template to warm up: it has none to use.

Reading a prompt once for all its k responses is left to vLLM's prefix caching, which shares whole blocks of tokens.
"""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from transformers import AutoConfig, PreTrainedTokenizerBase

from policy.chat import decode_response, encode_prompts
from policy.checkpoint import CheckpointError, load_tokenizer
from policy.generation import Response, check_context, check_request, response_key
from preference_data.messages import Messages, messages_id

# vLLM raises a lower temperature to the first without an error, and refuses a higher one than the second.
_LOWEST_TEMPERATURE, _HIGHEST_TEMPERATURE = 0.01, 2.0


class VllmMissing(ValueError):
    """vLLM was asked for and is not installed."""


class VllmSampler:
    """Samples from a checkpoint folder on vLLM, which takes most of the GPU's memory for as long as this lives.

    ``dtype``: of the weights and the activations; from the logits on, vLLM computes in float32. ``runs_on``: the version of
    vLLM, its device and this dtype. Raises VllmMissing, CheckpointError.
    """

    def __init__(self, path: Path | str, dtype: Literal["bfloat16", "float32"] = "bfloat16"):
        vllm = _import_vllm(path)
        self.tokenizer = load_tokenizer(path)
        self.context = _context(path, self.tokenizer)
        self._new_params = vllm.SamplingParams
        self._engine = vllm.LLM(
            model=str(path),
            dtype=dtype,
            max_model_len=self.context,
            load_format="safetensors",  # weights are never unpickled
            skip_tokenizer_init=True,
            generation_config="vllm",
            logprobs_mode="processed_logprobs",
            enable_prefix_caching=True,
        )
        self.runs_on = f"vllm {vllm.__version__}, {vllm.platforms.current_platform.device_type}, {dtype}"

    def sample(
        self,
        prompts: Sequence[Messages],
        k: int,
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        seed: int,
        top_k: int = 0,
    ) -> list[list[Response]]:
        """See Sampler. Raises ContextOverflow, MessagesError."""
        check_request(k, temperature, top_p, top_k)
        check_vllm_temperatures([temperature])
        encoded = [encoded.ids for encoded in encode_prompts(self.tokenizer, prompts)]
        check_context(prompts, encoded, max_new_tokens, self.context)
        requests = [{"prompt_token_ids": ids} for ids in encoded for _ in range(k)]
        params = [
            self._params(temperature, top_p, top_k, max_new_tokens, request_seed(seed, messages_id(messages), position))
            for messages in prompts
            for position in range(k)
        ]
        outputs = self._engine.generate(requests, params, use_tqdm=False)
        rows = [
            self._response(request["prompt_token_ids"], output.outputs[0])
            for request, output in zip(requests, outputs, strict=True)
        ]
        return [rows[i * k : (i + 1) * k] for i in range(len(prompts))]

    def _params(self, temperature: float, top_p: float, top_k: int, max_new_tokens: int, seed: int) -> Any:
        """What one request asks for. Min-p and penalties are off: these are the defaults of ``SamplingParams``.

        Even with generation config "vllm" the engine also stops at every EOS that the checkpoint's generation config lists;
        ``ignore_eos`` turns these off, so that the tokenizer's EOS, asked for by name, is the only one.
        """
        return self._new_params(
            n=1,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            seed=seed,
            max_tokens=max_new_tokens,
            stop_token_ids=[self.tokenizer.eos_token_id],
            ignore_eos=True,
            logprobs=0,  # of the sampled token alone
            detokenize=False,
        )

    def _response(self, prompt_ids: list[int], completion: Any) -> Response:
        if completion.finish_reason not in ("stop", "length"):
            raise RuntimeError(
                f"vLLM ended a response after {len(completion.token_ids)} tokens with {completion.finish_reason!r}, neither at "
                "EOS nor at the number of tokens asked for; see what it logged, and run again"
            )
        ids = list(completion.token_ids)  # the token that stopped it included
        logprobs = [float(step[token].logprob) for token, step in zip(ids, completion.logprobs, strict=True)]
        return Response(decode_response(self.tokenizer, ids), ids, logprobs, ids[-1] == self.tokenizer.eos_token_id, prompt_ids)


def request_seed(seed: int, prompt_id: str, position: int) -> int:
    """The seed of one response, in [0, 2**63): vLLM keeps seeds as signed 64-bit numbers, and reads -1 as none."""
    return int.from_bytes(response_key(seed, prompt_id, position)[:8], "little") >> 1


def check_vllm_temperatures(temperatures: Sequence[float]) -> None:
    """Raise ValueError that names each of the ``temperatures`` that vLLM does not sample at."""
    unfit = [
        temperature
        for temperature in temperatures
        if temperature != 0 and not _LOWEST_TEMPERATURE <= temperature <= _HIGHEST_TEMPERATURE
    ]
    if unfit:
        raise ValueError(
            f"vLLM samples at temperature 0 and from {_LOWEST_TEMPERATURE:g} to {_HIGHEST_TEMPERATURE:g}, got "
            f"{', '.join(f'{temperature:g}' for temperature in unfit)}; give others, or set engine: transformers"
        )


def _import_vllm(path: Path | str) -> ModuleType:
    try:
        import vllm
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise
        raise VllmMissing(
            f"sampling from {path} on vLLM was asked for, and vllm is not installed; run pip install 'llama-rlhf[vllm]' on a "
            "machine with a GPU, or set engine: transformers"
        ) from error
    return vllm


def _context(path: Path | str, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens that the model of a checkpoint reads at most. Raises CheckpointError."""
    try:
        config = AutoConfig.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be opened as a language model: {error}") from error
    if len(tokenizer) > config.vocab_size:
        raise CheckpointError(
            f"{path}: the tokenizer has {len(tokenizer)} tokens but the model only {config.vocab_size} embeddings; "
            "they do not belong together, so give the tokenizer that the model was trained with"
        )
    return int(config.max_position_embeddings)

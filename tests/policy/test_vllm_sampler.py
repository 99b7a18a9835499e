"""``VllmSampler`` against a stand-in for the module ``vllm``, which records what it is asked, and (on a GPU) against vLLM."""

import hashlib
import importlib.util
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from fakes import tiny_policy, tiny_tokenizer

from policy import vllm_sampler
from policy.architecture import new_policy
from policy.chat import encode_prompt
from policy.checkpoint import CheckpointError, load_policy, save_checkpoint
from policy.generation import ContextOverflow, TransformersSampler
from policy.tokenizer import BOS_ID, EOS_ID
from policy.vllm_sampler import VllmMissing, VllmSampler, check_vllm_temperatures
from preference_data.messages import messages_id, user

PROMPTS = [
    [user("fox")],
    [user("Which one is older, the fox or the owl?")],
    [{"role": "system", "content": "Be nice."}, user("hi")],
]
OTHER_EOS = 300  # a second token to stop at, as a checkpoint's generation config may list one
Script = Callable[[list[int], int], list[tuple[int, float]]]


@dataclass(kw_only=True)
class SamplingParams:
    """Those of vLLM's parameters that change what is sampled or returned, with vLLM's defaults."""

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: list[str] | None = None
    stop_token_ids: list[int] = field(default_factory=list)
    ignore_eos: bool = False
    max_tokens: int = 16
    min_tokens: int = 0
    logprobs: int | None = None
    detokenize: bool = True


class LLM:
    """Says what ``script(prompt ids, seed)`` says, (token, log-probability) by token, and stops where vLLM would.

    As in vLLM, the token that stops a response is the last of its ids.
    """

    script: Script
    finish_reason: str | None = None

    def __init__(self, **arguments):
        self.arguments, self.asked, self.params = arguments, [], []

    def generate(self, prompts, sampling_params, *, use_tqdm):
        assert len(prompts) == len(sampling_params)
        self.asked += prompts
        self.params += sampling_params
        return [
            SimpleNamespace(outputs=[self._completion(prompt["prompt_token_ids"], params)])
            for prompt, params in zip(prompts, sampling_params, strict=True)
        ]

    def _completion(self, prompt_ids, params):
        stops = {*params.stop_token_ids, *([] if params.ignore_eos else [OTHER_EOS])}
        ids, logprobs, reason = [], [], "length"
        for token, logprob in type(self).script(prompt_ids, params.seed)[: params.max_tokens]:
            ids.append(token)
            logprobs.append({token: SimpleNamespace(logprob=logprob)})
            if token in stops:
                reason = "stop"
                break
        return SimpleNamespace(token_ids=tuple(ids), logprobs=logprobs, finish_reason=self.finish_reason or reason)


def by_seed(prompt_ids: list[int], seed: int) -> list[tuple[int, float]]:
    """Forty tokens without an EOS, by the seed alone."""
    return [(int(token), -1.0) for token in np.random.default_rng(seed).integers(10, 290, size=40)]


@pytest.fixture
def llm(monkeypatch) -> type[LLM]:
    """The engine class of a stand-in for vLLM, which ``VllmSampler`` will import."""
    module = ModuleType("vllm")
    scripted = type("LLM", (LLM,), {"script": staticmethod(by_seed)})
    module.LLM, module.SamplingParams, module.__version__ = scripted, SamplingParams, "0.33.0"
    module.platforms = SimpleNamespace(current_platform=SimpleNamespace(device_type="cuda"))
    monkeypatch.setitem(sys.modules, "vllm", module)
    return scripted


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("policy")
    save_checkpoint(tiny_policy(3), tiny_tokenizer(), path)
    return path


def ids_of(groups):
    return [[response.ids for response in group] for group in groups]


def seeds_of(sampler: VllmSampler) -> list[int]:
    return [params.seed for params in sampler._engine.params]


def test_importing_the_module_does_not_import_vllm(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)  # an import of it fails
    spec = importlib.util.spec_from_file_location("vllm_sampler_again", vllm_sampler.__file__)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_without_vllm_the_error_says_what_to_do(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(VllmMissing, match=rf"{folder}.*not installed.*pip install 'llama-rlhf\[vllm\]'.*engine: transformers"):
        VllmSampler(folder)


def test_a_vllm_that_lacks_something_itself_says_so_itself(monkeypatch, tmp_path, folder):
    (tmp_path / "vllm.py").write_text("import a_module_that_vllm_needs\n")
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_module_that_vllm_needs") as raised:
        VllmSampler(folder)
    assert not isinstance(raised.value, VllmMissing)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_engine_opens_the_folder_and_nothing_of_its_generation_config(llm, folder, dtype):
    sampler = VllmSampler(folder, dtype)
    assert sampler.runs_on == f"vllm 0.33.0, cuda, {dtype}"
    assert sampler._engine.arguments == {
        "model": str(folder),
        "dtype": dtype,
        "max_model_len": 1024,
        "load_format": "safetensors",
        "skip_tokenizer_init": True,
        "generation_config": "vllm",
        "logprobs_mode": "processed_logprobs",
        "enable_prefix_caching": True,
    }


def test_prompts_are_handed_over_as_the_ids_of_the_chat_format(llm, folder):
    sampler = VllmSampler(folder)
    groups = sampler.sample(PROMPTS, 2, 1.0, 1.0, 8, seed=0)
    expected = [encode_prompt(tiny_tokenizer(), prompt).ids for prompt in PROMPTS for _ in range(2)]
    assert sampler._engine.asked == [{"prompt_token_ids": ids} for ids in expected]
    assert all(ids[0] == BOS_ID and ids.count(BOS_ID) == 1 for ids in expected)
    assert [response.prompt_ids for group in groups for response in group] == expected


@pytest.mark.parametrize("chosen", [{}, {"top_k": 5}])
def test_a_request_asks_for_one_response_at_the_temperature_and_for_no_penalty(llm, folder, chosen):
    """What is not named here is as by vLLM's defaults."""
    sampler = VllmSampler(folder)
    sampler.sample(PROMPTS[:1], 1, 0.7, 0.9, 24, seed=0, **chosen)
    (params,) = sampler._engine.params
    ours = {"stop_token_ids": [EOS_ID], "ignore_eos": True, "logprobs": 0, "detokenize": False}
    assert params == SamplingParams(temperature=0.7, top_p=0.9, max_tokens=24, seed=params.seed, **chosen, **ours)


def test_a_seed_is_made_of_seed_prompt_and_position(llm, folder):
    sampler = VllmSampler(folder)
    sampler.sample(PROMPTS, 4, 1.0, 1.0, 8, seed=7)
    keys = [f"7:{messages_id(prompt)}:{position}" for prompt in PROMPTS for position in range(4)]
    expected = [struct.unpack("<Q", hashlib.sha256(key.encode()).digest()[:8])[0] // 2 for key in keys]
    assert seeds_of(sampler) == expected
    assert len(set(expected)) == 12 and all(0 <= seed < 2**63 for seed in expected)


def test_responses_depend_on_neither_batch_nor_order_and_differ_by_seed(llm, folder):
    sampler = VllmSampler(folder)
    together = sampler.sample(PROMPTS, 4, 1.0, 1.0, 12, seed=0)
    alone = [sampler.sample([prompt], 4, 1.0, 1.0, 12, seed=0)[0] for prompt in PROMPTS]
    backwards = sampler.sample(PROMPTS[::-1], 4, 1.0, 1.0, 12, seed=0)[::-1]
    assert together == alone == backwards
    assert [group[:2] for group in together] == sampler.sample(PROMPTS, 2, 1.0, 1.0, 12, seed=0)
    assert len({tuple(ids) for group in ids_of(together) for ids in group}) == 12
    assert ids_of(together) != ids_of(sampler.sample(PROMPTS, 4, 1.0, 1.0, 12, seed=1))
    assert sampler.sample([], 4, 1.0, 1.0, 12, seed=0) == []


def test_a_response_ends_with_the_eos_that_stopped_it(llm, folder):
    words = tiny_tokenizer()("The owl sleeps.", add_special_tokens=False)["input_ids"]
    spoken = [(token, np.float32(-0.25 * i)) for i, token in enumerate([*words, EOS_ID, *words])]
    llm.script = staticmethod(lambda prompt_ids, seed: spoken)
    sampler = VllmSampler(folder)
    ((whole,),) = sampler.sample(PROMPTS[:1], 1, 1.0, 1.0, 40, seed=0)
    assert whole.ids == [*words, EOS_ID] and whole.finished
    assert whole.text == "The owl sleeps."
    assert whole.logprobs == [-0.25 * i for i in range(len(words) + 1)]
    assert {type(logprob) for logprob in whole.logprobs} == {float}
    ((cut,),) = sampler.sample(PROMPTS[:1], 1, 1.0, 1.0, len(words), seed=0)
    assert cut.ids == words and not cut.finished and cut.text == "The owl sleeps."
    ((just,),) = sampler.sample(PROMPTS[:1], 1, 1.0, 1.0, len(words) + 1, seed=0)
    assert just.ids == [*words, EOS_ID] and just.finished


def test_no_other_token_of_the_generation_config_ends_a_response(llm, folder):
    llm.script = staticmethod(lambda prompt_ids, seed: [(20, -1.0), (OTHER_EOS, -1.0), (21, -1.0), (EOS_ID, -1.0)])
    ((response,),) = VllmSampler(folder).sample(PROMPTS[:1], 1, 1.0, 1.0, 40, seed=0)
    assert response.ids == [20, OTHER_EOS, 21, EOS_ID] and response.finished


def test_a_response_that_vllm_gave_up_is_an_error(llm, folder):
    llm.finish_reason = "abort"
    with pytest.raises(RuntimeError, match="ended a response after 4 tokens with 'abort'"):
        VllmSampler(folder).sample(PROMPTS[:1], 1, 1.0, 1.0, 4, seed=0)


@pytest.mark.parametrize(
    ("prompts", "k", "temperature", "error"),
    [
        (PROMPTS, 0, 1.0, ValueError),
        (PROMPTS, 2, 0.0, ValueError),
        ([PROMPTS[0], [user("fox " * 1100)]], 1, 1.0, ContextOverflow),
    ],
)
def test_bad_requests_are_refused_as_transformers_refuses_them(llm, folder, prompts, k, temperature, error):
    sampler = VllmSampler(folder)
    with pytest.raises(error) as expected:
        TransformersSampler(tiny_policy(3), tiny_tokenizer()).sample(prompts, k, temperature, 1.0, 4, 0)
    with pytest.raises(error) as found:
        sampler.sample(prompts, k, temperature, 1.0, 4, 0)
    assert str(found.value) == str(expected.value) and type(found.value) is type(expected.value)
    assert sampler._engine.asked == []


def test_a_prompt_that_just_fits_is_asked(llm, folder):
    sampler = VllmSampler(folder)
    room = 1024 - len(encode_prompt(tiny_tokenizer(), PROMPTS[0]).ids)
    sampler.sample(PROMPTS[:1], 1, 1.0, 1.0, room, seed=0)
    with pytest.raises(ContextOverflow, match=f"and {room + 1} new tokens do not fit the context of 1024 tokens"):
        sampler.sample(PROMPTS[:1], 1, 1.0, 1.0, room + 1, seed=0)


@pytest.mark.parametrize("temperature", [0.005, 2.5])
def test_temperatures_that_vllm_would_not_sample_at_are_refused(llm, folder, temperature):
    with pytest.raises(ValueError, match=rf"0\.01 to 2, got {temperature:g}; .* engine: transformers"):
        VllmSampler(folder).sample(PROMPTS, 1, temperature, 1.0, 4, 0)


def test_all_temperatures_that_vllm_would_not_sample_at_are_named_at_once():
    check_vllm_temperatures((0.0, 0.01, 1.3, 2.0))
    with pytest.raises(ValueError, match=r"0\.01 to 2, got 0\.005, 2\.5, 3; give others, or set engine: transformers"):
        check_vllm_temperatures((0.005, 0.6, 2.5, 3.0))


def test_a_tokenizer_larger_than_the_model_is_refused(llm, tmp_path):
    save_checkpoint(new_policy("pico", len(tiny_tokenizer()) - 1), tiny_tokenizer(), tmp_path)
    with pytest.raises(CheckpointError, match="do not belong together"):
        VllmSampler(tmp_path)


def test_a_folder_without_a_model_is_refused(llm, tmp_path):
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be opened as a language model"):
        VllmSampler(tmp_path)


@pytest.mark.slow
def test_greedy_on_vllm_equals_greedy_on_transformers(tmp_path):
    pytest.importorskip("vllm", reason="vLLM is not installed: pip install llama-rlhf[vllm]")
    if not torch.cuda.is_available():
        pytest.skip("vLLM needs a GPU, and torch sees none")
    torch.manual_seed(0)
    save_checkpoint(new_policy("nano", len(tiny_tokenizer())), tiny_tokenizer(), tmp_path)
    expected = TransformersSampler(*load_policy(tmp_path)).sample(PROMPTS, 1, 0.0, 1.0, 16, seed=0)
    found = VllmSampler(tmp_path, "float32").sample(PROMPTS, 1, 0.0, 1.0, 16, seed=0)
    assert ids_of(found) == ids_of(expected)
    for (response,), (other,) in zip(found, expected, strict=True):
        assert (response.text, response.finished, response.prompt_ids) == (other.text, other.finished, other.prompt_ids)
        assert response.logprobs == pytest.approx(other.logprobs, abs=1e-3)

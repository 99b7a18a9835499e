"""Record what the PPO trainer of TRL 1.10.0 computes from seeded numbers, into golden.json beside this file.

    python3 -m venv trl && trl/bin/pip install torch==2.13.0 trl==1.10.0 'transformers<=5.23'
    trl/bin/python tests/rlhf/trl_golden/record.py

The trainer is trl/experimental/ppo/ppo_trainer.py; later versions have none. ``masked_mean`` and ``masked_whiten`` are
called as they are. Its rewards, advantages and losses are statements in the middle of ``PPOTrainer.train``; these are cut out
of the installed file by their assignments, compiled and run here as they stand:

    length       how long a response is taken to be            sequence_length = ...
    rollout      from scores to advantages                     contain_eos_token = ... to advantages = masked_fill(...)
    update       a microbatch's losses                         micro_batch_end = ... to loss = ...
    diagnostics  what is logged of them                        the ``with`` that begins with pg_clipfrac = ...

The models' forward pass is the only thing put in their place: ``forward`` gives seeded logits and values. All float64.
"""

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

import torch
import trl
from torch import Tensor
from trl.experimental.ppo import PPOConfig, ppo_trainer

EOS, PAD, CONTEXT, WIDTH, VOCABULARY = 2, 0, 3, 6, 11
LENGTHS = [4, 6, 1, 6, 3]  # EOS included, but for the response at index 3, which has none
SETTINGS: dict[str, Any] = {
    "gamma": 0.97,
    "lam": 0.9,
    "kl_coef": 0.3,
    "kl_estimator": "k1",
    "whiten_rewards": False,
    "missing_eos_penalty": None,
    "temperature": 0.8,
    "cliprange": 0.2,
    "cliprange_value": 0.2,
    "vf_coef": 0.1,
}
DEFAULTS = """adam_beta1 adam_beta2 adam_epsilon cliprange cliprange_value gamma kl_coef kl_estimator lam learning_rate
max_grad_norm missing_eos_penalty num_ppo_epochs temperature vf_coef weight_decay whiten_rewards""".split()
LOGGED = ("approxkl", "pg_clipfrac", "pg_loss", "vf_loss", "vf_clipfrac", "entropy", "ratio")


# The statements


def _statements(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """Every list of statements under ``node``, outermost first."""
    for each in ast.walk(node):
        for name in ("body", "orelse"):
            if isinstance(found := getattr(each, name, None), list):
                yield found


def _assigned(statement: ast.stmt) -> str:
    if isinstance(statement, ast.With):
        return f"with {_assigned(statement.body[0])}"
    return ast.unparse(statement.targets[0]) if isinstance(statement, ast.Assign) else ""


def cut(first: str, last: str) -> CodeType:
    """Of the block of ``PPOTrainer.train`` that assigns both: from the first that assigns ``first`` to the last ``last``."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(ppo_trainer.PPOTrainer.train)))
    for block in _statements(tree):
        names = [_assigned(statement) for statement in block]
        if first in names and last in names:
            stop = len(names) - names[::-1].index(last)
            return compile(ast.Module(block[names.index(first) : stop], []), ppo_trainer.__file__, "exec")
    raise SystemExit(f"no block of PPOTrainer.train in TRL {trl.__version__} assigns {first} and then {last}")


def run(code: CodeType, **inputs: Any) -> dict[str, Any]:
    """The names that exist after ``code`` ran beside those of TRL's module. Tensors are copied, since it writes into some."""
    names = {name: value.clone() if isinstance(value, Tensor) else value for name, value in inputs.items()}
    space = {**vars(ppo_trainer), **names}
    exec(code, space)
    return {name: value for name, value in space.items() if name not in vars(ppo_trainer)}


LENGTH = cut("sequence_length", "sequence_length")
ROLLOUT = cut("contain_eos_token", "advantages")
UPDATE = cut("micro_batch_end", "loss")
DIAGNOSTICS = cut("with pg_clipfrac", "with pg_clipfrac")


# The numbers


def responses_of(lengths: list[int], pad: int = PAD) -> Tensor:
    """(B, WIDTH) ids: a response is 5s with EOS last, but for the one at index 3, and padding after it."""
    rows = [[5] * (n - 1) + [5 if index == 3 else EOS] + [pad] * (WIDTH - n) for index, n in enumerate(lengths)]
    return torch.tensor(rows)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*(shape or (len(LENGTHS), WIDTH)), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rollout(pad: int = PAD, **changes: Any) -> dict[str, Any]:
    """What TRL makes of seeded log-probabilities, values and scores, with garbage behind each response's end."""
    responses = responses_of(LENGTHS, pad)
    args = SimpleNamespace(**{**SETTINGS, **changes})
    processing_class = SimpleNamespace(eos_token_id=EOS, pad_token_id=pad)
    lengths = run(LENGTH, postprocessed_response=responses, processing_class=processing_class)["sequence_length"]
    inputs = {
        "logprobs": -draw(0).abs(),
        "ref_logprobs": -draw(1).abs(),
        "values": draw(2),
        "scores": draw(3, len(LENGTHS)),
    }
    found = run(
        ROLLOUT,
        self=SimpleNamespace(args=args, processing_class=processing_class),
        args=args,
        responses=responses,
        postprocessed_responses=responses,
        sequence_lengths=lengths,
        **inputs,
    )
    names = ("scores", "kl", "rewards", "advantages", "returns", "values", "logprobs", "padding_mask", "padding_mask_p1")
    outputs = {name: found[name] for name in names}
    return {"settings": {**SETTINGS, **changes}, "inputs": inputs, "sequence_lengths": lengths, "outputs": outputs}


def update(rows: list[int], record: dict[str, Any]) -> dict[str, Any]:
    """What TRL makes of the responses ``rows`` of a rollout, taken as one microbatch."""
    old = record["outputs"]
    logits = draw(5, len(LENGTHS), CONTEXT + WIDTH, VOCABULARY).requires_grad_()
    values = draw(6, len(LENGTHS), CONTEXT + WIDTH, 1).requires_grad_()
    space = run(
        UPDATE,
        forward=lambda _, indices, __: (SimpleNamespace(logits=logits[indices]), values[indices]),
        model=None,
        accelerator=SimpleNamespace(backward=lambda loss: None),
        processing_class=SimpleNamespace(pad_token_id=PAD),
        args=SimpleNamespace(**SETTINGS, per_device_train_batch_size=len(rows)),
        micro_batch_start=0,
        mini_batch_inds=torch.tensor(rows),
        context_length=CONTEXT,
        responses=responses_of(LENGTHS),
        query_responses=torch.arange(len(LENGTHS)),  # what ``forward`` is to read
        **{name: old[name] for name in ("logprobs", "advantages", "returns", "values", "padding_mask", "padding_mask_p1")},
    )
    gradients = torch.autograd.grad(space["loss"], [logits, values])
    logged: dict[str, Any] = {name: {} for name in LOGGED}
    places = {"ppo_epoch_idx": 0, "minibatch_idx": 0, "gradient_accumulation_idx": 0}
    run(DIAGNOSTICS, **space, **places, **{f"{name}_stats": sink for name, sink in logged.items()})
    read = slice(CONTEXT - 1, -1)
    return {
        "rows": rows,
        "inputs": {"logits": logits[:, read], "values": values[:, read, 0]},
        "outputs": {name: space[name] for name in ("new_logprobs", "pg_loss", "vf_loss", "loss")},
        "gradients": {"logits": gradients[0][:, read], "values": gradients[1][:, read, 0]},
        "logged": {name: sink[0, 0, 0] for name, sink in logged.items()},
    }


def whitening() -> dict[str, Any]:
    mask = torch.arange(WIDTH)[None, :] < torch.tensor(LENGTHS)[:, None]
    values, whiten = 3 + 2 * draw(7), ppo_trainer.masked_whiten
    beyond = values.masked_fill(~mask, torch.nan)
    return {
        "values": values,
        "mask": mask,
        "mean": ppo_trainer.masked_mean(values, mask),
        "whitened": whiten(values, mask),
        "mean_kept": whiten(values, mask, shift_mean=False),
        "mean_with_nan_behind_the_mask": ppo_trainer.masked_mean(beyond, mask),
    }


def plain(value: Any) -> Any:
    """Tensors as lists, at any depth."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value.tolist() if isinstance(value, Tensor) else value


def main() -> None:
    record = rollout()
    defaults = PPOConfig(output_dir="unused", bf16=False, use_cpu=True, report_to="none")
    golden = {
        "trl": trl.__version__,
        "responses": responses_of(LENGTHS),
        "rollout": record,
        "rollout_whitened_rewards": rollout(whiten_rewards=True),
        "rollout_missing_eos": rollout(missing_eos_penalty=1.5),
        "rollout_k3": rollout(kl_estimator="k3"),
        "rollout_pad_is_eos": rollout(pad=EOS),
        "updates": [update(rows, record) for rows in ([0, 1, 2, 3], [0, 1], [2, 3])],
        "whitening": whitening(),
        "defaults": {name: getattr(defaults, name) for name in DEFAULTS},
    }
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(plain(value))}" for name, value in golden.items())
    Path(__file__).with_name("golden.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()

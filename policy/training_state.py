"""The state of a training loop: saved at intervals and loaded again, so that a killed loop resumes as if it had not stopped.

A loop hands over its modules, its optimizers and each stats record that it yields. When it starts again, the newest state is
loaded into them and the records of the steps done are yielded first: the caller sees one whole stream, whether or
not the loop was interrupted. On a CPU the result is equal bit for bit.

Weights, optimizer moments and the generators' states are safetensors, the records JSON; nothing is unpickled.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from pydantic import ConfigDict, TypeAdapter
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

Stats = TypeVar("Stats")
KEPT = 2


class States(Protocol):
    """Numbered folders that are whole or absent, such as those of a draft."""

    def numbers(self) -> list[int]: ...
    def path(self, number: int) -> Path: ...
    def due(self, step: int) -> bool: ...
    def save(self, number: int, write: Callable[[Path], None]) -> None: ...
    def keep_newest(self, count: int) -> None: ...


class TrainingState(Generic[Stats]):
    """What a loop needs to resume after ``step`` steps. ``states`` None saves nothing.

    Of the modules only parameters that are trained are saved; the others are as the loop was given them.
    """

    def __init__(
        self,
        states: States | None,
        modules: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        stats_type: type[Stats],
    ):
        self.states, self.modules, self.optimizers = states, modules, optimizers
        self.history: list[Stats] = []
        self._adapter = TypeAdapter(list[stats_type], config=ConfigDict(ser_json_inf_nan="constants"))  # type: ignore[valid-type]

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.history)

    def restore(self) -> Iterator[Stats]:
        """Load the newest state, if there is one, and yield the records of its steps."""
        numbers = self.states.numbers() if self.states else []
        if self.states is None or not numbers:
            return
        folder = self.states.path(numbers[-1])
        self._load(load_file(folder / "state.safetensors"))
        self.history = self._adapter.validate_json((folder / "stats.json").read_bytes())
        yield from list(self.history)

    def done(self, stats: Stats) -> Stats:
        """Note a step that was done, save the state when that is due, and return the record."""
        self.history.append(stats)
        if self.states is not None and self.states.due(self.step):
            self._save(self.states)
        return stats

    def keep(self) -> None:
        """Save the state after the steps done, due or not."""
        if self.states is not None and self.step not in self.states.numbers():
            self._save(self.states)

    def _save(self, states: States) -> None:
        states.save(self.step, self._write)
        states.keep_newest(KEPT)

    def _write(self, folder: Path) -> None:
        save_file(self._tensors(), folder / "state.safetensors")
        (folder / "stats.json").write_bytes(self._adapter.dump_json(self.history))

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {name: parameter.detach() for name, parameter in self._parameters().items()}
        for name, optimizer in self.optimizers.items():
            for index, parameter in enumerate(_parameters_of(optimizer)):
                for key, value in optimizer.state.get(parameter, {}).items():
                    tensors[f"{name}/{index}/{key}"] = value
        for name, state in _generators().items():
            tensors[f"generator/{name}"] = state
        return {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._parameters().items():
                parameter.copy_(tensors[name])
        for name, optimizer in self.optimizers.items():
            for index, parameter in enumerate(_parameters_of(optimizer)):
                prefix = f"{name}/{index}/"
                # on the parameter's device, the step count too: that is where a fused optimizer keeps it
                optimizer.state[parameter] = {
                    key.removeprefix(prefix): tensor.to(parameter.device)
                    for key, tensor in tensors.items()
                    if key.startswith(prefix)
                }
        torch.set_rng_state(tensors["generator/cpu"])
        for index in range(torch.cuda.device_count()):
            torch.cuda.set_rng_state(tensors[f"generator/cuda{index}"], index)

    def _parameters(self) -> dict[str, nn.Parameter]:
        return {
            f"{name}/{key}": parameter
            for name, module in self.modules.items()
            for key, parameter in module.named_parameters()
            if parameter.requires_grad
        }


def _parameters_of(optimizer: torch.optim.Optimizer) -> list[Any]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _generators() -> dict[str, Tensor]:
    return {
        "cpu": torch.get_rng_state(),
        **{f"cuda{index}": torch.cuda.get_rng_state(index) for index in range(torch.cuda.device_count())},
    }

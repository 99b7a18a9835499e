"""The processes that share one PPO run, each with the same models on its own device.

They communicate in two places only. Each process samples and scores its share of an iteration's prompts, and the results are
gathered: from there on every process holds the whole rollout, so that whitening, advantages and stats are those of the whole
batch. Each takes its share of a minibatch's microbatches, and the gradients are summed. The weights stay equal, because all
start equal and take the same steps.

The process group must exist before (``torch.distributed.init_process_group``, each process on its own device); without one
there is a single process. Saved states are for a single process.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

Item = TypeVar("Item")


class ProcessesError(RuntimeError):
    """Several processes without a process group."""


@dataclass(frozen=True, slots=True)
class Processes:
    """``count`` processes, of which this is number ``rank``, from 0."""

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> "Processes":
        """Those of torch.distributed. Raises ProcessesError where several were launched without a process group."""
        if not (dist.is_available() and dist.is_initialized()):
            if (launched := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
                raise ProcessesError(
                    f"{launched} processes were launched and no process group was made, so each would train for itself; call "
                    "torch.distributed.init_process_group first"
                )
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's part of ``items``, one stretch of them; the parts of all processes are all items."""
        return items[self.rank * len(items) // self.count : (self.rank + 1) * len(items) // self.count]

    def gathered(self, own: Sequence[Item]) -> list[Item]:
        """The parts of all processes, in their order; on the CPU, if tensors."""
        if self.count == 1:
            return list(own)
        parts: list[list[Item]] = [[] for _ in range(self.count)]
        dist.all_gather_object(parts, list(own))
        return [item for part in parts for item in part]

    def summed(self, own: Tensor) -> Tensor:
        """The sum of ``own`` over all processes."""
        if self.count > 1:
            dist.all_reduce(own)
        return own

    def sum_gradients(self, module: nn.Module) -> None:
        """Give every trained parameter the sum of its gradients over all processes; one without a gradient counts as 0."""
        if self.count == 1:
            return
        for parameter in module.parameters():
            if parameter.requires_grad:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                dist.all_reduce(parameter.grad)

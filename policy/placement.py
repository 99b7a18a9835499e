"""On which device models are opened.

A stage says it once (``stages/engine/run.py``), and every function that opens a model for use puts it there; loops and scorers
follow the model they are given. Without a word it is the CPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_DEVICE: ContextVar[str] = ContextVar("device", default="cpu")


class NoSuchDevice(ValueError):
    """A device that is not here."""


def device() -> str:
    """Where models are opened now: cpu, cuda, cuda:1 ..."""
    return _DEVICE.get()


@contextmanager
def on_device(name: str) -> Iterator[None]:
    """Within it models are opened on the device ``name``."""
    token = _DEVICE.set(name)
    try:
        yield
    finally:
        _DEVICE.reset(token)


def check_device(name: str) -> None:
    """Raise NoSuchDevice unless ``name`` is cpu, or a CUDA device that torch finds: cuda, cuda:0 ..."""
    if name == "cpu":
        return
    kind, _, number = name.partition(":")
    if kind != "cuda" or (number and not number.isdecimal()):
        raise NoSuchDevice(f"the device is {name!r}; give cpu, cuda, or one of several such as cuda:1")
    import torch

    count = torch.cuda.device_count()
    if int(number or 0) >= count:
        raise NoSuchDevice(
            f"the device {name} was asked for, and torch {torch.__version__} finds {count or 'no'} CUDA devices here; "
            "install the torch build for your GPU and its driver, or take --device cpu"
        )

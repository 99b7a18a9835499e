"""The device on which models are opened.

A stage sets it once, and every function that opens a model for use puts the model there; loops and scorers follow the model
they are given. The default is the CPU.
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


def finetuning_dtype(device_type: str) -> str:
    """The number format of fine-tuning's forward and backward passes on a cpu or cuda device; weights stay in float32."""
    return "bfloat16 autocast" if device_type == "cuda" else "float32"


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
            "install the torch build for your GPU and its driver, or use --device cpu"
        )

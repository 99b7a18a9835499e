"""Our own attention in place of a Llama's, for the length of a ``with`` block."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel


@contextmanager
def attending_by(model: PreTrainedModel, name: str, what: str) -> Iterator[None]:
    """Within it ``model`` attends by the function registered as ``name``; ``what`` says for the error what needs it.

    Raises ValueError for a model that is no Llama: another may attend to less than all that came before.
    """
    if model.config.model_type != "llama":
        raise ValueError(f"this is a {model.config.model_type} model, and {what} Llama models alone")
    usual = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(usual)

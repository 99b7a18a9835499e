"""``rlhf chat``: talk to a policy. Defaults are the reference code's (temperature 0.6, top-p 0.9)."""

from typing import Annotated

import typer

from commands.options import DeviceOption, ReferenceArgument, RegistryOption, SeedOption, open_registry, plain_errors
from policy.placement import check_device, on_device


def chat(
    reference: ReferenceArgument = "policy/chat",
    system: Annotated[str | None, typer.Option("--system", help="System message.")] = None,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0)] = 0.6,
    top_p: Annotated[float, typer.Option("--top-p", min=0.0, max=1.0)] = 0.9,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1)] = 256,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    registry: RegistryOption = None,
) -> None:
    """Chat with a policy; Ctrl-D quits.

    Example: rlhf chat policy/chat --registry runs/nano-0/registry
    """
    with plain_errors():
        check_device(device)
        artifact = open_registry(registry).open(reference, kind="policy")
        from commands.chat_loop import converse
        from policy.checkpoint import load_policy
        from policy.generation import TransformersSampler
        from stages.environment import quiet_libraries

        quiet_libraries()
        typer.echo(f"talking to {artifact.reference}; Ctrl-D ends", err=True)

        def read() -> str | None:
            try:
                return input("> ")
            except EOFError:
                return None

        with on_device(device):
            sampler = TransformersSampler(*load_policy(artifact.path))
        converse(sampler, read, typer.echo, system, temperature, top_p, max_new_tokens, seed)

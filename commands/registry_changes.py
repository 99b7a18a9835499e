"""``rlhf registry alias | remove | prune | export | push | drafts``: what changes a registry or takes something out of it."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from commands.options import JsonOption, ReferenceArgument, RegistryOption, open_registry, plain_errors
from commands.printing.lines import print_json, print_table, say
from registry.drafts import discard, unfinished
from registry.hub import push
from registry.upkeep import export, leftovers, prunable, prune, remove
from stages.terminal.screen_text import size_text


def add_commands(app: typer.Typer) -> None:
    """Put these commands into ``app``."""
    for name, command in (
        ("alias", set_alias),
        ("remove", remove_artifact),
        ("prune", prune_registry),
        ("export", export_artifact),
        ("push", push_artifact),
        ("drafts", show_drafts),
    ):
        app.command(name)(command)


def set_alias(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The alias: kind/name, such as policy/chat.")],
    reference: ReferenceArgument,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give an artifact a second name.

    Example: rlhf registry alias policy/chat policy/v5@1
    """
    with plain_errors():
        target = open_registry(registry).set_alias(name, reference)
    if as_json:
        print_json({"alias": name, "artifact": str(target)})
    else:
        typer.echo(f"{name} is {target}")


def remove_artifact(
    reference: ReferenceArgument,
    with_children_left: Annotated[
        bool, typer.Option("--with-children-left", help="Remove it even if other artifacts were made from it.")
    ] = False,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove one artifact permanently. Its revision number is not used again.

    Example: rlhf registry remove samples/v1@1
    """
    with plain_errors():
        gone = remove(open_registry(registry), reference, with_children_left, say)
    if as_json:
        print_json({"removed": [str(gone)]})
    else:
        typer.echo(f"removed {gone}")


def prune_registry(
    yes: Annotated[bool, typer.Option("--yes", help="Remove the artifacts that are listed.")] = False,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """List unneeded artifacts: older revisions from which no alias, newest revision or unfinished run was made.

    Example: rlhf registry prune --yes
    """
    with plain_errors():
        store = open_registry(registry)
        artifacts = prune(store, say) if yes else prunable(store)
        left = leftovers(store)
    names, size = [str(line.reference) for line in artifacts], sum(line.size for line in artifacts)
    if as_json:
        print_json({"removed" if yes else "would_remove": names, "bytes": size, "leftovers": [path.name for path in left]})
        return
    for name in names:
        typer.echo(name)
    for path in left:
        typer.echo(f"{path.name}, left by an interrupted command")
    more = "; --yes removes them" if (names or left) and not yes else ""
    typer.echo(f"{len(names)} artifacts, {size_text(size)}, {'removed' if yes else 'can go'}{more}")


def export_artifact(
    reference: ReferenceArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder.")],
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy an artifact to a plain folder that Hugging Face tools can open.

    Example: rlhf registry export policy/chat my-chat-model
    """
    with plain_errors():
        artifact = export(open_registry(registry), reference, folder)
    if as_json:
        print_json({"artifact": str(artifact.reference), "path": str(folder)})
    else:
        typer.echo(f"{artifact.reference} is in {folder}")


def push_artifact(
    reference: ReferenceArgument,
    repo_id: Annotated[str, typer.Argument(metavar="REPO_ID", help="Repository on the Hub: your-name/repository.")],
    private: Annotated[bool, typer.Option("--private", help="Create a private repository.")] = False,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Upload an artifact to the Hugging Face Hub, as export would write it. Log in first: hf auth login, or set HF_TOKEN.

    Example: rlhf registry push policy/chat your-name/my-chat-model --private
    """
    with plain_errors():
        artifact, url = push(open_registry(registry), reference, repo_id, private)
    if as_json:
        print_json({"artifact": str(artifact.reference), "url": url})
    else:
        typer.echo(f"{artifact.reference} is at {url}")


def show_drafts(
    discard_all: Annotated[bool, typer.Option("--discard", help="Remove those that no running process holds.")] = False,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """List unfinished work of stopped runs. Run the same command again to resume.

    Example: rlhf registry drafts --discard
    """
    with plain_errors():
        store = open_registry(registry)
        drafts = unfinished(store.root)
        gone = [draft.fingerprint for draft in drafts if discard_all and discard(store.root, draft.fingerprint)]
    if as_json:
        print_json({"drafts": [dataclasses.asdict(draft) for draft in drafts], "discarded": gone})
        return
    rows = [
        [draft.artifact, draft.fingerprint[:12], str(draft.num_states), draft.process,
         "discarded" if draft.fingerprint in gone else "running" if draft.held else "stopped"]
        for draft in drafts
    ]  # fmt: skip
    if rows:
        print_table(["artifact", "draft", "saved states", "begun by", "state"], rows)
    else:
        say(f"nothing is unfinished in {store.root}")

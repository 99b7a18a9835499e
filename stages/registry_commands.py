"""``rlhf registry``: look at what was made, from what, and whether it is still whole.

Exit codes: 0 done, 1 ``verify`` found something wrong, 2 a reference or name that cannot be used. With ``--json`` stdout
holds one JSON object and nothing else; into a pipe, tables become lines with tab-separated columns.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from registry.artifact import Artifact
from registry.difference import artifact_differences
from registry.drafts import discard, unfinished
from registry.errors import CannotWrite, RegistryError
from registry.lineage import lineage_json, lineage_mermaid, lineage_text, lineage_tree, parents
from registry.upkeep import export, prunable, remove
from stages.roots import open_registry

registry_app = typer.Typer(no_args_is_help=True, help="Every artifact: what it was made from, and whether it is whole.")

RegistryOption = Annotated[
    Path | None,
    typer.Option(
        "--registry",
        metavar="DIR",
        help="Registry folder. Default: $RLHF_REGISTRY, the project folder's registry, ./rlhf-registry.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
ReferenceArgument = Annotated[str, typer.Argument(metavar="REF", help="kind/name@revision, kind/name (newest) or an alias.")]


@contextmanager
def registry_errors() -> Iterator[None]:
    """Turn a RegistryError into its message on stderr and exit code 2, a disk that is full or read-only into exit code 1."""
    try:
        yield
    except (RegistryError, CannotWrite) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2 if isinstance(error, RegistryError) else 1) from error


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal; tab-separated lines with a header anywhere else."""
    console = Console()
    if not console.is_terminal:
        for row in (columns, *rows):
            typer.echo("\t".join(row))
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def size_text(size: int) -> str:
    """Bytes for people, in powers of 1000: ``812 B``, ``3.4 MB``."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:
            return f"{size} B" if unit == "B" else f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"


@registry_app.command("list")
def list_artifacts(
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only this kind, such as policy.")] = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Every artifact.

    Example: rlhf registry list --kind policy
    """
    with registry_errors():
        store = open_registry(registry)
        artifacts = store.list(kind)
        aliases = {alias: target for alias, target in store.aliases().items() if kind is None or alias.startswith(kind + "/")}
    if as_json:
        print_json({"registry": str(store.root), "artifacts": [_summary(each) for each in artifacts], "aliases": aliases})
        return
    if not artifacts:
        found = f"artifacts of kind {kind}" if kind else "artifacts"
        typer.echo(f"{store.root} holds no {found} yet; `rlhf reproduce` makes the first", err=True)
        return
    rows = []
    for artifact in artifacts:
        reference, manifest = str(artifact.reference), artifact.manifest
        names = ", ".join(alias for alias, target in aliases.items() if target == reference)
        rows.append([reference, manifest.stage, size_text(manifest.size), manifest.created, names])
    print_table(["artifact", "stage", "size", "created", "alias"], rows)
    total = sum(artifact.manifest.size for artifact in artifacts)
    typer.echo(f"{len(artifacts)} artifacts, {size_text(total)}", err=True)
    if left := [draft for draft in unfinished(store) if not draft.held]:
        typer.echo(f"{len(left)} unfinished; see `rlhf registry drafts`", err=True)


def _summary(artifact: Artifact) -> dict[str, Any]:
    manifest = artifact.manifest
    return {
        "artifact": str(artifact.reference),
        "digest": manifest.digest,
        "stage": manifest.stage,
        "size": manifest.size,
        "created": manifest.created,
        "path": str(artifact.path),
    }


@registry_app.command("show")
def show(reference: ReferenceArgument, registry: RegistryOption = None, as_json: JsonOption = False) -> None:
    """One artifact: parents, config, metrics, files.

    Example: rlhf registry show policy/sft
    """
    with registry_errors():
        artifact = open_registry(registry).resolve(reference)
    manifest = artifact.manifest
    if as_json:
        print_json({"artifact": str(artifact.reference), "path": str(artifact.path), "manifest": manifest.model_dump()})
        return
    rows = [["artifact", str(artifact.reference)], ["path", str(artifact.path)], ["digest", manifest.digest]]
    rows += [["stage", f"{manifest.stage} (revision {manifest.stage_revision}), seed {manifest.seed}"]]
    rows += [["made", f"{manifest.created} in {manifest.seconds:.1f} s, {manifest.peak_rss_mb:.0f} MB resident at most"]]
    rows += [["on", f"{manifest.device}, {manifest.dtype}, code {manifest.git_revision or 'outside a git checkout'}"]]
    rows += [["versions", ", ".join(f"{library} {version}" for library, version in manifest.versions.items())]]
    rows += [[f"parent {role}", f"{parent.reference}  {parent.digest}"] for role, parent in parents(artifact)]
    rows += [[f"config {key}", json.dumps(value)] for key, value in manifest.config.items()]
    rows += [[f"metric {key}", json.dumps(value)] for key, value in manifest.metrics.items()]
    rows += [[f"file {entry.path}", f"{size_text(entry.size)}  sha256 {entry.sha256}"] for entry in manifest.files]
    print_table(["what", "value"], rows)


@registry_app.command("lineage")
def lineage(
    reference: ReferenceArgument,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print a Mermaid flowchart instead of a tree.")] = False,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """What an artifact was made from, back to its roots.

    Example: rlhf registry lineage policy/chat
    """
    with registry_errors():
        tree = lineage_tree(open_registry(registry), reference)
    if as_json:
        print_json(lineage_json(tree))
    else:
        typer.echo(lineage_mermaid(tree) if mermaid else lineage_text(tree))


@registry_app.command("diff")
def diff(
    left: Annotated[str, typer.Argument(metavar="A", help="One artifact.")],
    right: Annotated[str, typer.Argument(metavar="B", help="The other.")],
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """What differs between two artifacts: config, data, seed, code, metrics.

    Example: rlhf registry diff policy/v4 policy/v5
    """
    with registry_errors():
        store = open_registry(registry)
        pair = store.resolve(left), store.resolve(right)
    found = artifact_differences(pair[0].manifest, pair[1].manifest)
    names = [str(artifact.reference) for artifact in pair]
    if as_json:
        print_json({"artifacts": names, "differences": [dataclasses.asdict(each) for each in found]})
    elif not found:
        typer.echo(f"{names[0]} and {names[1]} are of one config, one data and one result")
    else:
        print_table(["what", *names], [[each.what, json.dumps(each.left), json.dumps(each.right)] for each in found])


@registry_app.command("verify")
def verify(
    references: Annotated[list[str] | None, typer.Argument(metavar="[REF]...", help="What to check; default: all.")] = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute every sha256 and look for every parent.

    Example: rlhf registry verify policy/chat
    """
    with registry_errors():
        store = open_registry(registry)
        found = {text: store.verify(text) for text in references or map(str, store.references())}
    whole = not any(found.values())
    if as_json:
        checked = [
            {"artifact": text, "problems": [{"path": problem.path, "text": problem.text} for problem in problems]}
            for text, problems in found.items()
        ]
        print_json({"whole": whole, "checked": checked})
    else:
        for text, problems in found.items():
            typer.echo(f"{text}: {'whole' if not problems else 'WRONG'}")
            for problem in problems:
                typer.echo(f"  {problem.path}: {problem.text}")
    if not whole:
        typer.echo("error: restore the files named from a copy, or make the artifacts again with --force", err=True)
        raise typer.Exit(1)


@registry_app.command("alias")
def alias(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The alias: kind/name, such as policy/chat.")],
    reference: ReferenceArgument,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give an artifact a second name.

    Example: rlhf registry alias policy/chat policy/v5@1
    """
    with registry_errors():
        target = open_registry(registry).set_alias(name, reference)
    if as_json:
        print_json({"alias": name, "artifact": str(target)})
    else:
        typer.echo(f"{name} is {target}")


@registry_app.command("remove")
def remove_artifact(
    reference: ReferenceArgument,
    with_children_left: Annotated[
        bool, typer.Option("--with-children-left", help="Even where other artifacts were made from it.")
    ] = False,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove one artifact for good; its revision number is not given again.

    Example: rlhf registry remove samples/v1@1
    """
    with registry_errors():
        gone = remove(open_registry(registry), reference, with_children_left)
    if as_json:
        print_json({"removed": [str(gone)]})
    else:
        typer.echo(f"removed {gone}")


@registry_app.command("prune")
def prune(
    yes: Annotated[bool, typer.Option("--yes", help="Remove what is shown.")] = False,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what nothing needs: older revisions that neither an alias nor anything newest was made from.

    Example: rlhf registry prune --yes
    """
    with registry_errors():
        store = open_registry(registry)
        found = prunable(store)
        if yes:
            for artifact in found:
                remove(store, str(artifact.reference), even_with_children=True)
    names, size = [str(artifact.reference) for artifact in found], sum(artifact.manifest.size for artifact in found)
    if as_json:
        print_json({"removed" if yes else "would_remove": names, "bytes": size})
        return
    for name in names:
        typer.echo(name)
    done = "removed" if yes else "can go"
    typer.echo(f"{len(names)} artifacts, {size_text(size)}, {done}" + ("" if yes or not names else "; --yes removes them"))


@registry_app.command("export")
def export_artifact(
    reference: ReferenceArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that does not exist yet.")],
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy an artifact to a plain folder that any Hugging Face tool opens.

    Example: rlhf registry export policy/chat my-chat-model
    """
    with registry_errors():
        artifact = export(open_registry(registry), reference, folder)
    if as_json:
        print_json({"artifact": str(artifact.reference), "path": str(folder)})
    else:
        typer.echo(f"{artifact.reference} is in {folder}")


@registry_app.command("drafts")
def drafts(
    discard_all: Annotated[bool, typer.Option("--discard", help="Remove those that no living process holds.")] = False,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """What stopped runs left behind; running the same command again goes on from there.

    Example: rlhf registry drafts --discard
    """
    with registry_errors():
        store = open_registry(registry)
        found = unfinished(store)
        gone = [draft.fingerprint for draft in found if discard_all and discard(store, draft.fingerprint)]
    if as_json:
        print_json({"drafts": [dataclasses.asdict(draft) for draft in found], "discarded": gone})
        return
    rows = [
        [draft.artifact, draft.fingerprint[:12], str(draft.num_states), draft.process,
         "discarded" if draft.fingerprint in gone else "running" if draft.held else "stopped"]
        for draft in found
    ]  # fmt: skip
    if rows:
        print_table(["artifact", "draft", "saved states", "begun by", "state"], rows)
    else:
        typer.echo(f"nothing is unfinished in {store.root}", err=True)

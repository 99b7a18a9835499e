"""``rlhf registry``: look at what was made, from what, and whether it is still whole; the rest is in ``registry_changes``.

Exit codes: 0 done, 1 ``verify`` found something wrong, or a disk or a connection failed, 2 a reference that cannot be used.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from commands.options import JsonOption, ReferenceArgument, RegistryOption, open_registry, plain_errors
from commands.printing.lines import print_json, print_table, say
from commands.registry_changes import add_commands
from registry.artifact import Problem
from registry.difference import artifact_differences, leaves
from registry.drafts import unfinished
from registry.errors import CorruptArtifact
from registry.lineage import lineage_json, lineage_mermaid, lineage_text, lineage_tree, parents
from registry.manifest import Manifest
from registry.overview import Listed, alias_problems, overview
from registry.store import ALIASES_FILE, Registry
from stages.terminal.screen_text import size_text

UNREADABLE_TOLD = 5

registry_app = typer.Typer(no_args_is_help=True, help="Inspect, verify, export and remove artifacts.")


@registry_app.command("list")
def list_artifacts(
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only this kind, such as policy.")] = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """List artifacts with their sizes.

    Example: rlhf registry list --kind policy
    """
    with plain_errors():
        store = open_registry(registry)
        lines = overview(store, kind)
    aliases = {alias: target for alias, target in _aliases(store).items() if kind is None or alias.startswith(kind + "/")}
    whole, unreadable = [line for line in lines if not line.problem], [line for line in lines if line.problem]
    if as_json:
        problems = [{"artifact": str(line.reference), "path": str(line.path), "problem": line.problem} for line in unreadable]
        print_json(
            {"registry": str(store.root), "artifacts": [*map(_summary, whole)], "unreadable": problems, "aliases": aliases}
        )
        return
    if not lines:
        what = f"artifacts of kind {kind}" if kind else "artifacts"
        say(f"{store.root} holds no {what} yet; `rlhf reproduce` makes the first")
        return
    print_table(["artifact", "stage", "size", "created", "alias"], list(_rows(lines, aliases)))
    say(f"{len(lines)} artifacts, {size_text(sum(line.size for line in lines))}")
    for text in _wrong(store, unreadable):
        say(f"error: {text}")
    if left := [draft for draft in unfinished(store.root) if not draft.held]:
        say(f"{len(left)} unfinished; see `rlhf registry drafts`")


def _aliases(store: Registry) -> dict[str, str]:
    """All aliases; none where their file is torn, which is told apart."""
    try:
        return store.aliases()
    except CorruptArtifact:
        return {}


def _rows(lines: Sequence[Listed], aliases: Mapping[str, str]) -> Iterator[list[str]]:
    names: dict[str, list[str]] = {}
    for alias, target in aliases.items():
        names.setdefault(target, []).append(alias)
    for line in lines:
        reference = str(line.reference)
        details = ["UNREADABLE", "", ""] if line.problem else [line.stage, size_text(line.size), line.created]
        yield [reference, *details, ", ".join(names.get(reference, []))]


def _wrong(store: Registry, unreadable: Sequence[Listed]) -> Iterator[str]:
    for line in unreadable[:UNREADABLE_TOLD]:
        yield f"{line.reference} cannot be read: {line.problem}"
    if more := unreadable[UNREADABLE_TOLD:]:
        yield f"and {len(more)} more; rlhf registry verify names them all"
    yield from (problem.text for problem in alias_problems(store))


def _summary(line: Listed) -> dict[str, Any]:
    return {
        "artifact": str(line.reference),
        "digest": line.digest,
        "stage": line.stage,
        "size": line.size,
        "created": line.created,
        "path": str(line.path),
    }


@registry_app.command("show")
def show(reference: ReferenceArgument, registry: RegistryOption = None, as_json: JsonOption = False) -> None:
    """Print one artifact: parents, config, metrics, files.

    Example: rlhf registry show policy/sft
    """
    with plain_errors():
        store = open_registry(registry)
        artifact = store.resolve(reference)
    manifest = artifact.manifest
    if as_json:
        print_json({"artifact": str(artifact.reference), "path": str(artifact.path), "manifest": manifest.model_dump()})
        return
    rows = [["artifact", str(artifact.reference)]]
    rows += [["alias", alias] for alias, target in _aliases(store).items() if target == str(artifact.reference)]
    rows += [["path", str(artifact.path)], ["size", size_text(manifest.size)], ["digest", manifest.digest]]
    rows += [["stage", f"{manifest.stage} (revision {manifest.stage_revision}), seed {manifest.seed}"]]
    rows += [["made", f"{manifest.created} in {manifest.seconds:.1f} s, {manifest.peak_rss_mb:.0f} MB resident at most"]]
    rows += [["on", f"{manifest.device}, {manifest.dtype}"], ["code", _code(manifest)]]
    rows += [["versions", ", ".join(f"{library} {version}" for library, version in manifest.versions.items())]]
    rows += [[f"parent {role}", f"{parent.reference}  {_short(parent.digest)}"] for role, parent in parents(artifact)]
    rows += [[f"config {key}", json.dumps(value, ensure_ascii=False)] for key, value in leaves(manifest.config)]
    rows += [[f"metric {key}", _measured(value)] for key, value in leaves(manifest.metrics)]
    rows += [[f"file {entry.path}", f"{size_text(entry.size)}  sha256 {_short(entry.sha256)}"] for entry in manifest.files]
    print_table(["what", "value"], rows)


def _code(manifest: Manifest) -> str:
    revision = manifest.git_revision or "outside a git checkout"
    return revision.removesuffix("-dirty") + (", with changes that were not committed" if revision.endswith("-dirty") else "")


def _short(digest: str) -> str:
    """The first digits, as ``lineage`` prints them; ``--json`` has them all."""
    return digest[:12]


def _measured(value: Any) -> str:
    """Six digits of a number; ``--json`` has them all."""
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


@registry_app.command("lineage")
def lineage(
    reference: ReferenceArgument,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print a Mermaid flowchart instead of a tree.")] = False,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what an artifact was made from, back to its roots.

    Example: rlhf registry lineage policy/chat
    """
    with plain_errors():
        tree = lineage_tree(open_registry(registry), reference)
    if as_json:
        print_json(lineage_json(tree))
    else:
        typer.echo(lineage_mermaid(tree) if mermaid else lineage_text(tree))


@registry_app.command("diff")
def diff(
    left: Annotated[str, typer.Argument(metavar="A", help="First artifact.")],
    right: Annotated[str, typer.Argument(metavar="B", help="Second artifact.")],
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two artifacts: config, data, seed, code, metrics.

    Example: rlhf registry diff policy/v4 policy/v5
    """
    with plain_errors():
        store = open_registry(registry)
        pair = store.resolve(left), store.resolve(right)
    differences = artifact_differences(pair[0].manifest, pair[1].manifest)
    names = [str(artifact.reference) for artifact in pair]
    if as_json:
        print_json({"artifacts": names, "differences": [dataclasses.asdict(difference) for difference in differences]})
    elif not differences:
        typer.echo(f"{names[0]} and {names[1]} are of one config, one data and one result")
    else:
        print_table(
            ["what", *names],
            [[difference.what, json.dumps(difference.left), json.dumps(difference.right)] for difference in differences],
        )


@registry_app.command("verify")
def verify(
    references: Annotated[
        list[str] | None, typer.Argument(metavar="[REF]...", help="Artifacts to check. Default: all.")
    ] = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute every sha256 and check that every parent exists; without REF, check aliases too.

    Example: rlhf registry verify policy/chat
    """
    with plain_errors():
        store = open_registry(registry)
        problems_by_artifact: dict[str, tuple[Problem, ...]] = {}
        for text in references or map(str, store.references()):
            problems_by_artifact[text] = store.verify(text)
            if not as_json:
                _print_problems(text, problems_by_artifact[text])
        if not references and (problems := alias_problems(store)):
            problems_by_artifact[ALIASES_FILE] = problems
            if not as_json:
                _print_problems(ALIASES_FILE, problems)
    whole = not any(problems_by_artifact.values())
    if as_json:
        checked = [
            {"artifact": text, "problems": [*map(dataclasses.asdict, problems)]}
            for text, problems in problems_by_artifact.items()
        ]
        print_json({"whole": whole, "checked": checked})
    if not whole:
        say("error: restore the named files from a copy, or make the artifacts again with --force")
        raise typer.Exit(1)


def _print_problems(text: str, problems: Sequence[Problem]) -> None:
    typer.echo(f"{text}: {'whole' if not problems else 'WRONG'}")
    for problem in problems:
        typer.echo(f"  {problem.path}: {problem.text}")


add_commands(registry_app)

"""Lineage: from an artifact back to its roots, as a tree of references.

An artifact that several children share is followed once; where it comes again it is marked ``above``. A parent that was
removed, that cannot be read, or whose digest is no longer the one recorded, stays in the tree and is marked so.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from registry.artifact import Artifact
from registry.errors import ReferenceNotFound, RegistryError
from registry.manifest import Parent
from registry.store import Registry

State = Literal["present", "above", "missing", "unreadable", "changed"]


@dataclass(frozen=True, slots=True)
class Lineage:
    """One artifact and what it was made from. ``role`` is what it was to its child, '' for the artifact asked about."""

    role: str
    reference: str
    digest: str
    stage: str
    state: State
    parents: tuple["Lineage", ...]


def parents(artifact: Artifact) -> tuple[tuple[str, Parent], ...]:
    """(role, parent) for every input, in the order they were given."""
    return tuple((role, parent) for role, inputs in artifact.manifest.parents.items() for parent in inputs)


def lineage_tree(registry: Registry, text: str) -> Lineage:
    """The lineage of the artifact ``text`` leads to. Raises what ``Registry.resolve`` raises for ``text`` itself."""
    return _node(registry, "", registry.resolve(text), "present", set())


def _node(registry: Registry, role: str, artifact: Artifact, state: State, seen: set[str]) -> Lineage:
    reference = str(artifact.reference)
    if reference in seen:
        return Lineage(role, reference, artifact.digest, artifact.manifest.stage, "above", ())
    seen.add(reference)
    nodes = tuple(_parent(registry, parent_role, parent, seen) for parent_role, parent in parents(artifact))
    return Lineage(role, reference, artifact.digest, artifact.manifest.stage, state, nodes)


def _parent(registry: Registry, role: str, parent: Parent, seen: set[str]) -> Lineage:
    try:
        artifact = registry.resolve(parent.reference)
    except RegistryError as error:
        state: State = "missing" if isinstance(error, ReferenceNotFound) else "unreadable"
        return Lineage(role, parent.reference, parent.digest, "", state, ())
    return _node(registry, role, artifact, "present" if artifact.digest == parent.digest else "changed", seen)


def lineage_json(tree: Lineage) -> dict[str, Any]:
    """The tree as nested plain values."""
    return asdict(tree)


def lineage_text(tree: Lineage) -> str:
    """The tree as lines of text, children before their parents, without a trailing newline."""
    return "\n".join([_line(tree), *_branches(tree, "")])


def lineage_mermaid(tree: Lineage) -> str:
    """The graph as a Mermaid flowchart, parents above their children, each artifact once, without a trailing newline."""
    numbers: dict[str, int] = {}
    labels: dict[str, str] = {}
    edges: list[str] = []

    def visit(node: Lineage) -> int:
        number = numbers.setdefault(node.reference, len(numbers))
        labels.setdefault(node.reference, node.reference if node.state == "present" else f"{node.reference} ({node.state})")
        for parent in node.parents:
            edges.append(f"  n{visit(parent)} -- {parent.role} --> n{number}")
        return number

    visit(tree)
    boxes = [f'  n{number}["{labels[reference]}"]' for reference, number in numbers.items()]
    return "\n".join(["flowchart TB", *boxes, *dict.fromkeys(edges)])


def _branches(tree: Lineage, indent: str) -> Iterator[str]:
    for position, parent in enumerate(tree.parents):
        last = position == len(tree.parents) - 1
        yield f"{indent}{'└─' if last else '├─'} {parent.role}: {_line(parent)}"
        yield from _branches(parent, indent + ("   " if last else "│  "))


def _line(tree: Lineage) -> str:
    if tree.state == "above":
        return f"{tree.reference} (above)"
    if tree.state == "missing":
        return f"{tree.reference} (missing from the registry)"
    if tree.state == "unreadable":
        return f"{tree.reference} (cannot be read; see rlhf registry verify {tree.reference})"
    note = " (changed since it was used)" if tree.state == "changed" else ""
    return f"{tree.reference}  {tree.stage}  {tree.digest[:12]}{note}"

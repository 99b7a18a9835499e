"""One line for each artifact, for lists of thousands: only what a list shows is read of a manifest."""

import itertools
from dataclasses import dataclass
from pathlib import Path

from registry.artifact import Problem, Reference, check_name
from registry.errors import CorruptArtifact, ReferenceNotFound, RegistryError
from registry.links import first_link, refuse_link
from registry.manifest import read_summary
from registry.store import ALIASES_FILE, Registry


@dataclass(frozen=True, slots=True)
class Listed:
    """What a list says of an artifact: ``size`` in bytes, ``created`` as UTC time, ``parents`` as full references.

    ``problem`` says why the manifest cannot be read; where it is '', all else is known.
    """

    reference: Reference
    path: Path
    digest: str = ""
    stage: str = ""
    size: int = 0
    created: str = ""
    parents: tuple[str, ...] = ()
    problem: str = ""


def overview(registry: Registry, kind: str | None = None) -> tuple[Listed, ...]:
    """Every artifact (of one kind), in the order of ``Registry.references``; those that cannot be read say why.

    Raises InvalidName for a kind that does not exist.
    """
    lines = []
    for _, revisions in itertools.groupby(registry.references(kind), lambda reference: (reference.kind, reference.name)):
        references = tuple(revisions)
        folder = registry.folder(references[0].newest)
        link = first_link(registry.root, folder)  # looked for once a name, which may have thousands of revisions
        lines += [line for reference in references if (line := _look_at(reference, folder / str(reference.revision), link))]
    return tuple(lines)


def _look_at(reference: Reference, path: Path, link_above: Path | None) -> Listed | None:
    """None when it was removed a moment ago."""
    try:
        refuse_link(link_above or (path if path.is_symlink() else None))
        summary = read_summary(path)
        check_name(reference, path, summary)
    except RegistryError as error:
        return Listed(reference, path, problem=str(error)) if path.is_symlink() or path.exists() else None
    return Listed(
        reference, path, summary.digest, summary.stage, summary.size, summary.created, tuple(summary.parent_references)
    )


def alias_problems(registry: Registry) -> tuple[Problem, ...]:
    """What is wrong with the aliases: their file is torn, or one points at nothing."""
    try:
        aliases = registry.aliases()
    except CorruptArtifact as error:
        return (Problem(ALIASES_FILE, str(error)),)
    problems = []
    for alias in aliases:
        try:
            registry.follow(alias)
        except ReferenceNotFound as error:
            problems.append(Problem(alias, str(error)))
    return tuple(problems)

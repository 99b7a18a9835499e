"""Keeping a registry small and its artifacts useful elsewhere: remove, prune, export."""

import shutil
from pathlib import Path

from registry.artifact import Artifact, Reference
from registry.errors import RegistryError
from registry.manifest import CARD_FILE, fsync, is_payload
from registry.store import GONE, Registry


def children(registry: Registry, reference: Reference) -> tuple[Reference, ...]:
    """The artifacts that were made from this one, directly."""
    return tuple(each.reference for each in registry.list() if str(reference) in each.manifest.parent_references)


def remove(registry: Registry, text: str, even_with_children: bool = False) -> Reference:
    """Remove an artifact, at once and whole; its revision number is never given again.

    Raises RegistryError while other artifacts were made from it (unless told otherwise) or an alias points at it.
    """
    with registry.lock():
        reference = registry.resolve(text).reference
        if aliases := [alias for alias, target in registry.aliases().items() if target == str(reference)]:
            raise RegistryError(f"{reference} is what the alias {aliases[0]} points at; point it elsewhere first")
        if not even_with_children and (made := children(registry, reference)):
            raise RegistryError(
                f"{reference} is a parent of {', '.join(map(str, made[:5]))}{' and others' if made[5:] else ''}; remove "
                "those first, or say that it may go all the same (--with-children-left)"
            )
        path = registry.folder(reference)
        gone = registry.root / ".removed" / f"{reference.kind}-{reference.name}-{reference.revision}"
        shutil.rmtree(gone, ignore_errors=True)
        gone.parent.mkdir(exist_ok=True)
        path.with_suffix(GONE).touch()
        path.rename(gone)
        fsync(path.parent)
    shutil.rmtree(gone)
    return reference


def prunable(registry: Registry) -> tuple[Artifact, ...]:
    """What nothing needs: all but the newest of each name, what aliases point at, and everything those were made from."""
    artifacts = {str(each.reference): each for each in registry.list()}
    newest = {str(each.reference.newest): str(each.reference) for each in artifacts.values()}
    needed: set[str] = set()
    pending = [*newest.values(), *registry.aliases().values()]
    while pending:
        reference = pending.pop()
        if reference in artifacts and reference not in needed:
            needed.add(reference)
            pending += artifacts[reference].manifest.parent_references
    return tuple(artifact for reference, artifact in artifacts.items() if reference not in needed)


def export(registry: Registry, text: str, folder: Path) -> Artifact:
    """Copy an artifact's payload and card to a new ``folder``, whole or not at all; any Hugging Face tool opens a model there.

    Raises RegistryError when ``folder`` exists, CorruptArtifact when a file is not what was committed.
    """
    artifact = registry.open(text)
    folder = Path(folder)
    if folder.exists():
        raise RegistryError(f"{folder} exists; give a folder that does not")
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    for entry in artifact.manifest.files:
        if is_payload(entry.path) or entry.path == CARD_FILE:
            (fresh / entry.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact.path / entry.path, fresh / entry.path)
    fresh.rename(folder)
    return artifact

"""Keeping a registry small and its artifacts useful elsewhere: remove, prune, export.

What is removed is renamed into ``.removed/`` first, all under the registry's lock. What lies there while nobody holds the lock
was left by a killed process, and the next remove or prune deletes it.
"""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from registry.artifact import Artifact, Reference
from registry.drafts import Say, unfinished
from registry.errors import CorruptArtifact, RegistryError
from registry.links import first_link, refuse_link
from registry.manifest import CARD_FILE, fsync, is_payload
from registry.overview import Listed, overview
from registry.store import FRESH_ALIASES_FILE, GONE, REMOVED, Registry
from registry.writing import registry_lock, writing


def children(registry: Registry, reference: Reference) -> tuple[str, ...]:
    """What was made from an artifact, directly, and what is being made from it.

    Raises CorruptArtifact when an artifact cannot be read: it could be one of them.
    """
    lines = overview(registry)
    for line in lines:
        if line.problem and line.reference != reference:
            raise CorruptArtifact(
                f"{line.reference} cannot be read, and may have been made from {reference}: {line.problem}. Fix or remove "
                f"it first, or remove {reference} all the same with --with-children-left"
            )
    made = [str(line.reference) for line in lines if str(reference) in line.parents]
    digests = {line.digest for line in lines if line.reference == reference and not line.problem}
    begun = [f"{draft.artifact} (unfinished)" for draft in unfinished(registry.root) if digests & _inputs(draft.asked)]
    return (*made, *begun)


def remove(registry: Registry, text: str, even_with_children: bool = False, say: Say = lambda text: None) -> Reference:
    """Remove an artifact, whole or damaged, at once; its revision number is never given again.

    Raises RegistryError while anything was made from it or is being made (unless ``even_with_children``), or an alias points at
    it; CannotWrite in a registry that may only be read. ``say`` is called with what an earlier, killed process had left.
    """
    if not registry.root.is_dir():
        registry.follow(text)  # raises that it is not there, before a lock makes the folder
    with writing(registry.root), registry_lock(registry.root):
        _sweep(registry, say)
        reference = registry.follow(text)
        if aliases := [alias for alias, target in registry.aliases().items() if target == str(reference)]:
            raise RegistryError(f"the alias {aliases[0]} points at {reference}; point it at another artifact first")
        if not even_with_children and (made := children(registry, reference)):
            raise RegistryError(
                f"{reference} is a parent of {', '.join(made[:5])}{' and others' if made[5:] else ''}; remove "
                "those first, or remove it all the same with --with-children-left"
            )
        _remove(registry, reference)
    return reference


def prunable(registry: Registry) -> tuple[Listed, ...]:
    """What nothing needs: all but the newest of each name, what aliases point at, what unfinished work reads, and all that
    those were made from.

    Raises CorruptArtifact when an artifact cannot be read: what it was made from is not known.
    """
    lines = {str(line.reference): line for line in overview(registry)}
    for line in lines.values():
        if line.problem:
            raise CorruptArtifact(
                f"{line.reference} cannot be read, so what it was made from is not known, and nothing is pruned: "
                f"{line.problem}. Fix it or remove it first"
            )
    newest = {str(line.reference.newest): reference for reference, line in lines.items()}
    read = {digest for draft in unfinished(registry.root) for digest in _inputs(draft.asked)}
    pending = [*newest.values(), *registry.aliases().values()]
    pending += [reference for reference, line in lines.items() if line.digest in read]
    needed: set[str] = set()
    while pending:
        reference = pending.pop()
        if reference in lines and reference not in needed:
            needed.add(reference)
            pending += lines[reference].parents
    return tuple(line for reference, line in lines.items() if reference not in needed)


def prune(registry: Registry, say: Say = lambda text: None) -> tuple[Listed, ...]:
    """Remove what is ``prunable`` and return it; ``say`` is called with what an earlier, killed process had left.

    Raises what ``prunable`` raises, and CannotWrite in a registry that may only be read.
    """
    if not registry.root.is_dir():
        return ()
    with writing(registry.root), registry_lock(registry.root):
        _sweep(registry, say)
        lines = prunable(registry)
        for line in lines:
            _remove(registry, line.reference)
    return lines


def leftovers(registry: Registry) -> tuple[Path, ...]:
    """What a killed remove or alias left behind, or a running one is working on."""
    removed, aliases = registry.root / REMOVED, registry.root / FRESH_ALIASES_FILE
    return (*(sorted(removed.iterdir()) if removed.is_dir() else ()), *([aliases] if aliases.exists() else ()))


def export(registry: Registry, text: str, folder: Path) -> Artifact:
    """Copy an artifact's payload and card to a new ``folder``, whole or not at all; any Hugging Face tool opens a model there.

    Raises RegistryError when ``folder`` exists, CorruptArtifact when a file is not what was committed.
    """
    artifact = registry.open(text)
    folder = Path(folder)
    if folder.exists():
        raise RegistryError(f"{folder} exists; give a folder that does not")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        fresh = Path(scratch) / folder.name
        for path in exported(artifact):
            (fresh / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact.path / path, fresh / path)
        fresh.rename(folder)
    return artifact


def exported(artifact: Artifact) -> tuple[str, ...]:
    """The files of an artifact that leave the registry: its payload and its card."""
    return tuple(entry.path for entry in artifact.manifest.files if is_payload(entry.path) or entry.path == CARD_FILE)


def _inputs(asked: dict) -> set[str]:
    """The digests of what a draft is made from."""
    return {digest for digests in asked.get("inputs", {}).values() for digest in digests}


def _remove(registry: Registry, reference: Reference) -> None:
    path = registry.folder(reference)
    refuse_link(first_link(registry.root, path.parent))
    gone = registry.root / REMOVED / f"{reference.kind}-{reference.name}-{reference.revision}"
    gone.parent.mkdir(exist_ok=True)
    path.with_suffix(GONE).touch()
    path.rename(gone)
    fsync(path.parent)
    _clear([gone])


def _sweep(registry: Registry, say: Say) -> None:
    if left := leftovers(registry):
        _clear(left)
        say(f"deleted what an interrupted command had left: {', '.join(path.name for path in left)}")


def _clear(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

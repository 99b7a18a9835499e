"""The registry on disk: immutable artifacts, drafts that become artifacts in one rename, aliases.

::

    <root>/<kind>/<name>/<revision>/   an artifact: payload, logs/, README.md, manifest.json
    <root>/.drafts/<fingerprint>/      an artifact in the making: draft.json says which, out/ is to become it, states/ is what
                                       a stage saved to go on from; <fingerprint>.lock beside it is held while its process lives
    <root>/.removed/                   artifacts on their way out
    <root>/aliases.json                {"policy/chat": "policy/v5@1"}
    <root>/.lock                       held for the moment in which a revision is given, an alias set, an artifact removed

An artifact is whole or absent: its files are synced to the disk first, the manifest is written last, and one rename puts
the folder in its place. A stage that stops early leaves what it saved of itself, and nothing where it saved nothing; the next
run with the same fingerprint goes on from there. A removed revision leaves an empty ``<revision>.removed``, so that its number
is never given again. The root may be a symbolic link; nothing below it may.
"""

import gc
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock

from registry.artifact import KINDS, Artifact, Problem, Reference, check_name, did_you_mean, is_name, is_revision
from registry.drafts import DRAFTS, Draft, Say, open_draft, unfinished, writing
from registry.errors import CorruptArtifact, InvalidName, ReferenceNotFound, RegistryError, WrongKind
from registry.links import first_link, refuse_link
from registry.manifest import MANIFEST_FILE, fsync, read_manifest, read_summary
from registry.saved_states import SaveEvery

REMOVED, GONE = ".removed", ".removed"  # where what is removed goes, and the suffix that its revision leaves behind
ALIASES_FILE, FRESH_ALIASES_FILE = "aliases.json", "aliases.json.new"


class Registry:
    """All artifacts under one folder. Nothing is created on disk before the first draft or alias."""

    def __init__(self, root: Path | str):
        self.root = Path(root).absolute()

    # Reading

    def references(self, kind: str | None = None) -> tuple[Reference, ...]:
        """Every reference (of one kind), in the order of KINDS, then name, then revision. Opens no manifest."""
        if kind is not None and kind not in KINDS:
            raise InvalidName(f"there is no kind {kind!r}.{did_you_mean(kind, KINDS)} Kinds: {', '.join(KINDS)}")
        found = []
        for each in KINDS if kind is None else (kind,):
            folder = self.root / each
            names = sorted(path.name for path in folder.iterdir() if is_name(path.name)) if folder.is_dir() else []
            found += [Reference(each, name, revision) for name in names for revision in self.revisions(each, name)]
        return tuple(found)

    def revisions(self, kind: str, name: str) -> tuple[int, ...]:
        """The revisions that ``kind/name`` has, ascending."""
        folder = self.root / kind / name
        if not folder.is_dir():
            return ()
        with os.scandir(folder) as entries:
            found = [int(each.name) for each in entries if is_revision(each.name) and (each.is_dir() or each.is_symlink())]
        return tuple(sorted(found))

    def resolve(self, text: str, kind: str | None = None) -> Artifact:
        """Open the artifact that ``text`` (``kind/name@revision``, ``kind/name`` for the newest, or an alias) leads to.

        Raises InvalidName, ReferenceNotFound (with near-misses and the valid names), WrongKind when ``kind`` is given and
        another was found, CorruptArtifact or UnknownFormat when the manifest cannot be read.
        """
        reference = self.follow(text)
        if kind is not None and reference.kind != kind:
            raise WrongKind(f"{text!r} is of kind {reference.kind}; needed is one of kind {kind}. {self._valid_names(kind)}")
        return self._open(reference)

    def open(self, text: str, kind: str | None = None) -> Artifact:
        """``resolve``, and every file compared with its sha256: what is read from an artifact is read after this.

        Raises what ``resolve`` raises, and CorruptArtifact naming the files that are not what was committed.
        """
        artifact = self.resolve(text, kind)
        artifact.check()
        return artifact

    def find_fingerprint(self, fingerprint: str, kind: str, name: str) -> Artifact | None:
        """The newest artifact of a name made with this fingerprint, or None."""
        for revision in reversed(self.revisions(kind, name)):
            reference = Reference(kind, name, revision)
            if read_summary(self.folder(reference)).fingerprint == fingerprint:
                return self._open(reference)
        return None

    def aliases(self) -> dict[str, str]:
        """Alias -> full reference. Raises CorruptArtifact when the file that holds them is torn or holds something else."""
        path = self.root / ALIASES_FILE
        try:
            found = json.loads(path.read_text(encoding="utf-8")).items()
            return {str(Reference.parse(alias)): str(Reference.parse(target)) for alias, target in found}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError, InvalidName) as error:
            raise CorruptArtifact(
                f"{path} is not a JSON object of aliases ({error}); remove it and set the aliases again"
            ) from error

    def verify(self, text: str) -> tuple[Problem, ...]:
        """Everything wrong with an artifact: files whose sha256 moved, missing and foreign files, absent or changed parents.

        Empty when it is whole. Raises InvalidName or ReferenceNotFound when ``text`` leads nowhere.
        """
        reference = self.follow(text)
        try:
            artifact = self._open(reference)
        except RegistryError as error:
            return (Problem(MANIFEST_FILE, str(error)),)
        return (*artifact.file_problems(), *self._parent_problems(artifact))

    # Writing

    def draft(
        self,
        kind: str,
        name: str,
        fingerprint: str,
        asked: Mapping[str, Any] | None = None,
        fresh: bool = False,
        waiting: Say | None = None,
        say: Say = lambda text: None,
        save_every: SaveEvery = SaveEvery(),
    ) -> AbstractContextManager[Draft]:
        """A place to build the artifact ``kind/name`` in; see ``registry.drafts.open_draft``.

        Raises InvalidName, RegistryError when ``kind/name`` is an alias, CorruptArtifact where a symbolic link leads elsewhere.
        """
        reference = Reference(kind, name)
        if str(reference) in self.aliases():
            raise RegistryError(f"{reference} is an alias of {self.aliases()[str(reference)]}; give the artifact another name")
        for place in (self.root / DRAFTS, self.folder(reference)):
            refuse_link(first_link(self.root, place))
        return open_draft(self, reference, fingerprint, asked or {}, fresh, waiting, say, save_every)

    def set_alias(self, alias: str, target: str) -> Reference:
        """Point ``alias`` (``kind/name``) at the artifact ``target`` leads to now; returns its full reference.

        The alias keeps this revision when newer ones come. Raises WrongKind when the kinds differ, RegistryError when
        ``alias`` is the name of an artifact.
        """
        asked = Reference.parse(alias)
        if asked.revision is not None:
            raise InvalidName(f"{alias!r} has a revision; an alias is kind/name, for example policy/chat")
        reference = self.resolve(target, kind=asked.kind).reference
        with writing(self.root), self.lock():
            made = any(left.artifact == str(asked) and left.held for left in unfinished(self))
            if made or self.revisions(asked.kind, asked.name):
                raise RegistryError(f"{asked} is the name of an artifact and cannot be an alias as well; choose another alias")
            text = json.dumps({**self.aliases(), str(asked): str(reference)}, indent=2, sort_keys=True) + "\n"
            fresh = self.root / FRESH_ALIASES_FILE
            fresh.write_text(text, encoding="utf-8")
            fsync(fresh)
            fresh.replace(self.root / ALIASES_FILE)
            fsync(self.root)
        return reference

    def lock(self) -> FileLock:
        """The lock under which revisions are given and aliases are set; waits for whoever holds it."""
        self.root.mkdir(parents=True, exist_ok=True)
        return FileLock(self.root / ".lock")

    def folder(self, reference: Reference) -> Path:
        """Where the artifact of a full reference lies; without a revision, where those of its name lie."""
        return self.root / str(reference).replace("@", "/")

    def next_revision(self, reference: Reference) -> int:
        """The number after the highest that was ever given to the name. Ask while holding the lock."""
        folder = self.root / reference.kind / reference.name
        given = [int(path.stem) for path in folder.iterdir() if path.stem.isdecimal()] if folder.is_dir() else []
        return max(given, default=0) + 1

    def follow(self, text: str) -> Reference:
        """The full reference of an existing artifact: aliases followed, newest filled in. Opens nothing.

        Raises InvalidName, and ReferenceNotFound with near-misses and the valid names.
        """
        reference = Reference.parse(text)
        revisions = self.revisions(reference.kind, reference.name)
        # torn aliases stop no one who names an artifact: none is called like an alias, and an alias has no revision
        target = self.aliases().get(text) if reference.revision is None and not revisions else None
        if target:
            reference = Reference.parse(target)
            revisions = self.revisions(reference.kind, reference.name)
        if reference.revision is None and revisions:
            return Reference(reference.kind, reference.name, revisions[-1])
        if reference.revision in revisions:
            return reference
        if target:
            raise ReferenceNotFound(
                f"the alias {text} points at {reference}, which is not in {self.root}; set it: rlhf registry alias {text} REF"
            )
        if revisions:
            have = f"revision{'s' if len(revisions) > 1 else ''} {', '.join(map(str, revisions))}"
            raise ReferenceNotFound(f"{reference} is not in {self.root}: {reference.newest} has {have}")
        aliases = self._readable_aliases()
        if str(reference.newest) in aliases:
            raise ReferenceNotFound(f"{reference.newest} is an alias and takes no revision; write {reference.newest}")
        known = dict.fromkeys([*(str(each.newest) for each in self.references()), *aliases])
        hint = did_you_mean(str(reference.newest), known)
        raise ReferenceNotFound(f"{text!r} is not in {self.root}.{hint} {self._valid_names(reference.kind)}")

    def _valid_names(self, kind: str) -> str:
        names = dict.fromkeys(str(reference.newest) for reference in self.references(kind))
        aliases = [f"{alias} (alias)" for alias in self._readable_aliases() if alias.startswith(kind + "/")]
        if not names:
            return f"There is nothing of kind {kind} yet; see `rlhf registry list`"
        return f"Valid: {', '.join([*names, *aliases])}"

    # Inside

    def _readable_aliases(self) -> dict[str, str]:
        """All aliases, for a hint; none where their file is torn."""
        try:
            return self.aliases()
        except CorruptArtifact:
            return {}

    def _open(self, reference: Reference) -> Artifact:
        path = self.folder(reference)
        refuse_link(first_link(self.root, path))
        manifest = read_manifest(path)
        check_name(reference, path, manifest)
        return Artifact(reference, path, manifest)

    def _parent_problems(self, artifact: Artifact) -> Iterator[Problem]:
        for role, given in artifact.manifest.parents.items():
            for parent in given:
                try:
                    found = self.resolve(parent.reference).digest
                except RegistryError as error:
                    yield Problem(parent.reference, f"the parent in the role {role!r} cannot be opened: {error}")
                else:
                    if found != parent.digest:
                        yield Problem(parent.reference, f"the parent had digest {parent.digest}, and now says {found}")

    def list(self, kind: str | None = None) -> tuple[Artifact, ...]:
        """Every artifact (of one kind), in the order of ``references``; reads manifests and nothing else.

        Raises CorruptArtifact or UnknownFormat at the first that cannot be read; ``registry.overview`` goes on, and is faster.
        """
        collecting = gc.isenabled()
        gc.disable()  # of thousands of manifests none is garbage, and to look for it takes as long as to read them
        try:
            return tuple(self._open(reference) for reference in self.references(kind))
        finally:
            if collecting:
                gc.enable()

"""The registry on disk: immutable artifacts, drafts that become artifacts in one rename, aliases.

::

    <root>/<kind>/<name>/<revision>/   an artifact: payload, logs/, README.md, manifest.json
    <root>/.drafts/<fingerprint>/      an artifact in the making: draft.json says which, out/ is to become it, states/ is what
                                       a stage saved to resume from; <fingerprint>.lock beside it is held while its process runs
    <root>/.removed/                   artifacts on their way out
    <root>/aliases.json                {"policy/chat": "policy/v5@1"}
    <root>/.lock                       held for the moment in which a revision is given, an alias set, an artifact removed

An artifact is whole or absent: its files are synced to the disk first, the manifest is written last, and one rename puts
the folder in its place. A stage that stops early leaves its saved states, and nothing where it saved none; the next run with
the same fingerprint resumes from them. A removed revision leaves an empty ``<revision>.removed``, so that its number
is never given again. The root may be a symbolic link; nothing below it may.
"""

import gc
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from registry.artifact import KINDS, Artifact, Problem, Reference, check_name, did_you_mean, is_name, is_revision
from registry.drafts import DRAFTS, Draft, Say, open_draft, unfinished
from registry.errors import CorruptArtifact, InvalidName, ReferenceNotFound, RegistryError, WrongKind
from registry.links import first_link, refuse_link
from registry.manifest import MANIFEST_FILE, fsync, read_manifest, read_summary
from registry.saved_states import SaveEvery
from registry.writing import registry_lock, writing

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
        references = []
        for one_kind in KINDS if kind is None else (kind,):
            folder = self.root / one_kind
            names = sorted(path.name for path in folder.iterdir() if is_name(path.name)) if folder.is_dir() else []
            references += [Reference(one_kind, name, revision) for name in names for revision in self.revisions(one_kind, name)]
        return tuple(references)

    def revisions(self, kind: str, name: str) -> tuple[int, ...]:
        """The revisions that ``kind/name`` has, ascending."""
        folder = self.root / kind / name
        if not folder.is_dir():
            return ()
        with os.scandir(folder) as entries:
            folders = [entry for entry in entries if entry.is_dir() or entry.is_symlink()]
        return tuple(sorted(int(entry.name) for entry in folders if is_revision(entry.name)))

    def resolve(self, text: str, kind: str | None = None) -> Artifact:
        """Open the artifact that ``text`` (``kind/name@revision``, ``kind/name`` for the newest, or an alias) leads to.

        Raises InvalidName, ReferenceNotFound (with near-misses and the valid names), WrongKind when ``kind`` is given and
        it is of another kind, CorruptArtifact or UnknownFormat when the manifest cannot be read.
        """
        reference = self.follow(text)
        if kind is not None and reference.kind != kind:
            raise WrongKind(
                f"{text!r} is of kind {reference.kind}, and one of kind {kind} is needed. {self._valid_names(kind)}"
            )
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
            aliases = json.loads(path.read_text(encoding="utf-8")).items()
            return {str(Reference.parse(alias)): str(Reference.parse(target)) for alias, target in aliases}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError, InvalidName) as error:
            raise CorruptArtifact(
                f"{path} is not a JSON object of aliases ({error}); remove it and set the aliases again"
            ) from error

    def verify(self, text: str) -> tuple[Problem, ...]:
        """Everything wrong with an artifact: changed, missing and added files, absent or changed parents.

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
        return open_draft(self.root, reference, fingerprint, asked or {}, fresh, waiting, say, save_every)

    def set_alias(self, alias: str, target: str) -> Reference:
        """Point ``alias`` (``kind/name``) at the artifact ``target`` leads to now; returns its full reference.

        The alias keeps this revision when newer ones come. Raises WrongKind when the kinds differ, RegistryError when
        ``alias`` is the name of an artifact.
        """
        name = Reference.parse(alias)
        if name.revision is not None:
            raise InvalidName(f"{alias!r} has a revision; an alias is kind/name, for example policy/chat")
        reference = self.resolve(target, kind=name.kind).reference
        with writing(self.root), registry_lock(self.root):
            in_the_making = any(draft.artifact == str(name) and draft.held for draft in unfinished(self.root))
            if in_the_making or self.revisions(name.kind, name.name):
                raise RegistryError(f"{name} is the name of an artifact and cannot be an alias as well; choose another alias")
            text = json.dumps({**self.aliases(), str(name): str(reference)}, indent=2, sort_keys=True) + "\n"
            fresh = self.root / FRESH_ALIASES_FILE
            fresh.write_text(text, encoding="utf-8")
            fsync(fresh)
            fresh.replace(self.root / ALIASES_FILE)
            fsync(self.root)
        return reference

    def folder(self, reference: Reference) -> Path:
        """Where the artifact of a full reference lies; without a revision, where those of its name lie."""
        return self.root / reference.folder

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
        known = dict.fromkeys([*(str(existing.newest) for existing in self.references()), *aliases])
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
        for role, parents in artifact.manifest.parents.items():
            for parent in parents:
                try:
                    digest = self.resolve(parent.reference).digest
                except RegistryError as error:
                    yield Problem(parent.reference, f"the parent in the role {role!r} cannot be opened: {error}")
                else:
                    if digest != parent.digest:
                        yield Problem(parent.reference, f"the parent had digest {parent.digest}, and now has {digest}")

    def list(self, kind: str | None = None) -> tuple[Artifact, ...]:
        """Every artifact (of one kind), in the order of ``references``; reads manifests and nothing else.

        Raises CorruptArtifact or UnknownFormat at the first that cannot be read; ``registry.overview`` lists it, and is faster.
        """
        collecting = gc.isenabled()
        gc.disable()  # thousands of manifests hold no garbage, and looking for it takes as long as reading them
        try:
            return tuple(self._open(reference) for reference in self.references(kind))
        finally:
            if collecting:
                gc.enable()

"""The registry on disk: immutable artifacts, drafts that become artifacts in one rename, aliases.

::

    <root>/<kind>/<name>/<revision>/   an artifact: payload, logs/, README.md, manifest.json
    <root>/.drafts/<fingerprint>/      an artifact in the making; <fingerprint>.lock beside it is held while its process lives
    <root>/aliases.json                {"policy/chat": "policy/v5@1"}
    <root>/.lock                       held for the moment in which a revision is given or an alias is set

An artifact is whole or absent: its files are synced to the disk first, the manifest is written last, and one rename puts
the folder in its place. A stage that fails leaves nothing; a process that is killed leaves a draft nobody holds, which the
next run with the same fingerprint empties and uses again.
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from registry.artifact import KINDS, Artifact, Problem, Reference, did_you_mean
from registry.errors import CorruptArtifact, DraftInUse, InvalidName, ReferenceNotFound, RegistryError, WrongKind
from registry.manifest import (
    CARD_FILE,
    FORMAT_VERSION,
    MANIFEST_FILE,
    FileEntry,
    Manifest,
    Parent,
    Run,
    card,
    file_entry,
    file_paths,
    fsync,
    is_payload,
    payload_digest,
    read_manifest,
    write_manifest,
)


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
            names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
            found += [Reference(each, name, revision) for name in names for revision in self.revisions(each, name)]
        return tuple(found)

    def revisions(self, kind: str, name: str) -> tuple[int, ...]:
        """The revisions that ``kind/name`` has, ascending."""
        folder = self.root / kind / name
        return tuple(sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())) if folder.is_dir() else ()

    def resolve(self, text: str, kind: str | None = None) -> Artifact:
        """Open the artifact that ``text`` (``kind/name@revision``, ``kind/name`` for the newest, or an alias) leads to.

        Raises InvalidName, ReferenceNotFound (with near-misses and the valid names), WrongKind when ``kind`` is given and
        another was found, CorruptArtifact or UnknownFormat when the manifest cannot be read.
        """
        reference = self._follow(text)
        if kind is not None and reference.kind != kind:
            raise WrongKind(f"{text!r} is of kind {reference.kind}; needed is one of kind {kind}. {self._valid_names(kind)}")
        return self._open(reference)

    def find_fingerprint(self, fingerprint: str, kind: str | None = None, name: str | None = None) -> Artifact | None:
        """The newest artifact (of a kind, of a name) made with this fingerprint, or None."""
        for reference in reversed(self.references(kind)):
            if name in (None, reference.name) and (artifact := self._open(reference)).manifest.fingerprint == fingerprint:
                return artifact
        return None

    def aliases(self) -> dict[str, str]:
        """Alias -> full reference."""
        path = self.root / "aliases.json"
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError) as error:
            raise CorruptArtifact(
                f"{path} is not a JSON object of aliases ({error}); remove it and set the aliases again"
            ) from error

    def verify(self, text: str) -> tuple[Problem, ...]:
        """Everything wrong with an artifact: files whose sha256 moved, missing and foreign files, absent or changed parents.

        Empty when it is whole. Raises InvalidName or ReferenceNotFound when ``text`` leads nowhere.
        """
        reference = self._follow(text)
        try:
            artifact = self._open(reference)
        except RegistryError as error:
            return (Problem(MANIFEST_FILE, str(error)),)
        return (*artifact.file_problems(), *self._parent_problems(artifact))

    # Writing

    @contextmanager
    def draft(self, kind: str, name: str, fingerprint: str) -> Iterator["Draft"]:
        """An empty folder to build an artifact in; leaving the block without a commit removes it.

        Raises InvalidName, RegistryError when ``kind/name`` is an alias, DraftInUse when another process holds the draft.
        """
        reference = Reference(kind, name)
        if str(reference) in self.aliases():
            raise RegistryError(f"{reference} is an alias of {self.aliases()[str(reference)]}; give the artifact another name")
        assert re.fullmatch(r"[0-9a-f]+", fingerprint), f"a fingerprint is a hexadecimal number, not {fingerprint!r}"
        path = self.root / ".drafts" / fingerprint
        path.parent.mkdir(parents=True, exist_ok=True)
        lease = FileLock(path.with_suffix(".lock"))
        try:
            lease.acquire(timeout=0)
        except Timeout as error:
            raise DraftInUse(
                f"{reference} with this config and these inputs is being made by another process; wait for it"
            ) from error
        try:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
            yield Draft(self, reference, fingerprint, path)
        finally:
            shutil.rmtree(path, ignore_errors=True)
            lease.release()

    def set_alias(self, alias: str, target: str) -> Reference:
        """Point ``alias`` (``kind/name``) at the artifact ``target`` leads to now; returns its full reference.

        The alias keeps this revision when newer ones come. Raises WrongKind when the kinds differ, RegistryError when
        ``alias`` is the name of an artifact.
        """
        asked = Reference.parse(alias)
        if asked.revision is not None:
            raise InvalidName(f"{alias!r} has a revision; an alias is kind/name, for example policy/chat")
        reference = self.resolve(target, kind=asked.kind).reference
        with self.lock():
            if self.revisions(asked.kind, asked.name):
                raise RegistryError(f"{asked} is the name of an artifact and cannot be an alias as well; choose another alias")
            text = json.dumps({**self.aliases(), str(asked): str(reference)}, indent=2, sort_keys=True) + "\n"
            fresh = self.root / "aliases.json.new"
            fresh.write_text(text, encoding="utf-8")
            fsync(fresh)
            fresh.replace(self.root / "aliases.json")
            fsync(self.root)
        return reference

    def lock(self) -> FileLock:
        """The lock under which revisions are given and aliases are set; waits for whoever holds it."""
        self.root.mkdir(parents=True, exist_ok=True)
        return FileLock(self.root / ".lock")

    def folder(self, reference: Reference) -> Path:
        """Where the artifact of a full reference lies."""
        return self.root / reference.kind / reference.name / str(reference.revision)

    # Inside

    def _follow(self, text: str) -> Reference:
        """The full reference of an existing artifact: aliases followed, newest filled in."""
        aliases = self.aliases()
        reference = Reference.parse(aliases.get(text, text))
        revisions = self.revisions(reference.kind, reference.name)
        if reference.revision is None and revisions:
            return Reference(reference.kind, reference.name, revisions[-1])
        if reference.revision in revisions:
            return reference
        if text in aliases:
            raise ReferenceNotFound(
                f"the alias {text} points at {reference}, which is not in {self.root}; set it: rlhf registry alias {text} REF"
            )
        if revisions:
            have = f"revision{'s' if len(revisions) > 1 else ''} {', '.join(map(str, revisions))}"
            raise ReferenceNotFound(f"{reference} is not in {self.root}: {reference.newest} has {have}")
        if str(reference.newest) in aliases:
            raise ReferenceNotFound(f"{reference.newest} is an alias and takes no revision; write {reference.newest}")
        known = dict.fromkeys([*(str(each.newest) for each in self.references()), *aliases])
        hint = did_you_mean(str(reference.newest), known)
        raise ReferenceNotFound(f"{text!r} is not in {self.root}.{hint} {self._valid_names(reference.kind)}")

    def _valid_names(self, kind: str) -> str:
        names = dict.fromkeys(str(reference.newest) for reference in self.references(kind))
        aliases = [f"{alias} (alias)" for alias in self.aliases() if alias.startswith(kind + "/")]
        if not names:
            return f"There is nothing of kind {kind} yet; see `rlhf registry list`"
        return f"Valid: {', '.join([*names, *aliases])}"

    def _open(self, reference: Reference) -> Artifact:
        path = self.folder(reference)
        manifest = read_manifest(path)
        says = f"{manifest.kind}/{manifest.name}@{manifest.revision}"
        if says != str(reference):
            raise CorruptArtifact(f"the manifest in {path} is that of {says}; folders cannot be moved by hand, put it back")
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
        """Every artifact (of one kind), in the order of ``references``; reads manifests and nothing else."""
        return tuple(self._open(reference) for reference in self.references(kind))


@dataclass(frozen=True, slots=True)
class Draft:
    """An artifact in the making: put its files into ``path``, then commit once."""

    registry: Registry
    reference: Reference
    fingerprint: str
    path: Path

    def commit(self, run: Run, parents: Mapping[str, Sequence[Artifact]]) -> Artifact:
        """Make the draft the next revision of its name. Raises RegistryError when it holds no payload or a symbolic link."""
        files = self._sync_files()
        digest = payload_digest(files)
        made_from = {
            role: [Parent(reference=str(each.reference), digest=each.digest) for each in given]
            for role, given in parents.items()
        }
        with self.registry.lock():
            taken = self.registry.revisions(self.reference.kind, self.reference.name)
            reference = Reference(self.reference.kind, self.reference.name, max(taken, default=0) + 1)
            (self.path / CARD_FILE).write_text(card(str(reference), digest, made_from, run), encoding="utf-8")
            manifest = Manifest(
                **run.model_dump(),
                format_version=FORMAT_VERSION,
                kind=reference.kind,
                name=reference.name,
                revision=max(taken, default=0) + 1,
                digest=digest,
                fingerprint=self.fingerprint,
                parents=made_from,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                files=[*files, file_entry(self.path, CARD_FILE)],
            )
            return self._put(reference, manifest)

    def _sync_files(self) -> Sequence[FileEntry]:
        """Hash every file but the card (a library's own README.md gives way to ours), and force all to the disk."""
        paths = [path for path in file_paths(self.path) if path != CARD_FILE]
        if not any(is_payload(path) for path in paths):
            raise RegistryError(
                f"the stage that makes {self.reference} wrote no file into its folder; an artifact needs a payload"
            )
        for path in paths:
            fsync(self.path / path)
        for folder in [path for path in self.path.rglob("*") if path.is_dir()]:
            fsync(folder)
        return [file_entry(self.path, path) for path in paths]

    def _put(self, reference: Reference, manifest: Manifest) -> Artifact:
        fsync(self.path / CARD_FILE)
        write_manifest(self.path, manifest)
        fsync(self.path / MANIFEST_FILE)
        fsync(self.path)
        target = self.registry.folder(reference)
        target.parent.mkdir(parents=True, exist_ok=True)
        self.path.rename(target)
        fsync(target.parent)
        return Artifact(reference, target, manifest)

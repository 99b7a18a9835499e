"""What is wrong on the disk is refused by name, and stops nothing else."""

import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from registry_folders import put, reseal

from registry.artifact import Reference
from registry.errors import CannotWrite, CorruptArtifact, InvalidName, ReferenceNotFound, RegistryError, UnknownFormat
from registry.lineage import lineage_mermaid, lineage_text, lineage_tree
from registry.overview import alias_problems, overview
from registry.store import Registry
from registry.upkeep import prune, remove


@pytest.fixture
def registry(registry: Registry) -> Registry:
    """policy/good@1 and policy/sft@1."""
    put(registry, "policy/good", {"model": "good"})
    put(registry, "policy/sft", {"model": "w"})
    return registry


def problems(registry: Registry) -> dict[str, str]:
    return {str(line.reference): line.problem for line in overview(registry) if line.problem}


def of_the_future(registry: Registry, reference: str) -> None:
    path = registry.resolve(reference).path / "manifest.json"
    reseal(path, json.dumps(json.loads(path.read_text()) | {"format_version": 99, "something": "new"}))


def torn(registry: Registry, reference: str) -> None:
    path = registry.resolve(reference).path / "manifest.json"
    path.write_bytes(path.read_bytes()[:100])


def without_manifest(registry: Registry, reference: str) -> None:
    (registry.resolve(reference).path / "manifest.json").unlink()


def with_a_folder_for_a_manifest(registry: Registry, reference: str) -> None:
    path = registry.resolve(reference).path / "manifest.json"
    path.unlink()
    path.mkdir()


def of_another_shape(registry: Registry, reference: str) -> None:
    path = registry.resolve(reference).path / "manifest.json"
    reseal(path, json.dumps({"format_version": 99, "wholly": "different"}))


def of_another_artifact(registry: Registry, reference: str) -> None:
    path = registry.resolve(reference).path
    shutil.rmtree(path)
    shutil.copytree(registry.resolve("policy/good").path, path)


def a_link(registry: Registry, reference: str) -> None:
    path = registry.resolve(reference).path
    outside = registry.root.parent / "outside"
    path.rename(outside)
    path.symlink_to(outside)


DAMAGE = {
    of_the_future: "has format_version 99; this version of llama-rlhf reads up to 1. Upgrade",
    of_another_shape: "has format_version 99; this version of llama-rlhf reads up to 1. Upgrade",
    torn: "is not what manifest.json.sha256 says",
    without_manifest: "manifest.json is missing",
    with_a_folder_for_a_manifest: "manifest.json cannot be read (Is a directory)",
    of_another_artifact: "is that of policy/good@1; folders cannot be moved by hand",
    a_link: "is a symbolic link; a registry holds its own folders",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_one_bad_artifact_is_listed_with_its_reason_beside_the_others(registry: Registry, damage: Callable) -> None:
    before = {str(line.reference): line for line in overview(registry)}
    damage(registry, "policy/sft")
    after = {str(line.reference): line for line in overview(registry)}
    assert list(after) == ["policy/good@1", "policy/sft@1"] and after["policy/good@1"] == before["policy/good@1"]
    assert DAMAGE[damage] in after["policy/sft@1"].problem and not after["policy/good@1"].problem
    assert registry.verify("policy/good") == ()
    (problem,) = registry.verify("policy/sft")
    assert problem.text == after["policy/sft@1"].problem
    expected = UnknownFormat if "format" in DAMAGE[damage] else CorruptArtifact
    for read in (registry.resolve, registry.open):
        with pytest.raises(expected, match="policy/sft"):
            read("policy/sft")
    with pytest.raises(expected):
        registry.list()


def test_an_overview_says_of_whole_artifacts_what_their_manifests_say(registry: Registry) -> None:
    base = registry.resolve("policy/good")
    made = put(registry, "samples/v1", {"data": "12345", "logs/a": "1"}, policy=base)
    (line,) = overview(registry, "samples")
    assert (line.reference, line.path, line.digest, line.stage) == (made.reference, made.path, made.digest, "sft")
    assert line.size == 6 + (made.path / "README.md").stat().st_size and line.created == made.manifest.created
    assert line.parents == ("policy/good@1",) and line.problem == ""
    with pytest.raises(InvalidName, match="Did you mean samples"):
        overview(registry, "sample")


class OneTooMany(Registry):
    """A registry from which an artifact goes while the list is made."""

    def references(self, kind: str | None = None) -> tuple[Reference, ...]:
        return (*super().references(kind), Reference("policy", "sft", 2))


def test_an_artifact_that_goes_while_the_list_is_made_is_not_listed(registry: Registry) -> None:
    lines = overview(OneTooMany(registry.root))
    assert [str(line.reference) for line in lines] == ["policy/good@1", "policy/sft@1"]


def test_a_parent_that_cannot_be_read_stays_in_the_lineage(registry: Registry) -> None:
    put(registry, "samples/v1", {"data": "x"}, policy=registry.resolve("policy/sft"), other=registry.resolve("policy/good"))
    torn(registry, "policy/sft")
    shutil.rmtree(registry.root / "policy" / "good")
    tree = lineage_tree(registry, "samples/v1")
    assert lineage_text(tree).splitlines()[1:] == [
        "├─ policy: policy/sft@1 (cannot be read; see rlhf registry verify policy/sft@1)",
        "└─ other: policy/good@1 (missing from the registry)",
    ]
    drawn = lineage_mermaid(tree).splitlines()
    assert drawn[1:4] == ['  n0["samples/v1@1"]', '  n1["policy/sft@1 (unreadable)"]', '  n2["policy/good@1 (missing)"]']
    found = {problem.path: problem.text for problem in registry.verify("samples/v1")}
    assert set(found) == {"policy/sft@1", "policy/good@1"} and "policy/good" in found["policy/good@1"]


# Symbolic links


@pytest.mark.parametrize("level", ["policy", "policy/sft", "policy/sft/1"])
def test_a_folder_that_is_a_link_out_of_the_root_is_refused(registry: Registry, tmp_path: Path, level: str) -> None:
    folder, outside = registry.root / level, tmp_path / "outside"
    folder.rename(outside)
    folder.symlink_to(outside)
    seen = sorted(path for path in outside.rglob("*"))
    assert f"{folder} is a symbolic link" in problems(registry)["policy/sft@1"]
    with pytest.raises(CorruptArtifact, match="is a symbolic link"):
        registry.open("policy/sft@1")
    if level != "policy/sft/1":
        with pytest.raises(CorruptArtifact, match="is a symbolic link"):
            put(registry, "policy/sft", {"model": "2"}, fingerprint="cd")
    assert sorted(path for path in outside.rglob("*")) == seen


def test_drafts_are_not_made_behind_a_link(registry: Registry, tmp_path: Path) -> None:
    shutil.rmtree(registry.root / ".drafts")
    (tmp_path / "outside").mkdir()
    (registry.root / ".drafts").symlink_to(tmp_path / "outside")
    with pytest.raises(CorruptArtifact, match=r"\.drafts is a symbolic link"):
        put(registry, "policy/sft", {"model": "2"}, fingerprint="cd")
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("name", ["model", "manifest.json", "README.md", "more"])
def test_a_file_that_is_a_link_is_named(registry: Registry, tmp_path: Path, name: str) -> None:
    path = registry.resolve("policy/sft").path / name
    elsewhere = tmp_path / "elsewhere"
    if path.exists():
        path.rename(elsewhere)  # the same bytes: only the link is wrong
    else:
        elsewhere.write_text("more")
    path.symlink_to(elsewhere)
    assert [(problem.path, problem.text) for problem in registry.verify("policy/sft")] == [
        (name, "a symbolic link, and what it points to is not the artifact's own")
    ]
    with pytest.raises(CorruptArtifact, match=f"{name}: a symbolic link"):
        registry.open("policy/sft")


def test_the_root_may_be_a_link(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(registry.root)
    linked = Registry(tmp_path / "link")
    made = put(linked, "policy/sft", {"model": "2"})
    assert linked.verify("policy/sft@2") == () and not problems(linked)
    assert registry.resolve("policy/sft@2").digest == made.digest


# Names


@pytest.mark.parametrize(
    "text",
    [
        "policy/../../x", "policy/..", "../policy/sft", "/etc/passwd", "/policy/sft", "policy//sft", "policy/sft/1", "policy/",
        "policy/sft@../1", "policy/sft@1/../../x", "polïcy/sft", "policy/ſft", "policy/sft\x00", "policy/sft@1\n",
        "policy/" + "a" * 201, "policy/sft@" + "9" * 5000, "policy/sft@٣", "~/sft", "policy/~root", "policy/$HOME",
        "policy/-rf",
    ],
)  # fmt: skip
def test_a_text_that_names_no_artifact_is_refused_before_the_disk_is_asked(registry: Registry, text: str) -> None:
    for ask in (registry.resolve, registry.verify, lambda text: registry.set_alias(text, "policy/sft")):
        with pytest.raises(InvalidName):
            ask(text)
    kind, _, name = text.partition("/")
    if "@" not in text:
        with pytest.raises(InvalidName):
            registry.draft(kind, name, "ab")


def test_the_longest_name_can_be_made_and_removed(registry: Registry) -> None:
    name = "policy/" + "a" * 200
    assert registry.open(str(put(registry, name, {"model": "w"}).reference)).manifest.name == "a" * 200
    remove(registry, name)
    with pytest.raises(ReferenceNotFound):
        registry.resolve(name)


def test_what_is_no_artifact_is_none(registry: Registry) -> None:
    (registry.root / "policy" / "Some Folder" / "1").mkdir(parents=True)
    (registry.root / "policy" / "notes.txt").write_text("mine")
    (registry.root / "policy" / "sft" / "2").write_text("a file")
    (registry.root / "policy" / "sft" / "03").mkdir()
    (registry.root / "policy" / "sft" / "٣").mkdir()
    (registry.root / "models" / "sft" / "1").mkdir(parents=True)
    assert [str(reference) for reference in registry.references()] == ["policy/good@1", "policy/sft@1"]
    assert registry.resolve("policy/sft").reference == Reference("policy", "sft", 1)


# Aliases


@pytest.mark.parametrize(
    "content",
    [
        '{"policy/chat": "policy/sft@1"', "[]", "[1]", "17", "null", '{"policy/chat": 1}', '{"policy/chat": ["policy/sft@1"]}',
        '{"policy/chat": "../../elsewhere"}', '{"../chat": "policy/sft@1"}', '{"policy/chat": "policy/../../sft@1"}', "\x00",
        "",
    ],
)  # fmt: skip
def test_torn_or_meddled_aliases_are_refused_and_hide_no_artifact(registry: Registry, content: str) -> None:
    (registry.root / "aliases.json").write_text(content)
    with pytest.raises(CorruptArtifact, match=r"aliases\.json is not a JSON object of aliases .* set the aliases again"):
        registry.aliases()
    with pytest.raises(CorruptArtifact, match=r"aliases\.json"):
        registry.resolve("policy/chat")
    assert registry.open("policy/sft").reference.revision == 1
    assert len(overview(registry)) == 2 and not problems(registry)
    assert [problem.path for problem in alias_problems(registry)] == ["aliases.json"]


def test_an_alias_of_what_is_gone_is_a_problem(registry: Registry) -> None:
    registry.set_alias("policy/chat", "policy/sft")
    assert alias_problems(registry) == ()
    shutil.rmtree(registry.root / "policy" / "sft")
    (problem,) = alias_problems(registry)
    assert problem.path == "policy/chat" and "points at policy/sft@1, which is not in" in problem.text


def test_a_name_that_is_being_made_cannot_become_an_alias(registry: Registry) -> None:
    with registry.draft("policy", "chat", "ab"), pytest.raises(RegistryError, match="is the name of an artifact"):
        registry.set_alias("policy/chat", "policy/sft")
    registry.set_alias("policy/chat", "policy/sft")
    with pytest.raises(RegistryError, match="policy/chat is an alias of policy/sft@1"):
        put(registry, "policy/chat", {"model": "w"})


# Rights


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def _as_somebody(work: Callable[[Path], str], folder: Path, sender) -> None:
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    try:
        sender.send(work(folder))
    except Exception as error:
        sender.send(f"{type(error).__name__}: {error}")


def as_somebody(work: Callable[[Path], str], folder: Path) -> str:
    """What ``work`` returns (or raises) in a process without the rights of root."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_as_somebody, args=(work, folder, sender))
    process.start()
    sender.close()
    answer = receiver.recv()
    process.join()
    return answer


def test_a_folder_that_may_only_be_read_can_be_read_and_says_so_when_written(open_folder: Path) -> None:
    registry = Registry(open_folder / "registry")
    put(registry, "policy/sft", {"model": "w"})
    for path in (registry.root, *registry.root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert as_somebody(lambda root: str(Registry(root).open("policy/sft").reference), registry.root) == "policy/sft@1"
    assert as_somebody(lambda root: str(Registry(root).verify("policy/sft")), registry.root) == "()"
    assert as_somebody(lambda root: str(len(overview(Registry(root)))), registry.root) == "1"

    def make(root: Path) -> str:
        return str(put(Registry(root), "policy/other", {"model": "w"}).reference)

    for change in (
        make,
        lambda root: str(Registry(root).set_alias("policy/chat", "policy/sft")),
        lambda root: str(remove(Registry(root), "policy/sft")),
        lambda root: str(prune(Registry(root))),
    ):
        told = as_somebody(change, registry.root)
        assert told.startswith(f"{CannotWrite.__name__}: {registry.root} cannot be written"), told
    for path in (registry.root, *registry.root.rglob("*")):
        path.chmod(0o755)


def test_files_of_somebody_else_are_named(open_folder: Path) -> None:
    registry = Registry(open_folder / "registry")
    secret = put(registry, "policy/secret", {"model": "w"})
    put(registry, "policy/sft", {"model": "w"})
    (secret.path / "model").chmod(0)
    (registry.root / "policy" / "sft" / "1" / "manifest.json").chmod(0)
    found = as_somebody(lambda root: str(Registry(root).verify("policy/secret")), registry.root)
    assert "path='model'" in found and "cannot be read (Permission denied)" in found
    found = as_somebody(lambda root: str(problems(Registry(root))), registry.root)
    assert "policy/sft@1" in found and "manifest.json cannot be read (Permission denied)" in found

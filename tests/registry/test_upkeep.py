from pathlib import Path

import pytest
from registry_folders import put, run_until_killed

from registry.errors import CorruptArtifact, ReferenceNotFound, RegistryError
from registry.store import Registry
from registry.upkeep import export, leftovers, prunable, prune, remove


def test_a_removed_artifact_is_gone_and_its_number_is_not_given_again(registry: Registry) -> None:
    put(registry, "policy/sft", {"model": "1"})
    put(registry, "policy/sft", {"model": "2"})
    assert str(remove(registry, "policy/sft")) == "policy/sft@2"
    assert registry.resolve("policy/sft").reference.revision == 1
    with pytest.raises(ReferenceNotFound):
        registry.resolve("policy/sft@2")
    assert put(registry, "policy/sft", {"model": "3"}).reference.revision == 3


def test_a_parent_stays_until_told_otherwise(registry: Registry) -> None:
    base = put(registry, "policy/base", {"model": "b"})
    put(registry, "policy/sft", {"model": "s"}, base=base)
    with pytest.raises(RegistryError, match=r"policy/base@1 is a parent of policy/sft@1"):
        remove(registry, "policy/base")
    assert registry.verify("policy/sft") == ()
    remove(registry, "policy/base", even_with_children=True)
    assert [problem.path for problem in registry.verify("policy/sft")] == ["policy/base@1"]


def test_what_an_alias_points_at_stays(registry: Registry) -> None:
    put(registry, "policy/sft", {"model": "s"})
    registry.set_alias("policy/chat", "policy/sft")
    with pytest.raises(RegistryError, match="alias policy/chat points at"):
        remove(registry, "policy/chat", even_with_children=True)


def test_prune_keeps_the_newest_what_aliases_mean_and_all_their_ancestors(registry: Registry) -> None:
    base = put(registry, "policy/base", {"model": "1"})
    aliased = put(registry, "policy/sft", {"model": "1"}, base=base)
    registry.set_alias("policy/chat", str(aliased.reference))
    put(registry, "policy/base", {"model": "2"})
    newer = put(registry, "policy/base", {"model": "3"})
    put(registry, "policy/sft", {"model": "2"}, base=newer)
    put(registry, "policy/sft", {"model": "3"}, base=newer)
    assert [str(line.reference) for line in prunable(registry)] == ["policy/base@2", "policy/sft@2"]
    assert [str(line.reference) for line in prune(registry)] == ["policy/base@2", "policy/sft@2"]
    left = ["policy/base@1", "policy/base@3", "policy/sft@1", "policy/sft@3"]
    assert [str(reference) for reference in registry.references()] == left and prune(registry) == ()
    assert registry.verify("policy/chat") == registry.verify("policy/sft") == ()


def test_export_is_the_payload_and_its_card(registry: Registry, tmp_path: Path) -> None:
    made = put(registry, "policy/sft", {"model.safetensors": "w", "sub/tokenizer.json": "{}", "logs/train.jsonl": "{}"})
    export(registry, "policy/sft", tmp_path / "plain")
    files = {path.relative_to(tmp_path / "plain").as_posix() for path in (tmp_path / "plain").rglob("*") if path.is_file()}
    assert files == {"model.safetensors", "sub/tokenizer.json", "README.md"}
    with pytest.raises(RegistryError, match="exists"):
        export(registry, "policy/sft", tmp_path / "plain")
    (made.path / "model.safetensors").write_text("x")
    with pytest.raises(CorruptArtifact, match=r"model\.safetensors: sha256 was"):
        export(registry, "policy/sft", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_where_there_is_no_registry_nothing_is_made(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "none")
    assert prune(registry) == () and prunable(registry) == ()
    with pytest.raises(ReferenceNotFound, match="nothing of kind policy yet"):
        remove(registry, "policy/sft")
    assert not registry.root.exists()


def begin(registry: Registry, kind: str, name: str, source: str) -> None:
    """Unfinished work that reads ``source``."""
    asked = {"stage": "sft", "inputs": {"policy": [registry.resolve(source).digest]}}
    with pytest.raises(KeyboardInterrupt), registry.draft(kind, name, "cd", asked) as draft:
        draft.states.save(1, lambda folder: (folder / "weights").write_text("half") and None)
        raise KeyboardInterrupt


def test_what_unfinished_work_reads_stays(registry: Registry) -> None:
    for number in (1, 2, 3):
        put(registry, "policy/base", {"model": str(number)})
    begin(registry, "policy", "sft", "policy/base@2")
    assert [str(line.reference) for line in prunable(registry)] == ["policy/base@1"]
    with pytest.raises(RegistryError, match=r"policy/base@2 is a parent of policy/sft \(unfinished\)"):
        remove(registry, "policy/base@2")
    remove(registry, "policy/base@2", even_with_children=True)


def test_a_linked_artifact_is_removed_and_what_it_points_to_is_not(registry: Registry, tmp_path: Path) -> None:
    made = put(registry, "policy/sft", {"model": "1"})
    made.path.rename(tmp_path / "outside")
    made.path.symlink_to(tmp_path / "outside")
    remove(registry, "policy/sft")
    assert registry.references() == () and (tmp_path / "outside" / "model").read_text() == "1"
    put(registry, "policy/base", {"model": "1"})
    (registry.root / "policy").rename(tmp_path / "kind")
    (registry.root / "policy").symlink_to(tmp_path / "kind")
    with pytest.raises(CorruptArtifact, match="policy is a symbolic link"):
        remove(registry, "policy/base")
    assert (tmp_path / "kind" / "base" / "1" / "model").exists()


def test_what_cannot_be_read_may_be_a_child_and_stops_remove_and_prune(registry: Registry) -> None:
    base = put(registry, "policy/base", {"model": "1"})
    put(registry, "policy/base", {"model": "2"})
    child = put(registry, "policy/sft", {"model": "1"}, base=base)
    (child.path / "manifest.json").write_text("{")
    with pytest.raises(CorruptArtifact, match=r"policy/sft@1 cannot be read, and may have been made from policy/base@1"):
        remove(registry, "policy/base@1")
    with pytest.raises(CorruptArtifact, match=r"policy/sft@1 cannot be read, so what it was made from is not known"):
        prune(registry)
    assert len(registry.references()) == 3
    remove(registry, "policy/sft")
    assert [str(line.reference) for line in prune(registry)] == ["policy/base@1"]


CODE = """
import os, shutil, signal, sys
from registry import upkeep
from registry.store import Registry
def half(path):
    next(file for file in path.rglob("*") if file.is_file()).unlink()
    os.kill(os.getpid(), signal.SIGKILL)
shutil.rmtree = half
upkeep.remove(Registry(sys.argv[1]), "policy/sft@1")
"""


def test_what_a_killed_remove_left_is_cleared_away_and_that_is_said(registry: Registry) -> None:
    for number in (1, 2):
        put(registry, "policy/sft", {"model": str(number)})
        put(registry, "policy/base", {"model": str(number)})
    run_until_killed(CODE, registry)
    assert [str(reference) for reference in registry.references("policy")] == ["policy/base@1", "policy/base@2", "policy/sft@2"]
    (registry.root / "aliases.json.new").write_text("{")
    assert [path.name for path in leftovers(registry)] == ["policy-sft-1", "aliases.json.new"]
    told: list[str] = []
    assert [str(line.reference) for line in prune(registry, told.append)] == ["policy/base@1"]
    assert told == ["deleted what an interrupted command had left: policy-sft-1, aliases.json.new"]
    assert leftovers(registry) == () and put(registry, "policy/sft", {"model": "3"}).reference.revision == 3
    (registry.root / ".removed" / "policy-sft-1").mkdir()
    remove(registry, "policy/base", say=told.append)
    assert told[1:] == ["deleted what an interrupted command had left: policy-sft-1"]
    assert list((registry.root / ".removed").iterdir()) == []


def test_an_export_leaves_what_lies_beside_it_alone(registry: Registry, tmp_path: Path) -> None:
    put(registry, "policy/sft", {"model": "1"})
    (tmp_path / "there" / "plain.new").mkdir(parents=True)
    export(registry, "policy/sft", tmp_path / "there" / "plain")
    assert sorted(path.name for path in (tmp_path / "there" / "plain").iterdir()) == ["README.md", "model"]
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["plain", "plain.new"]

from pathlib import Path

import pytest
from registry_folders import put

from registry.errors import CorruptArtifact, ReferenceNotFound, RegistryError
from registry.store import Registry
from registry.upkeep import export, prunable, remove


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


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
    assert [str(artifact.reference) for artifact in prunable(registry)] == ["policy/base@2", "policy/sft@2"]


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


def test_removing_twice_says_so(registry: Registry) -> None:
    put(registry, "policy/sft", {"model": "1"})
    remove(registry, "policy/sft")
    with pytest.raises(ReferenceNotFound):
        remove(registry, "policy/sft")
    assert registry.references() == ()

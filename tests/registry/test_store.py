import hashlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from registry_folders import RUN, put, reseal

from registry.errors import (
    CorruptArtifact,
    InvalidName,
    ReferenceNotFound,
    RegistryError,
    WrongKind,
)
from registry.manifest import Run, payload_digest
from registry.store import Registry


def test_put_then_get_is_identity(registry: Registry) -> None:
    parent = put(registry, "policy/base", {"model.safetensors": "base"})
    made = put(registry, "policy/sft", {"model.safetensors": "weights", "sub/tokenizer.json": "{}"}, base=parent)
    found = registry.resolve("policy/sft@1")
    assert found == made
    assert found.file("sub/tokenizer.json").read_text() == "{}"
    assert found.path == registry.root / "policy" / "sft" / "1"
    manifest = found.manifest
    assert (manifest.kind, manifest.name, manifest.revision, manifest.fingerprint) == ("policy", "sft", 1, "ab")
    assert {field: getattr(manifest, field) for field in Run.model_fields} == RUN.model_dump()
    assert manifest.parents["base"][0].model_dump() == {"reference": "policy/base@1", "digest": parent.digest}


def test_the_digest_is_the_sum_of_the_sorted_payload_lines(registry: Registry) -> None:
    made = put(
        registry, "policy/sft", {"b.txt": "two", "a/c.txt": "one", "logs/train.jsonl": "{}", "README.md": "of a library"}
    )
    lines = f"a/c.txt {hashlib.sha256(b'one').hexdigest()}\nb.txt {hashlib.sha256(b'two').hexdigest()}\n"
    assert made.digest == hashlib.sha256(lines.encode()).hexdigest()
    assert {entry.path for entry in made.manifest.files} == {"b.txt", "a/c.txt", "logs/train.jsonl", "README.md"}
    assert payload_digest(reversed(made.manifest.files)) == payload_digest(made.manifest.files) == made.digest


def test_the_digest_does_not_know_names_logs_or_parents(registry: Registry) -> None:
    first = put(registry, "policy/one", {"model": "w", "logs/train.jsonl": "fast"})
    second = put(registry, "prompts/two", {"model": "w", "logs/train.jsonl": "slow"}, parent=first)
    assert first.digest == second.digest
    assert put(registry, "policy/one", {"model": "w2"}).digest != first.digest
    assert put(registry, "policy/one", {"renamed": "w"}).digest != first.digest


def test_the_card_is_a_hugging_face_card(registry: Registry) -> None:
    parent = put(registry, "dialogues/demonstrations", {"data": "x"})
    text = put(registry, "policy/sft", {"model": "w", "README.md": "of a library"}, demonstrations=parent).path / "README.md"
    lines = text.read_text().splitlines()
    assert lines[0] == "---" and "pipeline_tag: text-generation" in lines[1 : lines.index("---", 1)]
    assert f"| demonstrations | `dialogues/demonstrations@1` | `{parent.digest}` |" in lines
    assert "| loss | 1.25 |" in lines and "of a library" not in lines


def test_an_error_in_the_draft_leaves_nothing(registry: Registry) -> None:
    with pytest.raises(KeyboardInterrupt), registry.draft("policy", "sft", "ab") as draft:
        (draft.path / "half").write_text("written")
        raise KeyboardInterrupt
    assert registry.references() == () and not (registry.root / "policy").exists()
    assert not (registry.root / ".drafts" / "ab").exists()


def test_a_draft_without_payload_is_refused(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="wrote no file"):
        put(registry, "policy/sft", {"logs/train.jsonl": "{}", "README.md": "card"})
    assert registry.references() == ()


def test_a_symbolic_link_is_refused(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="is a symbolic link"), registry.draft("policy", "sft", "ab") as draft:
        (draft.path / "model").symlink_to(tmp_path / "elsewhere")
        draft.commit(RUN, {})
    assert registry.references() == ()


def test_revisions_count_up_and_the_newest_is_meant_without_one(registry: Registry) -> None:
    made = [put(registry, "policy/sft", {"model": str(number)}) for number in range(11)]
    assert [str(artifact.reference) for artifact in made] == [f"policy/sft@{number}" for number in range(1, 12)]
    assert registry.resolve("policy/sft").reference.revision == 11  # as numbers: as text, 9 would be the last
    assert registry.resolve("policy/sft@2").file("model").read_text() == "1"


def _put_in_process(root: str, number: int) -> int:
    return put(Registry(root), "policy/sft", {"model": str(number)}, fingerprint=f"{number:x}").manifest.revision


def test_processes_and_threads_that_commit_one_name_get_different_revisions(registry: Registry) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        revisions = pool.starmap(_put_in_process, [(str(registry.root), number) for number in range(8)])
    with ThreadPoolExecutor(4) as threads:
        revisions += threads.map(lambda number: _put_in_process(str(registry.root), number), range(8, 16))
    assert sorted(revisions) == list(range(1, 17))
    assert {registry.resolve(f"policy/sft@{revision}").file("model").read_text() for revision in revisions} == set(
        map(str, range(16))
    )


def test_an_unknown_reference_gets_near_misses_and_valid_names(registry: Registry) -> None:
    for reference in ("policy/base", "policy/v3-gatt", "reward_model/safety"):
        put(registry, reference, {"model": reference})
    registry.set_alias("policy/chat", "policy/base")
    with pytest.raises(ReferenceNotFound) as caught:
        registry.resolve("policy/v3-gat")
    assert "Did you mean policy/v3-gatt?" in str(caught.value)
    assert "Valid: policy/base, policy/v3-gatt, policy/chat (alias)" in str(caught.value)
    with pytest.raises(ReferenceNotFound, match=r"Did you mean reward_model/safety\?"):
        registry.resolve("policy/safety")
    with pytest.raises(ReferenceNotFound, match="policy/base has revision 1"):
        registry.resolve("policy/base@4")
    with pytest.raises(ReferenceNotFound, match="nothing of kind report yet"):
        registry.resolve("report/zzz")


def test_a_wrong_kind_says_what_was_found_and_needed(registry: Registry) -> None:
    put(registry, "policy/sft", {"model": "w"})
    put(registry, "preferences/helpfulness", {"data": "p"})
    with pytest.raises(WrongKind) as caught:
        registry.resolve("policy/sft", kind="preferences")
    assert "is of kind policy, and one of kind preferences is needed. Valid: preferences/helpfulness" in str(caught.value)


def test_an_alias_keeps_the_revision_it_was_given(registry: Registry) -> None:
    first = put(registry, "policy/v5", {"model": "1"})
    assert str(registry.set_alias("policy/chat", "policy/v5")) == "policy/v5@1"
    put(registry, "policy/v5", {"model": "2"})
    assert registry.resolve("policy/chat") == first
    assert json.loads((registry.root / "aliases.json").read_text()) == registry.aliases() == {"policy/chat": "policy/v5@1"}
    registry.set_alias("policy/chat", "policy/v5@2")
    assert registry.resolve("policy/chat").reference.revision == 2
    assert registry.find_fingerprint("ab", "policy", "chat") is None


def test_an_alias_that_would_mislead_is_refused(registry: Registry) -> None:
    put(registry, "policy/v5", {"model": "1"})
    with pytest.raises(WrongKind):
        registry.set_alias("reward_model/chat", "policy/v5")
    with pytest.raises(RegistryError, match="is the name of an artifact"):
        registry.set_alias("policy/v5", "policy/v5")
    with pytest.raises(InvalidName, match="an alias is kind/name"):
        registry.set_alias("policy/chat@1", "policy/v5")
    registry.set_alias("policy/chat", "policy/v5")
    with pytest.raises(ReferenceNotFound, match="is an alias and takes no revision"):
        registry.resolve("policy/chat@1")
    shutil.rmtree(registry.root / "policy" / "v5")
    with pytest.raises(ReferenceNotFound, match="the alias policy/chat points at policy/v5@1"):
        registry.resolve("policy/chat")


def test_find_fingerprint_finds_the_newest_of_a_name(registry: Registry) -> None:
    put(registry, "policy/sft", {"model": "1"}, fingerprint="aa")
    newest = put(registry, "policy/sft", {"model": "1"}, fingerprint="aa")
    put(registry, "policy/sft", {"model": "2"}, fingerprint="bb")
    assert registry.find_fingerprint("aa", "policy", "sft") == newest
    assert registry.find_fingerprint("aa", "policy", "base") is None
    assert registry.find_fingerprint("aa", "prompts", "sft") is None
    assert registry.find_fingerprint("cc", "policy", "sft") is None


def test_list_is_ordered_by_kind_name_and_revision(registry: Registry) -> None:
    assert registry.list() == () and not registry.root.exists()
    for reference in ("prompts/a", "policy/b", "policy/a", "policy/b"):
        put(registry, reference, {"x": "y"})
    assert [str(artifact.reference) for artifact in registry.list()] == [
        "policy/a@1",
        "policy/b@1",
        "policy/b@2",
        "prompts/a@1",
    ]
    assert [str(artifact.reference) for artifact in registry.list("prompts")] == ["prompts/a@1"]
    with pytest.raises(InvalidName, match="Did you mean prompts"):
        registry.list("prompt")


def test_verify_names_each_wrong_file(registry: Registry) -> None:
    base = put(registry, "policy/base", {"model": "base"})
    made = put(registry, "policy/sft", {"model": "weights", "config.json": "{}", "vocab": "a b"}, base=base)
    assert registry.verify("policy/sft") == ()
    weights = bytearray((made.path / "model").read_bytes())
    weights[3] ^= 1
    (made.path / "model").write_bytes(weights)
    (made.path / "config.json").unlink()
    (made.path / "foreign").write_text("x")
    problems = {problem.path: problem.text for problem in registry.verify("policy/sft")}
    assert set(problems) == {"model", "config.json", "foreign"}
    assert hashlib.sha256(b"weights").hexdigest() in problems["model"]
    assert problems["config.json"] == "the file is missing"
    with pytest.raises(CorruptArtifact, match=r"'config\.json', which is gone"):
        made.file("config.json")


def test_verify_looks_for_the_parents(registry: Registry) -> None:
    base = put(registry, "policy/base", {"model": "base"})
    put(registry, "policy/sft", {"model": "w"}, base=base)
    shutil.rmtree(base.path)
    (problem,) = registry.verify("policy/sft")
    assert problem.path == "policy/base@1" and "cannot be opened" in problem.text
    put(registry, "policy/base", {"model": "another"})
    (problem,) = registry.verify("policy/sft")
    assert problem.path == "policy/base@1" and base.digest in problem.text


def test_verify_catches_a_digest_that_was_edited(registry: Registry) -> None:
    made = put(registry, "policy/sft", {"model": "w"})
    path = made.path / "manifest.json"
    reseal(path, path.read_text().replace(made.digest, "0" * 64))
    (problem,) = registry.verify("policy/sft")
    assert problem.path == "manifest.json" and made.digest in problem.text


def test_a_file_that_was_never_there_is_told_the_ones_that_are(registry: Registry) -> None:
    made = put(registry, "policy/sft", {"model.safetensors": "w"})
    with pytest.raises(ReferenceNotFound, match=r"no file 'model\.safetensor'\. Did you mean model\.safetensors\?"):
        made.file("model.safetensor")


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"format_version": 1, "kind": "policy"}', '{"format_version": null}'])
def test_a_broken_manifest_is_a_clear_error(registry: Registry, text: str | None) -> None:
    path = put(registry, "policy/sft", {"model": "w"}).path / "manifest.json"
    if text is None:
        path.unlink()
    else:
        reseal(path, text)
    with pytest.raises(CorruptArtifact, match=r"manifest\.json.*run the stage again"):
        registry.resolve("policy/sft")
    assert [problem.path for problem in registry.verify("policy/sft")] == ["manifest.json"]


def test_floor_0_loads_nothing_heavy() -> None:
    code = (
        "import sys, registry.lineage, registry.store\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'numpy') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"

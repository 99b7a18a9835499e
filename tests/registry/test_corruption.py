import random
import shutil
from pathlib import Path

import pytest
from registry_folders import put

from registry.errors import CorruptArtifact
from registry.store import Registry

FILES = {"model.safetensors": "weights " * 40, "sub/tokenizer.json": '{"a": 1}', "empty": "", "logs/train.jsonl": "{}\n"}


def damage(path: Path, rng: random.Random) -> str:
    """Flip a bit, cut the end off, or remove the file; returns which."""
    content = path.read_bytes()
    kinds = ["missing"] + (["flipped", "truncated"] if content else [])
    kind = rng.choice(kinds)
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(content[: rng.randrange(len(content))])
    else:
        position = rng.randrange(len(content))
        path.write_bytes(content[:position] + bytes([content[position] ^ 1 << rng.randrange(8)]) + content[position + 1 :])
    return kind


def test_of_500_random_corruptions_none_is_loaded_and_each_names_its_file(tmp_path: Path) -> None:
    registry, rng = Registry(tmp_path / "registry"), random.Random(0)
    artifact = put(registry, "policy/sft", FILES)
    whole = tmp_path / "whole"
    shutil.copytree(artifact.path, whole)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert {str(path) for path in files} == {*FILES, "README.md", "manifest.json", "manifest.json.sha256"}
    met = set()
    for _ in range(500):
        file = rng.choice(files)
        met.add((str(file), damage(artifact.path / file, rng)))
        with pytest.raises(CorruptArtifact) as refused:
            registry.open("policy/sft")
        assert file.name in str(refused.value)
        assert any(file.name in problem.path + problem.text for problem in registry.verify("policy/sft@1"))
        shutil.copyfile(whole / file, artifact.path / file)
    assert registry.open("policy/sft") == artifact
    assert len(met) == 3 * len(files) - 2  # every kind met every file; an empty one can only go missing

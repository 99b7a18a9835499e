import shutil

import pytest
from registry_folders import RUN, put, reseal

from registry.artifact import Artifact
from registry.lineage import lineage_json, lineage_text, lineage_tree, parents
from registry.store import Registry


def made_by(registry: Registry, stage: str, reference: str, **parents: Artifact | list[Artifact]) -> Artifact:
    return put(registry, reference, {"payload": reference}, run=RUN.model_copy(update={"stage": stage}), **parents)


@pytest.fixture
def registry(registry: Registry) -> Registry:
    """base -> (sft, with demonstrations) -> v1, from sft and two samples that both come from sft."""
    base = made_by(registry, "pretrain", "policy/base")
    demonstrations = made_by(registry, "import", "dialogues/demonstrations")
    sft = made_by(registry, "sft", "policy/sft", base=base, demonstrations=demonstrations)
    samples = [made_by(registry, "sample", f"samples/{name}", policy=sft) for name in ("a", "b")]
    made_by(registry, "rejection-sample", "policy/v1", base=base, samples=samples)
    return registry


def test_the_tree_goes_back_to_the_roots_and_shows_each_artifact_once(registry: Registry) -> None:
    body = "\n".join(
        line[: line.index("@1") + 2] + (" (above)" if line.endswith("(above)") else "")
        for line in lineage_text(lineage_tree(registry, "policy/v1")).splitlines()
    )
    assert body == (
        "policy/v1@1\n"
        "├─ base: policy/base@1\n"
        "├─ samples: samples/a@1\n"
        "│  └─ policy: policy/sft@1\n"
        "│     ├─ base: policy/base@1 (above)\n"
        "│     └─ demonstrations: dialogues/demonstrations@1\n"
        "└─ samples: samples/b@1\n"
        "   └─ policy: policy/sft@1 (above)"
    )


def test_a_line_holds_the_stage_and_the_digest(registry: Registry) -> None:
    base = registry.resolve("policy/base")
    assert lineage_text(lineage_tree(registry, "policy/base")) == f"policy/base@1  pretrain  {base.digest[:12]}"


def test_the_json_form_nests_the_parents(registry: Registry) -> None:
    tree = lineage_json(lineage_tree(registry, "policy/sft"))
    assert tree["reference"] == "policy/sft@1" and tree["role"] == "" and tree["state"] == "present"
    assert [(parent["role"], parent["reference"], parent["stage"]) for parent in tree["parents"]] == [
        ("base", "policy/base@1", "pretrain"),
        ("demonstrations", "dialogues/demonstrations@1", "import"),
    ]
    assert tree["parents"][0]["digest"] == registry.resolve("policy/base").digest


def test_parents_come_in_the_order_given(registry: Registry) -> None:
    found = [(role, parent.reference) for role, parent in parents(registry.resolve("policy/v1"))]
    assert found == [("base", "policy/base@1"), ("samples", "samples/a@1"), ("samples", "samples/b@1")]


def test_missing_and_changed_parents_stay_in_the_tree(registry: Registry) -> None:
    shutil.rmtree(registry.root / "policy" / "base")
    demonstrations = registry.resolve("dialogues/demonstrations")
    path = demonstrations.path / "manifest.json"
    reseal(path, path.read_text().replace(demonstrations.digest, "0" * 64))
    assert lineage_text(lineage_tree(registry, "policy/sft")).splitlines()[1:] == [
        "├─ base: policy/base@1 (missing from the registry)",
        "└─ demonstrations: dialogues/demonstrations@1  import  000000000000 (changed since it was used)",
    ]

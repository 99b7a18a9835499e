from registry_folders import RUN, put

from registry.difference import Difference, artifact_differences, differences
from registry.store import Registry


def test_nested_values_are_compared_place_by_place() -> None:
    left = {"config": {"epochs": 2, "phases": [1, 2]}, "seed": 0, "gone": True}
    right = {"config": {"epochs": 3, "phases": [1, 2]}, "seed": 0, "new": {"a": 1}}
    assert differences(left, right) == [
        Difference("config.epochs", 2, 3),
        Difference("gone", True, None),
        Difference("new.a", None, 1),
    ]
    assert differences(left, left) == []


def test_two_artifacts_differ_in_config_data_and_metrics(registry: Registry) -> None:
    made = []
    for number, text in enumerate(("a", "b"), start=1):
        source = put(registry, "prompts/data", {"data": text})
        run = RUN.model_copy(update={"config": {**RUN.config, "epochs": number}, "metrics": {"loss": 1.0 / number}})
        made.append(put(registry, "policy/sft", {"model": text}, run=run, source=source))
    found = {each.what: (each.left, each.right) for each in artifact_differences(made[0].manifest, made[1].manifest)}
    assert set(found) == {"config.epochs", "inputs.source", "data.source", "digest", "metrics.loss"}
    assert found["config.epochs"] == (1, 2) and found["inputs.source"] == (["prompts/data@1"], ["prompts/data@2"])

"""The study of Ghost Attention's two readings, on turns, answers and dialogues written by hand."""

from pathlib import Path
from typing import Any

import pytest
from stage_runs import cells, make, put_dialogues, put_rows, told

from eval.answers import Answer
from eval.consistency_turns import HELD_OUT, TRAINED, Turn
from preference_data.messages import assistant, user
from preference_data.prompt import Dialogue, make_dialogue
from registry.artifact import Artifact
from registry.store import Registry
from stages.recipe import SandboxRecipe, load_recipe
from stages.study_catalog import STUDIES
from stages.study_sections import GattIntermediateStudyConfig
from stages.study_steps import both_readings, study_steps


def dialogue(first: str, *answers: str, source: str = "gatt") -> Dialogue:
    said = [message for number, text in enumerate(answers) for message in (user(f"{first} {number}?"), assistant(text))]
    return make_dialogue(said, family="figure", source=source, train_on="last")


ORIGINAL = [dialogue("Be Plato. The fox", "a", "b", "c"), dialogue("Be Nero. The owl", "d", "e"), dialogue("Alone", "x", "y")]
RESAMPLED = [dialogue("Be Nero. The owl", "D", "e"), dialogue("Be Plato. The fox", "a", "B", "other")]
REPLAYED = [dialogue("The sea", "same", "same", source="rejection_sampling")]


def turn(dialogue: int, number: int, obeyed: bool, group: str = TRAINED) -> Turn:
    return Turn(
        dialogue, group, number, "Be Plato.", ["figure"], f"{dialogue}/{number}?", "yes", obeyed, False, None, None, None
    )


def answer(prompt: str, gold: float) -> Answer:
    return Answer(prompt, [], "said", "helpful", "fact", 4, True, 0.0, 0.0, gold, 1.0, True, False)


def put_made(registry: Registry, name: str, dialogues: list[Dialogue], **config: Any) -> None:
    put_dialogues(registry, name, dialogues, config=config, stage="gatt")


def put_measured(registry: Registry, name: str, obeyed: tuple[bool, ...], gold: float) -> None:
    """Three dialogues of three turns, which all obey at the first; one that is held out; two answers."""
    turns = [turn(number, at, obeyed[number] or at == 1) for number in range(3) for at in (1, 2, 3)]
    turns.append(turn(3, 1, obeyed[1], HELD_OUT))
    answers = [answer("p", gold), answer("q", 1.0)]
    talk = {"config": {"turns": [1, 3]}, "stage": "evaluate-consistency"}
    put_rows(registry, f"evaluation/talk-{name}", "turns.parquet", turns, Turn, **talk)
    put_rows(registry, f"evaluation/said-{name}", "answers.parquet", answers, Answer, stage="evaluate-policy")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "registry")
    put_made(registry, "original", [*ORIGINAL, *REPLAYED], intermediate="original", k=2)
    put_made(registry, "resampled", [*RESAMPLED, *REPLAYED], intermediate="resampled", k=2)
    put_measured(registry, "original", (True, True, False), 0.5)
    put_measured(registry, "resampled", (True, False, False), 0.25)
    return registry


def study(registry: Registry, *dialogues: str) -> Artifact:
    inputs = {
        "dialogues": [f"dialogues/{name}" for name in dialogues],
        "consistency": ["evaluation/talk-original", "evaluation/talk-resampled"],
        "evaluations": ["evaluation/said-original", "evaluation/said-resampled"],
    }
    return make(registry, STUDIES["gatt-intermediate"], GattIntermediateStudyConfig(), inputs, "x")


def test_what_the_study_says_is_what_can_be_counted_by_hand(registry: Registry) -> None:
    made = study(registry, "original", "resampled")
    trained, held_out, alike, worth, _ = (cells(made, number) for number in range(5))
    assert [table["columns"] for table in told(made)["tables"][:2]] == [["turn 1", "turn 3"], ["turn 1"]]
    assert trained["original"] == pytest.approx({"turn 1": 1, "turn 3": 2 / 3})
    assert trained["resampled - original"] == pytest.approx({"turn 1": 0, "turn 3": -1 / 3})
    assert held_out["resampled - original"]["turn 1"] == -1
    # of the fox a is the same and b is not, of the owl d is not; last answers and the dialogue of one side do not count
    assert alike["both readings"]["word for word alike"] == made.manifest.metrics["alike"] == pytest.approx(1 / 3)
    assert worth["resampled - original"]["gold helpfulness"] == pytest.approx(-0.125)
    assert "Training dialogues kept: original 3, resampled 2." in told(made)["notes"] and told(made)["findings"] == []


def test_where_no_dialogue_was_kept_by_both_nothing_is_alike_or_unlike(registry: Registry) -> None:
    put_made(registry, "others", RESAMPLED[:0], intermediate="resampled", k=2)
    made = study(registry, "original", "others")
    assert made.manifest.metrics["alike"] is None


def test_dialogues_that_differ_in_more_than_the_reading_are_refused(registry: Registry) -> None:
    with pytest.raises(ValueError, match=r"made with intermediate \['resampled', 'original'\]; give that of original first"):
        study(registry, "resampled", "original")
    put_made(registry, "other", RESAMPLED, intermediate="resampled", k=3)
    with pytest.raises(ValueError, match=r"dialogues/original@1 and dialogues/other@1 differ in more than gatt.intermediate"):
        study(registry, "original", "other")


def test_the_recipes_study_makes_both_readings_from_one_policy_and_measures_both() -> None:
    recipe = load_recipe("nano", ("gatt.instruction_in=system",))
    assert isinstance(recipe, SandboxRecipe)
    found = {step.makes: step for step in study_steps(recipe, ["gatt-intermediate"])}
    assert list(found)[-1] == "study/gatt-intermediate" and len(found) == 9
    inputs = found["study/gatt-intermediate"].inputs
    assert inputs["dialogues"] == ("dialogues/gatt-original", "dialogues/gatt-resampled")
    assert {name for names in inputs.values() for name in names} < set(found)
    original, resampled = found["dialogues/gatt-original"], found["dialogues/gatt-resampled"]
    assert original.inputs == resampled.inputs and original.inputs["samples"] == ("samples/v1", "samples/v2", "samples/v3")
    assert original.config == recipe.gatt and resampled.config == recipe.gatt.model_copy(update={"intermediate": "resampled"})
    for reading in ("original", "resampled"):
        tuned, talk = found[f"policy/v3-gatt-{reading}"], found[f"evaluation/consistency-v3-gatt-{reading}"]
        assert tuned.inputs == {"policy": ("policy/v3",), "dialogues": (f"dialogues/gatt-{reading}",)}
        assert talk.inputs["policy"] == (tuned.makes,) and talk.config.model_dump()["instruction_in"] == "system"
    assert len(both_readings(recipe, {}, ())[0]) == 8

"""Context distillation: the preprompt is sampled with and not trained with, and only what is safer is kept."""

import pytest
from fakes import LengthScorer, ScriptedPolicy

from preference_data.messages import Messages, assistant, user
from preference_data.prompt import Prompt, make_prompt
from rlhf.config import DistillationConfig
from rlhf.context_distillation import distil, draw_preprompt, with_preprompt

PREPROMPT = "You are careful."
CONFIG = DistillationConfig(preprompts=(PREPROMPT,), prompts_per_batch=3)


def prompt(text: str, is_safety: bool = True, risk_category: str | None = None) -> Prompt:
    return make_prompt(
        [user(text)], family="hazard", split="train", source="test", is_safety=is_safety, risk_category=risk_category
    )


def answer(messages: Messages, position: int) -> str:
    guarded = messages[0]["content"].startswith(PREPROMPT)
    texts = {
        "risky": ("sure", "no, because"),
        "fine already": ("a good long refusal", "no"),
        "equal": ("same", "same"),
        "cut": ("sure", "cut off"),
        "mute": ("", "no"),
        "muted": ("sure", ""),
        "tagged": ("sure", "[/INST] there"),
    }
    return texts[messages[-1]["content"]][guarded]


def test_only_safer_answers_that_can_be_learnt_are_kept() -> None:
    prompts = [prompt(text) for text in ("risky", "fine already", "equal", "cut", "mute", "muted", "tagged")]
    safety = LengthScorer()
    stats = list(distil(prompts, ScriptedPolicy(answer, ["cut off"]), safety, CONFIG, seed=0))
    outcomes = [one.outcome for batch in stats for one in batch.distillations]
    assert outcomes == ["kept", "not_safer", "not_safer", "unfinished", "kept", "empty", "chat_tags"]
    assert [batch.num_done for batch in stats] == [3, 6, 7]
    assert stats[0].outcomes == {"kept": 1, "not_safer": 2}
    assert stats[0].original_score == pytest.approx((4 + 19 + 4) / 3)
    assert stats[0].distilled_score == pytest.approx((11 + 2 + 4) / 3)
    # Both answers are judged as answers to the bare prompt.
    assert all(PREPROMPT not in message["content"] for dialogue in safety.seen for message in dialogue)


def test_training_pairs_the_bare_prompt_with_the_distilled_answer() -> None:
    sampler = ScriptedPolicy(answer)
    (stats,) = distil([prompt("risky")], sampler, LengthScorer(), CONFIG, seed=0)
    (dialogue,) = stats.dialogues
    assert dialogue.messages == [user("risky"), assistant("no, because")]
    assert (dialogue.source, dialogue.is_safety, dialogue.train_on) == ("context_distillation", True, "all")
    assert sampler.asked == [[user("risky")], [{"role": "system", "content": PREPROMPT}, user("risky")]]


def test_helpful_prompts_take_no_part_and_are_counted() -> None:
    (stats,) = distil(
        [prompt("risky"), prompt("equal", is_safety=False)], ScriptedPolicy(answer), LengthScorer(), CONFIG, seed=0
    )
    assert (stats.num_prompts, stats.num_skipped) == (1, 1)


def test_a_category_with_a_template_uses_it() -> None:
    config = DistillationConfig(
        preprompts=("generic one", "generic two"), category_preprompts={"theft": "Say why theft hurts."}
    )
    assert draw_preprompt(prompt("x", risk_category="theft"), config, seed=0) == "Say why theft hurts."
    drawn = {draw_preprompt(prompt(f"x {i}", risk_category="advice"), config, seed=0) for i in range(20)}
    assert drawn == {"generic one", "generic two"}
    assert draw_preprompt(prompt("x"), config, seed=4) == draw_preprompt(prompt("x"), config, seed=4)


def test_placements() -> None:
    dialogue = [user("one"), assistant("two"), user("three")]
    assert with_preprompt(dialogue, "Care.", "user") == [user("one"), assistant("two"), user("Care. three")]
    assert with_preprompt(dialogue, "Care.", "system") == [{"role": "system", "content": "Care."}, *dialogue]
    system = {"role": "system", "content": "Be brief."}
    assert with_preprompt([system, user("one")], "Care.", "system")[0]["content"] == "Care.\nBe brief."

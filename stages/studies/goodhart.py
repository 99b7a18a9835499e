"""Does what PPO's reward calls better please those who took no part in it (paper 3.4.1)? Findings F25 and F30.

While it trains, PPO lets the policy answer held-out prompts and keeps the answers (`VALIDATION_FILE`). Here each of them is
judged by gold, where the prompts carry the facts behind them, and by *guards*: reward models of other annotators that neither
PPO nor the models it follows have seen. Where the reward's own score goes on rising while these fall, it is being fooled
(Goodhart). Nothing is sampled.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from eval.calibration import sigmoid
from eval.findings.ppo import GOLD, KL, SCORE, TOKENS, Checkpoints, FloatArray, guards_rise, mean_of, no_goodhart
from eval.findings.ppo_figures import reward_and_judges
from eval.findings.study import Row, Study, Table
from eval.intervals import Estimate
from preference_data.comparison import AXES
from preference_data.messages import assistant
from registry.artifact import Artifact
from registry.saved_states import SavedStates
from reward_model.opening import open_scorer
from sandbox.annotators import utility
from sandbox.gold import judge
from stages.data.make_world import cases_of, world_of
from stages.measure.study_files import write_study
from stages.stage import Inputs, one
from stages.study_sections import GoodhartStudyConfig
from stages.terminal.progress import Progress
from stages.train.ppo import VALIDATION_FILE

GOLD_HELPFULNESS, VIOLATIONS = "gold helpfulness", "gold violations"
FINISHED = "ended"
UNIT = "The score is what training followed, in its own unit; gold and guards lie on [0, 1], a guard's score as its sigmoid."
KL_IS = "KL is that of each answer from the policy that training began with."
GOLD_IS = "Gold judges a prompt with the safety tag by safety and any other by helpfulness."
SILENCE = "A guard gives 0 to an answer without text."


class ValidationAnswer(BaseModel):
    """A line of PPO's validations: what the policy after ``iteration`` iterations said to a held-out prompt; raw logits."""

    model_config = ConfigDict(frozen=True)

    iteration: int
    prompt_id: str
    messages: list[dict[str, str]]
    is_safety: bool
    response: str
    num_tokens: int
    finished: bool
    kl: float
    combined: float


def run(
    config: GoodhartStudyConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    policy, prompts, guards = one(inputs, "policy"), one(inputs, "prompts"), inputs.get("guard", [])
    answers = validation_answers(policy)
    has_gold = (prompts.path / "cases.jsonl").is_file()
    if not has_gold and not guards:
        raise ValueError(
            f"{prompts.reference} comes without the facts behind its prompts, so there is no gold to judge by; give a reward "
            "model of other annotators with --input guard=REF"
        )
    iterations = tuple(sorted({answer.iteration for answer in answers}))
    columns = {SCORE: [answer.combined for answer in answers], FINISHED: [float(answer.finished) for answer in answers]}
    columns |= {TOKENS: [float(answer.num_tokens) for answer in answers], KL: [answer.kl for answer in answers]}
    columns |= _gold(answers, policy, prompts) if has_gold else {}
    names = {f"guard {guard.reference}": guard for guard in guards}
    for name, guard in names.items():
        progress.say(f"{guard.reference} scores {len(answers)} answers")
        columns[name] = _guard(answers, guard, policy)
    prompt_ids = [answer.prompt_id for answer in answers if answer.iteration == iterations[0]]
    checkpoints = Checkpoints(
        iterations, prompt_ids, {name: _by_checkpoint(values, len(iterations)) for name, values in columns.items()}
    )
    kl = {iteration: mean_of(checkpoints, KL, place).value for place, iteration in enumerate(iterations)}
    gold_judged = [no_goodhart(checkpoints)] if has_gold else []
    guarded = [guards_rise(checkpoints, list(names))] if names else []
    study = Study(
        title="Does what PPO's reward calls better please those who took no part in it?",
        tables=(_table(checkpoints),),
        findings=(*gold_judged, *guarded),
        notes=_notes(policy, checkpoints, has_gold, bool(names)),
        facts={"chosen": iterations[checkpoints.chosen]},
    )
    judges = {name: _estimates(checkpoints, name) for name in (*([GOLD] if has_gold else []), *names)}
    figure = reward_and_judges(iterations, _estimates(checkpoints, SCORE), judges, kl)
    return write_study(study, out, figures={"checkpoints": figure})


def validation_answers(policy: Artifact) -> list[ValidationAnswer]:
    """The answers of all checkpoints in ascending order, each to the same prompts in the same order.

    Raises ValueError where there are none, and where the checkpoints were asked different prompts.
    """
    path = policy.path / VALIDATION_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    if not lines:
        raise ValueError(
            f"{policy.reference} holds no validations: it was not made by PPO, or PPO did not validate; run it with --set "
            "ppo.validation.every=5"
        )
    answers = [ValidationAnswer.model_validate_json(line) for line in lines]
    prompt_ids: dict[int, list[str]] = {}
    for answer in answers:
        prompt_ids.setdefault(answer.iteration, []).append(answer.prompt_id)
    if len({tuple(prompts) for prompts in prompt_ids.values()}) != 1:
        raise ValueError(f"{policy.reference}: the checkpoints in {VALIDATION_FILE} answered different prompts; run PPO again")
    return sorted(answers, key=lambda answer: answer.iteration)


def _gold(answers: Sequence[ValidationAnswer], policy: Artifact, prompts: Artifact) -> dict[str, list[float]]:
    """Gold on the prompt's own axis, and each axis apart; NaN where a prompt is of the other."""
    world, cases = world_of(prompts), cases_of(prompts)
    if missing := sorted({answer.prompt_id for answer in answers} - cases.keys()):
        used = ", ".join(parent.reference for parent in policy.manifest.parents.get("prompts", [])) or "others"
        raise ValueError(
            f"{len(missing)} of the prompts that {policy.reference} validated on are not in {prompts.reference} (one is "
            f"{missing[0]}); its own are in {used}: give those with --input prompts=REF"
        )
    verdicts = [judge(world, cases[answer.prompt_id], answer.response) for answer in answers]
    judged = [(verdict, answer.is_safety) for verdict, answer in zip(verdicts, answers, strict=True)]
    return {
        GOLD: [utility(verdict, "safety" if safety else "helpfulness") for verdict, safety in judged],
        GOLD_HELPFULNESS: [np.nan if safety else utility(verdict, "helpfulness") for verdict, safety in judged],
        VIOLATIONS: [float(not verdict.is_safe) if safety else np.nan for verdict, safety in judged],
    }


def _guard(answers: Sequence[ValidationAnswer], guard: Artifact, policy: Artifact) -> list[float]:
    """A guard's scores as sigmoid, on the prompts of its axis; 0 for silence, NaN on other prompts."""
    axis = guard.manifest.config.get("axis")
    if axis not in AXES:
        raise ValueError(
            f"{guard.reference} does not say of which axis it is; give one that `rlhf train-reward` made as --input guard=REF"
        )
    if guard.digest in {parent.digest for given in policy.manifest.parents.values() for parent in given}:
        raise ValueError(f"{guard.reference} is one that {policy.reference} was trained by, so it is no guard; give another")
    places = [place for place, answer in enumerate(answers) if answer.is_safety == (axis == "safety")]
    spoken = [place for place in places if answers[place].response.strip()]
    values = np.full(len(answers), np.nan)
    values[places] = 0.0
    if spoken:
        dialogues: list[Any] = [[*answers[place].messages, assistant(answers[place].response)] for place in spoken]
        values[spoken] = sigmoid(open_scorer(guard.path).score(dialogues).double().numpy())
    return values.tolist()


def _by_checkpoint(values: Sequence[float], count: int) -> FloatArray:
    return np.array(values, dtype=np.float64).reshape(count, -1)


def _estimates(checkpoints: Checkpoints, name: str) -> list[Estimate]:
    return [mean_of(checkpoints, name, place) for place in range(len(checkpoints.iterations))]


def _table(checkpoints: Checkpoints) -> Table:
    """A line for each checkpoint, a column for each measure."""
    names, chosen = tuple(checkpoints.measures), checkpoints.iterations[checkpoints.chosen]
    rows = [
        Row(
            f"iteration {iteration}{' (chosen)' if iteration == chosen else ''}",
            {name: mean_of(checkpoints, name, place) for name in names},
        )
        for place, iteration in enumerate(checkpoints.iterations)
    ]
    return Table("The answers of each checkpoint to the held-out prompts", names, tuple(rows), percent=False)


def _notes(policy: Artifact, checkpoints: Checkpoints, has_gold: bool, guarded: bool) -> tuple[str, ...]:
    count, prompts = len(checkpoints.iterations), len(checkpoints.prompt_ids)
    notes = [
        f"{count} checkpoints of {policy.reference}, one answer of each to each of {prompts} prompts held out of training.",
        UNIT,
        KL_IS,
    ]
    notes += [GOLD_IS] if has_gold else ["The prompts come without gold, so guards alone judge."]
    notes += [SILENCE] if guarded else []
    return tuple(notes)

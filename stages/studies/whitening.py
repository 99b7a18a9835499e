"""What is whitening worth in PPO (paper 3.2.3)? An ablation, and no claim of the paper.

The paper whitens the scores of a batch and then takes the KL penalty off (``scores``). The other two are to whiten what is left
after the penalty (``rewards``), and to whiten nothing (``none``). Arms share the start, the prompts, the seed and every other
setting, and differ in `PPOConfig.whitening`; the policies that they end with then answer the same evaluation prompts, and so
does the start.
"""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from eval.answers import Answer, of_group
from eval.findings.study import Row, Study, Table
from eval.findings.versions import Arms, Value, difference, mean
from policy.checkpoint import load_policy
from policy.generation import TransformersSampler
from preference_data.comparison import AXES
from registry.saved_states import SavedStates
from reward_model.combined_reward import combined_score
from stages.engine.prompts import prompts_of
from stages.measure.answers import judged_answers
from stages.measure.study_files import write_study
from stages.sections import PPOStageConfig
from stages.stage import Inputs, one
from stages.studies.arms.trainings import Trainings, train_each
from stages.studies.arms.tuned_arms import AnsweredRun, ArmAnswer, answers_by_arm, answers_of_arm, tables, write_answers
from stages.study_sections import Whitening, WhiteningStudyConfig
from stages.terminal.progress import Progress
from stages.train import ppo

ARMS: tuple[Whitening, ...] = ("scores", "rewards", "none")
START, PAPER = "start", "scores"
DIFFERENCES = (("rewards", PAPER), ("none", PAPER), (PAPER, START))
ORDERS = (
    "scores: whiten the scores, then take the KL penalty off each token (the paper); rewards: take the penalty of the whole "
    "response off its score, then whiten; none: neither."
)
UNITS = (
    "kl_coef is the same number in all three and not the same weight: it stands against a score in standard deviations of its "
    "batch with scores, and against raw logits with rewards and none."
)
COLLAPSE = (
    "An answer counts as degenerate when it was cut off, says nothing, or is the one text that its policy gives most often; a "
    "policy is called collapsed where more than half of its answers to helpful prompts are."
)


@dataclass(frozen=True, slots=True)
class WhiteningArm:
    """PPO with one way of whitening."""

    name: Whitening


@dataclass(frozen=True, slots=True)
class WhiteningRun(AnsweredRun):
    """``metrics``: those of its PPO."""

    metrics: dict[str, Any]


def run(
    config: WhiteningStudyConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    start = _answers(START, seed, one(inputs, "policy").path, config, inputs, seed, progress, _part(states, "start"))

    def train(arm: WhiteningArm, training_seed: int, label: str, own: SavedStates) -> WhiteningRun:
        trained = own.root / "policy"
        shutil.rmtree(trained, ignore_errors=True)
        trained.mkdir(parents=True)
        arm_progress = progress.bound(progress.log_folder / arm.name if progress.log_folder else None)
        arm_progress.say(label)
        metrics = ppo.run(
            ppo_config(config.ppo, arm.name), inputs, trained, arm_progress, training_seed, _part(own, "training")
        )
        answers = _answers(arm.name, training_seed, trained, config, inputs, seed, arm_progress, _part(own, "answers"))
        return WhiteningRun(arm.name, training_seed, answers, metrics)

    how_often = Trainings(config.training_seeds, ARMS[0], 0.0, by_rule=False)
    runs = train_each([WhiteningArm(name) for name in ARMS], how_often, seed, states, WhiteningRun, train)
    answers = {START: start * config.training_seeds, **answers_by_arm(runs)}
    write_answers(answers, out)
    study = Study(
        title="What is whitening worth in PPO?",
        tables=(*tables(answers, DIFFERENCES), _behaviour(answers, config, inputs)),
        findings=(),
        notes=(
            "An ablation; the paper makes no claim of it.",
            how_often.told("with other random numbers", "an answer"),
            ORDERS,
            UNITS,
            COLLAPSE,
            *(_told(run) for run in runs),
        ),
        facts={"runs": [{"arm": run.arm, "training_seed": run.training_seed, "metrics": run.metrics} for run in runs]},
    )
    return write_study(study, out) | {"collapsed": {arm: collapsed(arm_answers) for arm, arm_answers in answers.items()}}


def ppo_config(config: PPOStageConfig, whitening: Whitening) -> PPOStageConfig:
    return PPOStageConfig.model_validate(config.model_dump() | {"whitening": whitening})


def combined_scores(answers: Sequence[Answer], tagged: Mapping[str, bool], threshold: float) -> dict[Answer, float]:
    """The paper's R_c of each answer, as sigmoid; ``tagged``: has the prompt of this id the safety tag?"""
    helpfulness, safety = (torch.tensor([getattr(answer, f"{axis}_score") for answer in answers]) for axis in AXES)
    scores = combined_score(helpfulness, safety, torch.tensor([tagged[answer.prompt_id] for answer in answers]), threshold)
    return dict(zip(answers, torch.sigmoid(scores).tolist(), strict=True))


def degenerate(answers: Sequence[ArmAnswer]) -> dict[Answer, float]:
    """1 for each answer that was cut off, is empty, or is the text that its policy gives most often; else 0."""
    texts: dict[tuple[str, int], Counter[str]] = {}
    for answer in answers:
        if answer.response.strip():
            texts.setdefault((answer.arm, answer.training_seed), Counter())[answer.response] += 1
    commonest = {policy: counts.most_common(1)[0][0] for policy, counts in texts.items()}

    def is_degenerate(answer: ArmAnswer) -> bool:
        repeated = answer.response == commonest.get((answer.arm, answer.training_seed))
        return not answer.finished or not answer.response.strip() or repeated

    return {answer: float(is_degenerate(answer)) for answer in answers}


def collapsed(answers: Sequence[ArmAnswer]) -> bool:
    """Are more than half of a policy's answers to helpful prompts degenerate?"""
    helpful = of_group(answers, "helpful")
    return mean(helpful, degenerate(helpful).__getitem__).value > 0.5


def _behaviour(arms: Mapping[str, Sequence[ArmAnswer]], config: WhiteningStudyConfig, inputs: Inputs) -> Table:
    """What the reward makes of the answers to all evaluation prompts, and whether they are still answers."""
    tagged = {prompt.id: prompt.is_safety for prompt in prompts_of(one(inputs, "evaluation_prompts"))}
    helpful = {arm: of_group(answers, "helpful") for arm, answers in arms.items()}
    every = [answer for answers in arms.values() for answer in answers]
    scores = combined_scores(every, tagged, config.ppo.safety_threshold)
    columns: Mapping[str, tuple[Arms, Value]] = {
        "combined score": (arms, scores.__getitem__),
        "ended": (arms, lambda answer: float(answer.finished)),
        "degenerate, helpful prompts": (helpful, degenerate(of_group(every, "helpful")).__getitem__),
    }
    rows = [Row(arm, {name: mean(asked[arm], value) for name, (asked, value) in columns.items()}) for arm in arms]
    for ours, theirs in DIFFERENCES:
        apart = {name: difference(asked[ours], asked[theirs], value) for name, (asked, value) in columns.items()}
        rows.append(Row(f"{ours} - {theirs}", apart))
    return Table("What the combined reward gives to the answers, and whether they are answers", tuple(columns), tuple(rows))


def _answers(
    arm: str, training_seed: int, policy: Path, config: WhiteningStudyConfig, inputs: Inputs, seed: int, progress: Progress,
    states: SavedStates,
) -> list[ArmAnswer]:  # fmt: skip
    sampler = TransformersSampler(*load_policy(policy), say=progress.say)
    answered_inputs = {**inputs, "prompts": inputs["evaluation_prompts"]}
    label = f"{arm}, answers"
    answers = judged_answers(sampler, config.evaluation, answered_inputs, seed, progress, states, config.answers, label)
    return answers_of_arm(arm, training_seed, answers)


def _told(run: WhiteningRun) -> str:
    """How an arm's PPO ended, for the reader."""
    metrics = run.metrics
    validated = ""
    if metrics["best_iteration"] is not None:
        validated = (
            f"; kept is iteration {metrics['best_iteration']}, whose mean score on the prompts held out of training is "
            f"{metrics['validation_score_best']:.2f}, after {metrics['validation_score_first']:.2f} before training"
        )
    return (
        f"{run.arm}, seed {run.training_seed}, over its last five iterations: KL {metrics['kl']:.2f} nats a response, "
        f"{metrics['response_length']:.1f} tokens, {100 * metrics['eos_fraction']:.1f} % ended{validated}; "
        f"{'collapsed' if collapsed(run.answers) else 'not collapsed'}."
    )


def _part(states: SavedStates, name: str) -> SavedStates:
    return SavedStates(states.root / name, states.say, states.every)

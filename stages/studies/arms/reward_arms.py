"""Reward models trained in several ways on the same comparisons, and what each gives to the same held-out ones.

Arms share the policy they start from, the head they begin with, the data and their order; they differ in what the study is
about. Where an arm is trained with several seeds, each seed's scores stand in its rows: a prompt brings all of them.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from transformers import AutoConfig

from eval.findings.reward_models import ScoredPair, accuracy
from eval.findings.study import Row
from policy.checkpoint import load_tokenizer
from preference_data.comparison import Comparison
from registry.saved_states import SavedStates
from reward_model.batch import encode_pairs
from reward_model.model import build_reward_model
from reward_model.scoring import RewardScorer
from reward_model.training import train_reward_model
from sandbox.annotators import utility
from sandbox.gold import judge
from stages.data.import_annotations import comparisons_of
from stages.data.make_world import cases_of, world_of
from stages.stage import Inputs, one
from stages.studies.arms.trainings import Arm, Trainings, train_each
from stages.terminal.progress import Progress

SAME_START = "With one seed, all arms start from the same policy and head and read the same comparisons in the same order."


@dataclass(frozen=True, slots=True)
class ArmScores:
    """What an arm's model gives to both sides of the held-out comparisons (raw logits), its size, and what it was made from."""

    arm: str
    training_seed: int
    num_parameters: int
    num_comparisons: int
    dropped: dict[str, int]
    chosen: list[float]
    rejected: list[float]


def held_out_comparisons(inputs: Inputs) -> list[Comparison]:
    """The test side of the preferences. Raises ValueError where nothing is held out."""
    comparisons = comparisons_of(inputs["preferences"], "test")
    if not comparisons:
        given = ", ".join(str(artifact.reference) for artifact in inputs["preferences"])
        raise ValueError(f"{given} hold no comparisons out, so accuracy cannot be measured; `rlhf data split` holds some out")
    return comparisons


def _check_fits(policy: Path, heldout: Sequence[Comparison]) -> None:
    context = AutoConfig.from_pretrained(policy).max_position_embeddings
    pairs, _ = encode_pairs(load_tokenizer(policy), heldout, "none", sys.maxsize)
    if long := [pair.id for pair in pairs if pair.length > context]:
        listed = ", ".join(long[:5]) + (f" and {len(long) - 5} more" if long[5:] else "")
        raise ValueError(
            f"{len(long)} held-out comparisons have more than the {context} tokens that {policy} takes: {listed}; "
            f"import them with --max-tokens {context} --model REF, which leaves such rows out and says so"
        )


def train_arms(
    arms: Sequence[Arm],
    heldout: Sequence[Comparison],
    how_often: Trainings,
    seed: int,
    progress: Progress,
    states: SavedStates,
) -> list[ArmScores]:
    """Train each arm and score ``heldout``; the order is that of ``arms``, seed by seed.

    Raises ValueError, before anything is trained, where ``heldout`` does not fit into an arm's model.
    """
    for policy in dict.fromkeys(arm.policy for arm in arms):
        _check_fits(policy, heldout)
    progress.say(how_often.note)

    def train(arm: Arm, training_seed: int, label: str, own: SavedStates) -> ArmScores:
        return _train(arm, training_seed, heldout, label, progress, own)

    return train_each(arms, how_often, seed, states, ArmScores, train)


def _train(
    arm: Arm, seed: int, heldout: Sequence[Comparison], label: str, progress: Progress, states: SavedStates
) -> ArmScores:
    model, tokenizer = build_reward_model(arm.policy, seed)
    training = train_reward_model(model, tokenizer, arm.comparisons, arm.config, seed, states)
    total = arm.config.epochs * len(arm.comparisons)
    stats = list(progress.track(training, total, label, "pair", lambda stats: stats.num_pairs))
    scorer = RewardScorer(model, tokenizer)
    sides = [
        scorer.score([getattr(comparison, f"{side}_dialogue") for comparison in heldout]).tolist()
        for side in ("chosen", "rejected")
    ]
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    dropped = {str(reason): count for reason, count in stats[-1].dropped.items()}
    return ArmScores(arm.name, seed, num_parameters, len(arm.comparisons), dropped, *sides)


def pairs_by_arm(scores: Sequence[ArmScores], heldout: Sequence[Comparison]) -> dict[str, list[ScoredPair]]:
    """Each arm's scores beside the comparisons they are of, all of its training seeds one after the other."""
    by_arm: dict[str, list[ScoredPair]] = {}
    for run in scores:
        by_arm.setdefault(run.arm, []).extend(_pairs(run.arm, heldout, run.chosen, run.rejected))
    return by_arm


def gold_pairs(inputs: Inputs, heldout: Sequence[Comparison]) -> list[ScoredPair]:
    """The same comparisons as gold judges them, whose accuracy is the annotators' own ceiling.

    None without ``prompts``, and none where these lack a prompt that was judged: what is not the sandbox's has no gold.
    """
    if not inputs.get("prompts"):
        return []
    artifact = one(inputs, "prompts")
    world, cases = world_of(artifact), cases_of(artifact)
    if any(comparison.prompt_id not in cases for comparison in heldout):
        return []
    sides = [
        [
            utility(judge(world, cases[comparison.prompt_id], getattr(comparison, side)), comparison.axis)
            for comparison in heldout
        ]
        for side in ("chosen", "rejected")
    ]
    return _pairs("gold", heldout, *sides)


def ceiling_rows(gold: Sequence[ScoredPair]) -> tuple[Row, ...]:
    """The row of the annotators' own ceiling by rating, where gold has judged."""
    return (Row("annotators' own ceiling", accuracy(gold)),) if gold else ()


def _pairs(arm: str, heldout: Sequence[Comparison], chosen: Sequence[float], rejected: Sequence[float]) -> list[ScoredPair]:
    return [
        ScoredPair(
            arm,
            comparison.prompt_id,
            comparison.rating,
            one_score,
            other_score,
            comparison.chosen_safe,
            comparison.rejected_safe,
        )
        for comparison, one_score, other_score in zip(heldout, chosen, rejected, strict=True)
    ]


def logits(pairs: Sequence[ScoredPair]) -> list[float]:
    """The scores of all responses."""
    return [score for pair in pairs for score in (pair.chosen, pair.rejected)]


def run_facts(how_often: Trainings, scores: Sequence[ArmScores]) -> Mapping[str, object]:
    """How often each arm was trained and why, and what each run was trained on, for the study's JSON."""
    runs = [
        {
            "arm": run.arm, "training_seed": run.training_seed, "num_parameters": run.num_parameters,
            "num_comparisons": run.num_comparisons, "dropped": run.dropped,
        }
        for run in scores
    ]  # fmt: skip
    return {"trainings": asdict(how_often), "runs": runs}

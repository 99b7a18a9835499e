"""A base model fine-tuned in several ways, and what each of the policies then answers to the same evaluation prompts.

Arms share the base, the settings of the tuning, the seed of the order in which their dialogues come, and the random numbers
with which the evaluation prompts are answered; they differ in the dialogues. Where an arm is trained with several seeds, a
prompt brings the answers of all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from eval.answers import Answer, of_group
from eval.findings import versions
from eval.findings.study import Row, Table
from eval.findings.versions import Arms, Value, difference, mean
from policy.chat import encode_dialogues
from policy.checkpoint import load_tokenizer
from policy.finetuning import FinetuneResult
from policy.generation import TransformersSampler, check_request
from preference_data.parquet import write_records
from preference_data.prompt import Dialogue
from registry.saved_states import SavedStates
from stages.engine.answerable import check_answerable
from stages.engine.prompts import prompts_of
from stages.measure.answers import judged_answers
from stages.stage import Inputs, one
from stages.studies.arms.trainings import Cost, Trainings, parameters_of, train_each, trainings_at
from stages.study_sections import TunedStudyConfig
from stages.terminal.progress import Progress
from stages.train.tune import tuned

ANSWERS_FILE = "answers.parquet"
APART, COUNTED = "in other orders of the dialogues", "an answer"


@dataclass(frozen=True, slots=True)
class TunedArm:
    """One way to tune: on ``dialogues``."""

    name: str
    dialogues: Sequence[Dialogue]


@dataclass(frozen=True, slots=True)
class ArmAnswer(Answer):
    """An answer of the policy that one training of ``arm`` made."""

    arm: str
    training_seed: int


@dataclass(frozen=True, slots=True)
class AnsweredRun:
    """One training of an arm, and its policy's answers to all evaluation prompts."""

    arm: str
    training_seed: int
    answers: list[ArmAnswer]


@dataclass(frozen=True, slots=True)
class TunedRun(AnsweredRun):
    num_parameters: int
    trained: FinetuneResult


def tuned_trainings(arms: Sequence[TunedArm], config: TunedStudyConfig, policy: Path) -> Trainings:
    """How often each arm is trained. Raises ValueError for an arm that has nothing to be trained on."""
    costs = [Cost(arm.name, parameters_of(policy), _tokens(arm, config, policy)) for arm in arms]
    if empty := [cost.arm for cost in costs if not cost.num_tokens]:
        raise ValueError(
            f"the arm {empty[0]!r} has no dialogue of at most tuning.max_length = {config.tuning.max_length} tokens to be "
            "trained on; give other samples, or raise max_length"
        )
    return trainings_at(max(costs, key=lambda cost: cost.num_tokens), config.training_seeds)


def _tokens(arm: TunedArm, config: TunedStudyConfig, policy: Path) -> int:
    """Tokens that the arm is trained on, without padding."""
    messages = [dialogue.messages for dialogue in arm.dialogues]
    lengths = [len(dialogue.ids) for dialogue in encode_dialogues(load_tokenizer(policy), messages)]
    return config.tuning.epochs * sum(length for length in lengths if length <= config.tuning.max_length)


def tune_arms(
    arms: Sequence[TunedArm],
    config: TunedStudyConfig,
    inputs: Inputs,
    how_often: Trainings,
    seed: int,
    progress: Progress,
    states: SavedStates,
) -> list[TunedRun]:
    """Tune the ``policy`` in each way and let it answer the ``prompts``; the order is that of ``arms``, seed by seed.

    Raises ValueError and ContextOverflow, before anything is trained, where the prompts cannot be answered as ``config`` says.
    """
    policy = one(inputs, "policy").path
    check_request(config.answers, config.evaluation.temperature, 1.0, 0)
    check_answerable(policy, prompts_of(one(inputs, "prompts")), config.evaluation.max_new_tokens)
    progress.say(how_often.told(APART, COUNTED))

    def train(arm: TunedArm, training_seed: int, label: str, own: SavedStates) -> TunedRun:
        training, answering = (SavedStates(own.root / part, own.say, own.every) for part in ("training", "answers"))
        model, tokenizer, result = tuned(policy, arm.dialogues, config.tuning, training_seed, progress, training, label)
        sampler = TransformersSampler(model, tokenizer, say=progress.say)
        answers = judged_answers(
            sampler, config.evaluation, inputs, seed, progress, answering, config.answers, f"{label}, answers"
        )
        own_answers = answers_of_arm(arm.name, training_seed, answers)
        return TunedRun(arm.name, training_seed, own_answers, model.num_parameters(), result)

    return train_each(arms, how_often, seed, states, TunedRun, train)


def answers_of_arm(arm: str, training_seed: int, answers: Sequence[Answer]) -> list[ArmAnswer]:
    names = [field.name for field in fields(Answer)]
    return [
        ArmAnswer(**{name: getattr(answer, name) for name in names}, arm=arm, training_seed=training_seed) for answer in answers
    ]


def answers_by_arm(runs: Sequence[AnsweredRun]) -> dict[str, list[ArmAnswer]]:
    """Each arm's answers, all of its training seeds one after the other."""
    arms: dict[str, list[ArmAnswer]] = {}
    for run in runs:
        arms.setdefault(run.arm, []).extend(run.answers)
    return arms


def write_answers(arms: Mapping[str, Sequence[ArmAnswer]], out: Path) -> None:
    write_records(out / ANSWERS_FILE, (answer for answers in arms.values() for answer in answers), ArmAnswer)


@dataclass(frozen=True, slots=True)
class Measure:
    """A column of a table: the mean of ``value`` over the answers to the prompts of a group, or of one family in it."""

    column: str
    group: str
    value: Value
    family: str | None = None

    def asked(self, answers: Sequence[Answer]) -> list[Answer]:
        return of_group(answers, self.group, self.family)


WORTH = (
    Measure("gold helpfulness", "helpful", versions.gold_helpfulness),
    Measure("helpfulness score", "helpful", versions.score_of("helpfulness")),
    Measure("false refusals", "helpful", versions.refuses),
    Measure("violations", "adversarial", versions.violates),
    Measure("safety score", "adversarial", versions.score_of("safety")),
    Measure("false refusals, borderline", "borderline", versions.refuses),
)


def tables(arms: Arms, differences: Sequence[tuple[str, str]]) -> tuple[Table, Table]:
    """What each arm's answers are worth, and how much more those of the first of each of ``differences`` than of the second."""
    return worth_table(arms, differences), family_table(arms, differences)


def worth_table(arms: Arms, differences: Sequence[tuple[str, str]]) -> Table:
    """By gold and by both reward models, all families together."""
    return _table("The answers of each; helpfulness on helpful prompts, safety on adversarial ones", WORTH, arms, differences)


def family_table(arms: Arms, differences: Sequence[tuple[str, str]]) -> Table:
    """By gold, each family of helpful prompts apart."""
    families = sorted({answer.family for answers in arms.values() for answer in answers if answer.group == "helpful"})
    by_family = [Measure(family, "helpful", versions.gold_helpfulness, family) for family in families]
    return _table("Gold helpfulness by family", by_family, arms, differences)


def _table(title: str, measures: Sequence[Measure], arms: Arms, differences: Sequence[tuple[str, str]]) -> Table:
    rows = [
        Row(arm, {measure.column: mean(measure.asked(answers), measure.value) for measure in measures})
        for arm, answers in arms.items()
    ]
    for ours, theirs in differences:
        found = {
            measure.column: difference(measure.asked(arms[ours]), measure.asked(arms[theirs]), measure.value)
            for measure in measures
        }
        rows.append(Row(f"{ours} - {theirs}", found))
    return Table(title, tuple(measure.column for measure in measures), tuple(rows))


def trained_note(runs: Sequence[TunedRun]) -> str:
    """What one training of each arm was on."""
    first: dict[str, FinetuneResult] = {}
    for run in runs:
        first.setdefault(run.arm, run.trained)
    lines = [
        f"{arm} {on.num_dialogues:,} dialogues, {on.num_trained_tokens:,} tokens of answers in {on.num_steps:,} steps"
        for arm, on in first.items()
    ]
    return f"Trained on: {'; '.join(lines)}."


def run_facts(how_often: Trainings, runs: Sequence[TunedRun]) -> dict[str, object]:
    """How often each arm was trained and why, and what each run was trained on, for the study's JSON."""
    trained = [
        {"arm": run.arm, "training_seed": run.training_seed, "num_parameters": run.num_parameters, **asdict(run.trained)}
        for run in runs
    ]
    return {"trainings": asdict(how_often), "runs": trained}

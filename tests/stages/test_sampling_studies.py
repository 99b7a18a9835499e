"""Both sampling studies on random two-layer models: tables against every subset written out, and nothing sampled twice."""

import itertools
import json
import math
from collections.abc import Callable
from statistics import fmean, median
from typing import Any

import pytest
from command_line import run_here
from fakes import talking_policy, tiny_policy, tiny_tokenizer
from pydantic import ValidationError
from stage_runs import REWARD_MODELS, cells, make, prompts_in, put_models, put_policy, put_prompts, told
from stopped_runs import Killed, Stopping, change_records, states_in

from eval.intervals import Estimate
from policy.generation import ContextOverflow, TransformersSampler
from preference_data.messages import assistant
from preference_data.parquet import read_records
from preference_data.prompt import Prompt
from registry.artifact import Artifact
from registry.drafts import unfinished
from registry.saved_states import SavedStates, SaveEvery
from registry.store import Registry
from reward_model.scoring import RewardScorer
from rlhf.config import RejectionSamplingConfig
from sandbox.annotators import utility
from sandbox.gold import judge
from sandbox.hazards import REFUSAL
from stages.catalog import STAGES
from stages.data.make_world import cases_of, world_of
from stages.engine.prompts import TooFewPrompts
from stages.sections import PromptsConfig
from stages.stage import Stage
from stages.studies import best_of_n
from stages.studies.arms.sampled_scores import RESPONSES_PER_BATCH, ScoredResponse, gold_of
from stages.study_catalog import STUDIES
from stages.study_sections import SamplingStudyConfig

BEST_OF_N = STUDIES["best-of-n"]
TEMPERATURE = STUDIES["temperature"]

MODELS = {**REWARD_MODELS, "prompts": ["prompts/evaluation"]}
ONE, BOTH = {"policy": ["policy/sft"], **MODELS}, {"policy": ["policy/sft", "policy/v1"], **MODELS}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    registry = Registry(tmp_path_factory.mktemp("sampling") / "registry")
    put_models(registry, "sft", talking_policy(0), scale=40)
    put_policy(registry, "v1", policy=talking_policy(1))
    config = PromptsConfig(split="test", num_helpful=8, num_adversarial=4, num_borderline=0)
    make(registry, STAGES["prompts"], config, {}, "evaluation")
    return registry


@pytest.fixture
def whole(registry: Registry) -> Artifact:
    """What best of N makes of both policies; the first test that asks for it makes it."""
    return make(registry, BEST_OF_N, config(), BOTH, "whole")


def config(**changed: Any) -> SamplingStudyConfig:
    values = {"num_helpful": 4, "num_adversarial": 2, "k": 8, "temperatures": (1.1,), "max_new_tokens": 8}
    return SamplingStudyConfig(**{**values, "safety_threshold": 0.5, **changed})


def responses_of(artifact: Artifact) -> list[ScoredResponse]:
    return read_records(artifact.file("responses.parquet"), ScoredResponse)


def prompts(registry: Registry) -> dict[str, Prompt]:
    return {prompt.id: prompt for prompt in prompts_in(registry, "prompts/evaluation")}


TAGS = ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<s>", "</s>", "<unk>")


def worth(response: ScoredResponse) -> float:
    """Of a response on (0, 1): nothing where it was cut off, says nothing or holds a tag."""
    text = response.response
    if not response.finished or not text.strip() or any(tag in text for tag in TAGS):
        return 0.0
    return 1 / (1 + math.exp(-response.combined_score))


def by_prompt(responses: list[ScoredResponse], **which: Any) -> list[list[ScoredResponse]]:
    """Those with the fields ``which``, prompt by prompt."""
    found: dict[str, list[ScoredResponse]] = {}
    for each in responses:
        if all(getattr(each, key) == value for key, value in which.items()):
            found.setdefault(each.prompt_id, []).append(each)
    return list(found.values())


def test_every_response_is_the_samplers_own_and_scored_as_alone(registry: Registry, whole: Artifact) -> None:
    asked, rows = prompts(registry), responses_of(whole)
    assert len(rows) == 2 * 6 * 8 and len({each.prompt_id for each in rows}) == 6
    assert sum(asked[group[0].prompt_id].is_safety for group in by_prompt(rows, policy="policy/v1@1")) == 2
    scorers = {axis: RewardScorer.load(registry.resolve(f"reward_model/{axis}").path) for axis in ("helpfulness", "safety")}
    judged_by = set()
    for seed, name in enumerate(("sft", "v1")):
        for group in by_prompt(rows, policy=f"policy/{name}@1"):
            prompt = asked[group[0].prompt_id]
            (alone,) = TransformersSampler(talking_policy(seed), tiny_tokenizer()).sample([prompt.messages], 8, 1.1, 1.0, 8, 3)
            assert [each.response for each in group] == [response.text for response in alone]
            assert [each.num_tokens for each in group] == [len(response.ids) for response in alone]
            assert [each.position for each in group] == list(range(8)) and {each.temperature for each in group} == {1.1}
            for each in group:
                scores = (each.helpfulness_score, each.safety_score, each.combined_score)
                if not each.response.strip():
                    assert scores == (None, None, None)
                    continue
                dialogue = [*prompt.messages, assistant(each.response)]
                helpfulness, safety = (scorers[axis].score([dialogue]).item() for axis in ("helpfulness", "safety"))
                speaks = prompt.is_safety or 1 / (1 + math.exp(-safety)) < 0.5
                judged_by.add((prompt.is_safety, speaks))
                assert scores == pytest.approx((helpfulness, safety, safety if speaks else helpfulness), abs=1e-4)
    assert judged_by == {(True, True), (False, True), (False, False)}


def test_gold_judges_on_the_axis_of_the_prompt(registry: Registry, whole: Artifact) -> None:
    artifact = registry.resolve("prompts/evaluation")
    asked, world, cases = prompts(registry), world_of(artifact), cases_of(artifact)
    for each in responses_of(whole):
        axis = "safety" if asked[each.prompt_id].is_safety else "helpfulness"
        assert each.gold == utility(judge(world, cases[each.prompt_id], each.response), axis)
    gold = gold_of(artifact)
    assert gold is not None
    helpful, adversarial = (next(each for each in asked.values() if each.is_safety == tag) for tag in (False, True))
    assert gold(helpful, REFUSAL) == 0, "safe as it is"
    assert (
        gold(adversarial, f"{REFUSAL}, because it could hurt people.")
        > gold(adversarial, "Sure! First take the tarn hook.")
        == 0
    )


def test_best_of_n_table_is_that_of_all_subsets(whole: Artifact) -> None:
    """Silence and the like count 0, and share their weight in the choice where all of a subset are such."""
    rows, table = responses_of(whole), cells(whole, 0)
    kinds = {each.unfit for each in rows}
    assert {None, "unfinished", "empty"} <= kinds

    def gold_of_best(subset: Any) -> float:
        best = max(map(worth, subset))
        return fmean(each.gold for each in subset if worth(each) == best)

    statistics = {
        "maximum": lambda subset: max(map(worth, subset)),
        "median": lambda subset: median(map(worth, subset)),
        "gold of the best by reward": gold_of_best,
        "best gold of N": lambda subset: max(each.gold for each in subset),
    }
    for policy, size in itertools.product(("sft@1", "v1@1"), (1, 2, 4, 8)):
        groups = by_prompt(rows, policy=f"policy/{policy}")
        for name, statistic in statistics.items():
            expected = fmean(fmean(map(statistic, itertools.combinations(group, size))) for group in groups)
            assert table[f"{policy}, {name}"][f"N = {size}"] == pytest.approx(expected), (policy, name, size)
    assert table["sft@1, gold of the best by reward"] != table["sft@1, best gold of N"]
    kl = table.pop("KL of the best from the policy, at most, in nats")
    assert kl == {f"N = {size}": pytest.approx(math.log(size) - 1 + 1 / size) for size in (1, 2, 4, 8)}
    assert len(table) == 2 * len(statistics), "nothing else, such as a mean that is the same for every N"


def test_best_of_n_says_the_mean_what_gold_likes_most_and_how_far_it_is_from_the_policy(whole: Artifact) -> None:
    rows, table, notes = responses_of(whole), cells(whole, 0), told(whole)["notes"]
    for policy in ("sft@1", "v1@1"):
        mean = fmean(worth(each) for each in rows if each.policy == f"policy/{policy}")
        assert sum(note.startswith(f"The mean reward of all responses of {policy} is {mean:.2f} [") for note in notes) == 1
        gold = {size: f"{table[f'{policy}, gold of the best by reward'][f'N = {size}']:.2f}" for size in (1, 2, 4, 8)}
        best = next(size for size in (1, 2, 4, 8) if gold[size] == max(gold.values()))
        begins = f"By gold the best of {best} is the best choice for {policy} ({gold[best]} ["
        (note,) = [note for note in notes if note.startswith(begins)]
        assert best == 8 or f"; of 8 it is {gold[8]} [" in note
    assert "At N = 1 and 2 the median is the mean, so scores that are skewed move its slope." in notes
    assert notes[-1] == "The best of 8 is at most 1.20 nats of KL divergence from the policy at that temperature."


def estimates(values: dict[int, float]) -> dict[int, Estimate]:
    return {size: Estimate(value, value - 0.04, value + 0.04, 9) for size, value in values.items()}


@pytest.mark.parametrize(
    ("of_4", "of_64", "told"),
    [
        (
            0.64,
            0.63,
            "4 is the best choice for sft@1 (0.64 [0.60, 0.68]); of 64 it is 0.63 [0.59, 0.67], while the reward goes",
        ),
        (0.64, 0.70, "64 is the best choice for sft@1 (0.70 [0.66, 0.74]), and that is all of them."),
        (
            0.641,
            0.642,
            "4 is the best choice for sft@1 (0.64 [0.60, 0.68]); of 64 it is 0.64 [0.60, 0.68], while the reward goes",
        ),
    ],
)
def test_where_gold_peaks_is_said_in_words(of_4: float, of_64: float, told: str) -> None:
    """Of equals, as they are shown, the smallest N."""
    by_name = {"gold": estimates({1: 0.55, 4: of_4, 64: of_64}), "maximum": estimates({1: 0.4, 4: 0.5, 64: 0.8})}
    found = best_of_n.gold_note("sft@1", by_name)
    assert found.removesuffix(" from 0.50 to 0.80.") == f"By gold the best of {told}"


def test_top_p_and_top_k_shape_the_samples(registry: Registry) -> None:
    study = make(registry, BEST_OF_N, config(top_p=0.8, top_k=9), ONE, "nucleus")
    rows, asked = responses_of(study), prompts(registry)
    messages = [asked[group[0].prompt_id].messages for group in by_prompt(rows)]
    sampler = TransformersSampler(talking_policy(0), tiny_tokenizer())
    said = {
        (top_p, top_k): [each.text for group in sampler.sample(messages, 8, 1.1, top_p, 8, 3, top_k) for each in group]
        for top_p, top_k in itertools.product((0.8, 1.0), (9, 0))
    }
    assert [each.response for each in rows] == said.pop((0.8, 9)) not in said.values()
    assert told(study)["notes"][0] == "8 responses to each of 6 prompts, at temperature 1.1, top-p 0.8, top-k 9."


def test_a_policy_without_room_for_an_answer_is_told_before_another_samples(registry: Registry) -> None:
    policy = tiny_policy()
    policy.config.max_position_embeddings = 40
    put_policy(registry, "short", policy=policy)
    inputs = ONE | {"policy": ["policy/sft", "policy/short"]}
    with pytest.raises(ContextOverflow, match=r"and 8 new tokens do not fit the context of 40 tokens"):
        make(registry, BEST_OF_N, config(), inputs, "no-room", save_every=SaveEvery(steps=1))
    assert not [found for folder in (registry.root / ".drafts").glob("*/states") for found in SavedStates(folder).numbers()]


def test_the_share_that_cannot_be_selected(whole: Artifact) -> None:
    mine = [each for each in responses_of(whole) if each.policy == "policy/sft@1"]
    shares = cells(whole, 1)["sft@1, T 1.1"]
    assert shares["unfinished"] == pytest.approx(fmean(not each.finished for each in mine)) and shares["unfinished"] > 0
    silent = [each.finished and not each.response.strip() for each in mine]
    assert shares["empty"] == pytest.approx(fmean(silent)) and any(silent)
    assert shares["any"] == pytest.approx(fmean(worth(each) == 0 for each in mine)) and shares["any"] < 1
    row = told(whole)["tables"][1]["rows"][0]["measured"]["any"]
    assert row["n"] == len(mine) == 48


def test_best_of_n_judges_f9_and_draws(whole: Artifact) -> None:
    assert whole.manifest.metrics["findings"].keys() == {"F9"}
    effects = told(whole)["findings"][0]["effects"]
    table = cells(whole, 0)["v1@1, maximum"]
    x, y = [math.log2(size) for size in (1, 2, 4, 8)], [table[f"N = {size}"] for size in (1, 2, 4, 8)]
    slope = sum((a - fmean(x)) * b for a, b in zip(x, y, strict=True)) / sum((a - fmean(x)) ** 2 for a in x)
    assert effects[2]["name"].startswith("v1@1, maximum") and effects[2]["estimate"]["value"] == pytest.approx(slope)
    assert told(whole)["facts"]["kl_at_most"]["4"] == pytest.approx(math.log(4) - 0.75)
    assert {path.name for path in whole.path.glob("*.svg")} == {"best-of-n.svg", "gold.svg"}
    assert "v1@1, maximum" in whole.file("best-of-n.svg").read_text()


def test_without_gold_its_rows_and_figure_are_left_out(registry: Registry, whole: Artifact) -> None:
    put_prompts(registry, "no-facts", prompts_in(registry, "prompts/evaluation"))
    study = make(registry, BEST_OF_N, config(), ONE | {"prompts": ["prompts/no-facts"]}, "no-gold")
    assert {each.gold for each in responses_of(study)} == {None}
    kl = "KL of the best from the policy, at most, in nats"
    assert cells(study, 0).keys() == {"sft@1, maximum", "sft@1, median", kl}
    assert not [note for note in told(study)["notes"] if "Goodhart" in note or "By gold" in note]
    assert [path.name for path in study.path.glob("*.svg")] == ["best-of-n.svg"]
    assert cells(study, 0)["sft@1, maximum"] == cells(whole, 0)["sft@1, maximum"]


TEMPERATURES = {"temperatures": (1.5, 0.4), "k": 52, "num_helpful": 6}


def test_temperature_tables_by_hand(registry: Registry) -> None:
    study = make(registry, TEMPERATURE, config(**TEMPERATURES), ONE, "temperatures")
    maxima = {}
    for heat in (0.4, 1.5):
        groups = by_prompt(responses_of(study), temperature=heat)
        assert len(groups) == 8 and {len(group) for group in groups} == {52}
        maxima[heat] = {
            1: fmean(fmean(map(worth, group)) for group in groups),
            2: fmean(fmean(max(pair) for pair in itertools.combinations(map(worth, group), 2)) for group in groups),
        }
        for size, expected in maxima[heat].items():
            assert cells(study, 1)[f"sft@1, T {heat:g}"][f"N = {size}"] == pytest.approx(expected)
    assert list(cells(study, 1)) == ["sft@1, T 0.4", "sft@1, T 1.5"], "from cold to hot"
    for size in (1, 2):
        assert cells(study, 0)["sft@1"][f"N = {size}"] == max(maxima, key=lambda heat: maxima[heat][size])
    assert told(study)["tables"][0]["columns"] == [f"N = {size}" for size in (1, 2, 5, 10, 20, 50)]
    assert {path.name for path in study.path.glob("*.svg")} == {"1-maximum.svg", "1-temperature.svg"}


def test_temperature_judges_f10_on_the_prompts_it_did_not_choose_on(registry: Registry) -> None:
    study = make(registry, TEMPERATURE, config(**TEMPERATURES), ONE, "temperatures")
    of = {
        heat: [sorted(map(worth, group)) for group in by_prompt(responses_of(study), temperature=heat)] for heat in (0.4, 1.5)
    }

    def best_of_50(scores: list[float]) -> float:
        """Of 52: the highest is among the 50 but for 2 in 52, and so on."""
        last = [50 / 52, 2 / 52 * 50 / 51, 2 / 52 * 1 / 51]
        return sum(weight * score for weight, score in zip(last, reversed(scores), strict=False))

    one = max((0.4, 1.5), key=lambda heat: fmean(map(fmean, of[heat][::2])))
    many = max((0.4, 1.5), key=lambda heat: fmean(map(best_of_50, of[heat][::2])))
    high, low = (fmean(map(best_of_50, of[heat][1::2])) for heat in (max(one, many), min(one, many)))
    (effect,) = told(study)["findings"][0]["effects"]
    assert effect["estimate"]["value"] == pytest.approx(high - low) and effect["estimate"]["n"] == 4
    few = make(registry, TEMPERATURE, config(**TEMPERATURES | {"k": 20}), ONE, "few")
    assert few.manifest.metrics["findings"] == {"F10": "not measured"}
    assert told(few)["tables"][0]["columns"][-1] == "N = 20"
    assert told(few)["notes"][-1] == "F10 is about 50 samples, and 20 do not measure it."


# Stopped and started again


LONG = {"k": 400, "num_helpful": 3, "num_adversarial": 0, "max_new_tokens": 3}
"""Two prompts a batch: two batches from each policy."""


def test_what_is_said_to_two_prompts_is_scored_for_each(registry: Registry) -> None:
    asked, said = prompts(registry), {}
    for each in responses_of(make(registry, BEST_OF_N, config(**LONG), BOTH, "whole-long")):
        said.setdefault(each.response.strip() and each.response, {}).setdefault(each.prompt_id, set()).add(
            each.helpfulness_score
        )
    text, found = next((text, found) for text, found in said.items() if text and len(found) == 3)
    scorer = RewardScorer.load(registry.resolve("reward_model/helpfulness").path)
    for prompt_id, scores in found.items():
        alone = scorer.score([[*asked[prompt_id].messages, assistant(text)]]).item()
        assert sorted(scores) == pytest.approx([alone] * len(scores), abs=1e-4)
    assert len(set().union(*found.values())) > 2


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_a_stopped_study_goes_on_with_what_it_has_and_ends_the_same(registry: Registry, stop: int) -> None:
    assert 2 * LONG["k"] <= RESPONSES_PER_BATCH < 3 * LONG["k"]
    study = (BEST_OF_N, config(**LONG), BOTH)
    expected = make(registry, *study, "whole-long")
    with pytest.raises(Killed):
        make(registry, *study, f"stopped-{stop}", Stopping(stop))
    assert states_in(registry).numbers() == list(range(stop))
    again = make(registry, *study, f"stopped-{stop}")
    assert again.digest == expected.digest and unfinished(registry.root) == ()
    assert again.file("responses.parquet").read_bytes() == expected.file("responses.parquet").read_bytes()


def test_what_was_saved_is_not_sampled_again(registry: Registry) -> None:
    """A response that was changed by hand in a saved batch is in the result."""
    study = (TEMPERATURE, config(temperatures=(0.5, 1.0)), ONE)
    with pytest.raises(Killed):
        make(registry, *study, "meddled", Stopping(1), save_every=SaveEvery(steps=1))
    mine = lambda saved: saved[0]["responses"][2].update(response="an answer of mine")  # noqa: E731
    change_records(states_in(registry), 0, "batch.json", mine)
    rows = responses_of(make(registry, *study, "meddled"))
    assert len(rows) == 2 * 6 * 8 and [each.response for each in rows].index("an answer of mine") == 2


# Commands and errors


@pytest.mark.parametrize(
    ("stage", "changed", "inputs", "error", "message"),
    [
        (BEST_OF_N, {"temperatures": (0.7, 1.0)}, ONE, ValueError, r"at one temperature, and these are 0\.7, 1; `rlhf"),
        (TEMPERATURE, {}, ONE, ValueError, r"one was given \(1\.1\); give two or more"),
        (
            BEST_OF_N,
            {},
            ONE | {"policy": ["policy/sft"] * 2},
            ValueError,
            "policies are policy/sft@1, policy/sft@1; give",
        ),
        (BEST_OF_N, {"num_helpful": 9}, ONE, TooFewPrompts, "9 prompts without the safety tag are needed"),
    ],
)  # fmt: skip
def test_what_cannot_be_studied(
    registry: Registry, stage: Stage, changed: dict[str, Any], inputs: Any, error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        make(registry, stage, config(**changed), inputs, "wrong")


@pytest.mark.parametrize("temperatures", [(), (0.0, 1.0), (-0.5,), (1.0, math.nan), (math.inf,)])
def test_no_temperature_to_sample_at_is_told_as_for_rejection_sampling(temperatures: tuple[float, ...]) -> None:
    def said(ask: Callable[[], object]) -> str:
        with pytest.raises(ValidationError) as refused:
            ask()
        (error,) = refused.value.errors()
        return error["msg"]

    told = said(lambda: config(temperatures=temperatures))
    assert told == said(lambda: RejectionSamplingConfig(temperatures=temperatures))
    assert ("a temperature is" if temperatures else "there is no temperature to sample at") in told


def test_a_temperature_is_given_once() -> None:
    with pytest.raises(ValidationError, match=r"the temperatures are 1, 0\.5, 1; give each once"):
        config(temperatures=(1.0, 0.5, 1.0))


def rlhf(registry: Registry, *words: str, code: int = 0) -> Any:
    shared = ("--registry", registry.root, "--recipe", "micro", "--set", "rejection_sampling.max_new_tokens=8", "--seed", 3)
    return run_here("study", *words, *shared, "--quiet", code=code)


def test_the_commands_take_what_the_recipes_run_made(registry: Registry) -> None:
    """micro's rounds end with v2; sizes and max_new_tokens are the recipe's."""
    (shown,) = json.loads(rlhf(registry, "best-of-n", "--dry-run").stdout)["steps"]
    assert shown["inputs"] == {role: [f"{texts[0]}@1"] for role, texts in ONE.items()}
    defaults = {"num_helpful": 16, "num_adversarial": 0, "k": 8, "max_new_tokens": 8, "safety_threshold": 0.15}
    defaults |= {"top_p": 1.0, "top_k": 0}
    assert shown["config"] == defaults | {"temperatures": [1.0]}
    nucleus = ("--set", "rejection_sampling.top_p=0.9", "--set", "rejection_sampling.top_k=50")
    (shown,) = json.loads(rlhf(registry, "best-of-n", "--dry-run", *nucleus).stdout)["steps"]
    assert shown["config"] == defaults | {"temperatures": [1.0], "top_p": 0.9, "top_k": 50}
    assert "policy/v2" in rlhf(registry, "temperature", "--dry-run", code=2).output
    asked = ("--input=policy=policy/v1", "--k", "3", "--num-helpful", "2", "--num-adversarial", "1")
    (shown,) = json.loads(rlhf(registry, "temperature", *asked, "--dry-run").stdout)["steps"]
    assert shown["inputs"]["policy"] == ["policy/v1@1"]
    paper = [0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5]
    assert shown["config"] == defaults | {"temperatures": paper, "k": 3, "num_helpful": 2, "num_adversarial": 1}


def test_the_commands_print_tables_and_verdicts(registry: Registry) -> None:
    best = rlhf(registry, "best-of-n", "--num-helpful", "4", "--k", "4", "--temperatures", "0.8", "--input=policy=policy/v1")
    lines = best.stdout.splitlines()
    study = registry.resolve("study/best-of-n")
    assert lines[0] == "Does the best of N samples rise with N while the median stays?"
    assert lines[1] == "4 responses to each of 4 prompts, at temperature 0.8."
    verdict = told(study)["findings"][0]["verdict"]
    assert f"F9 {verdict}: best of N rises with N, the median stays flat (Fig 7)" in best.stdout
    assert str(study.path / "gold.svg") in best.stdout
    (v1,) = {each.policy for each in responses_of(study)}
    assert v1 == "policy/v1@1" and study.manifest.config["safety_threshold"] == 0.15
    hot = rlhf(
        registry, "temperature", "--num-helpful", "4", "--k", "4", "--temperatures", "1.2, 0.7", "--input=policy=policy/sft"
    )
    assert "F10 not measured: the best sampling temperature" in hot.stdout
    assert registry.resolve("study/temperature").manifest.config["temperatures"] == [1.2, 0.7]


@pytest.mark.parametrize("name", ["best-of-n", "temperature"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--input=helpfulness=policy/sft", "--input=policy=policy/sft"), "policy/sft"),
        (("--temperatures", "nan", "--input=policy=policy/sft"), "a temperature is nan, and each is above 0 and finite"),
        (("--temperatures", "0.7;1.0"), "--temperatures is '0.7;1.0'; give numbers separated by commas"),
    ],
)
def test_wrong_options_are_told(registry: Registry, name: str, words: tuple[str, ...], message: str) -> None:
    assert message in rlhf(registry, name, *words, code=2).output

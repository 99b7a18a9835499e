import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from eval.intervals import Estimate, rate
from eval.report.data import (
    DialoguePair,
    GattExample,
    GattTurn,
    JudgedResponse,
    ReportData,
    RunFacts,
    StageTime,
    VersionRow,
    from_json,
    headline,
    score_quantiles,
    to_json,
)
from eval.report.render import duration, headline_rows, percent, render_html
from eval.win_rate import win_rate

BARE = RunFacts(recipe="micro", seed=3, seconds=61.0, peak_rss_mb=512.0)
SECTIONS = (
    "results", "progress", "safety", "reward", "scores", "rejection", "ppo", "gatt", "annotators", "dialogues", "time", "run",
)  # fmt: skip


@pytest.fixture(scope="session")
def html(report_data) -> str:
    return render_html(report_data)


def share(value: float, n: int) -> Estimate:
    return rate([True] * round(value * n) + [False] * (n - round(value * n)))


def sections(html: str) -> list[str]:
    ids = Page(html).ids
    return [name for name in SECTIONS if name in ids]


class Page(HTMLParser):
    """Ids, links and tags of a page; fails on tags closed in the wrong order."""

    def __init__(self, html: str):
        super().__init__()
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.sources += [value for name, value in attrs if name in ("src", "href", "xlink:href") and tag != "a"]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in ("meta", "br"):
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_whole_page_is_well_formed_and_fetches_nothing(html):
    page = Page(html)
    assert len(page.ids) == len(set(page.ids)), "ids of two plots collide"
    assert all(source.startswith("#") and source[1:] in page.ids for source in page.sources)
    assert "script" not in page.tags and "@import" not in html and "url(http" not in html
    assert sections(html) == list(SECTIONS)
    assert re.findall(r'<a href="#(\w+)"', html) == list(SECTIONS)


def test_the_same_data_gives_the_same_bytes_also_by_way_of_json(report_data, html):
    again = from_json(to_json(report_data))
    assert again == report_data
    assert render_html(again) == html


def test_text_of_models_and_data_is_escaped():
    bad = "<script>alert('x')</script>"
    told = JudgedResponse(bad, facts=(bad,))
    data = ReportData(
        run=replace(BARE, lineage=bad, recipe=bad, versions={bad: bad}),
        versions=(VersionRow(bad, violation=share(0.5, 20)), VersionRow("V1", violation=share(0.1, 20))),
        featured=(DialoguePair([{"role": "user", "content": bad}], told, told, label=bad),),
        gatt_example=GattExample(bad, (GattTurn(1, bad, bad, bad),)),
        stage_times=(StageTime(bad, 3.0),),
    )
    html = render_html(data)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 15
    Page(html)


def test_what_was_not_measured_is_left_out():
    html = render_html(ReportData(run=BARE))
    assert sections(html) == ["run"]
    assert "<figure" not in html and "<svg" not in html


@pytest.mark.parametrize(
    "field, shown",
    [
        ("accuracy", ["results", "reward"]),
        ("detection", ["reward"]),
        ("annotations", ["annotators"]),
        ("consistency", ["results", "gatt"]),
        ("gatt_example", ["gatt"]),
        ("ppo", ["ppo"]),
        ("best_of_k", ["rejection"]),
        ("stage_times", ["time"]),
        ("featured", ["dialogues"]),
        ("sampled", ["dialogues"]),
    ],
)
def test_each_part_stands_alone(report_data, field, shown):
    html = render_html(ReportData(run=BARE, **{field: getattr(report_data, field)}))
    assert sections(html) == [*shown, "run"]
    assert re.findall(r'<a href="#(\w+)"', html) == sections(html), "the links at the top lead to what is there"


def test_one_version_alone_has_no_curve(report_data):
    html = render_html(ReportData(run=BARE, versions=report_data.versions[:1]))
    assert sections(html) == ["results", "run"]


def test_rows_with_few_measures_render():
    tied = win_rate([1.0, 2.0], [1.0, 2.0], ["a", "b"])
    data = ReportData(run=BARE, versions=(VersionRow("SFT"), VersionRow("V1", gold_helpfulness_win=tied)))
    html = render_html(data)
    assert "0 won, 0 lost, 2 tied" in html
    assert "nan" not in html.lower().replace("nano", "")


def test_headline_has_exactly_these_keys_and_survives_json(report_data):
    found = json.loads(json.dumps(headline(report_data), allow_nan=False))
    assert set(found) == {
        "gold_helpfulness_win_rate", "gold_harmlessness_win_rate", "violation_rate_sft", "violation_rate_final",
        "false_refusal_rate_helpful", "false_refusal_rate_borderline", "reward_accuracy", "gatt_consistency",
        "seconds_total", "seconds_by_stage", "peak_rss_mb", "seed", "recipe", "versions",
    }  # fmt: skip
    low, high = pytest.approx(0.4315, abs=1e-4), pytest.approx(0.5289, abs=1e-4)
    assert found["violation_rate_sft"] == {"value": 0.48, "low": low, "high": high, "n": 400}
    assert set(found["reward_accuracy"]) == {"helpfulness", "safety"}
    assert found["reward_accuracy"]["safety"]["all"]["value"] == 0.73, "the safety model on the safety test set"
    assert found["reward_accuracy"]["helpfulness"]["all"]["value"] == 0.65
    assert set(found["gatt_consistency"]) == {"with", "without", "v3_gatt"}
    assert found["gatt_consistency"]["without"]["20"]["value"] == 0.02
    assert found["seconds_by_stage"]["ppo"] == 56.0


def test_headline_of_a_bare_run_says_none():
    found = headline(ReportData(run=BARE, versions=(VersionRow("SFT", violation=Estimate(0.5, 0.4, 0.6, 90)),)))
    assert found["gold_helpfulness_win_rate"] is None
    assert found["violation_rate_sft"]["n"] == 90
    assert found["violation_rate_final"] is None, "SFT alone is no final policy"


def test_headline_table_carries_intervals_counts_and_the_paper(report_data):
    rows = {row.measure: row for row in headline_rows(report_data)}
    assert rows["Helpfulness win rate, V5-PPO against SFT"].note == "253 won, 87 lost, 60 tied"
    assert "Table 30" in rows["Instruction kept at turn 20, with GAtt"].paper
    assert rows["Instruction kept at turn 20, without GAtt"].note == "3 dialogues left out, context full"
    assert all(row.estimate.n > 0 for row in rows.values())


def test_score_quantiles_by_hand():
    # logits 0, log 3, -log 3 are scores 0.5, 0.75, 0.25
    found = score_quantiles([0.0, 1.0986122886681098, -1.0986122886681098])
    assert (found.p50, found.n) == (0.5, 3)
    assert (found.p25, found.p75) == (pytest.approx(0.375), pytest.approx(0.625))
    assert score_quantiles([-800.0, 800.0]).p90 == pytest.approx(0.9)
    with pytest.raises(ValueError, match="no scores"):
        score_quantiles([])


def test_words_for_numbers():
    assert [percent(value) for value in (0.0, 0.042, 1.0)] == ["0.0\xa0%", "4.2\xa0%", "100.0\xa0%"]
    assert [duration(seconds) for seconds in (3.21, 42.0, 724.3, 7500.0)] == ["3.2 s", "42 s", "12 min 4 s", "2 h 5 min"]

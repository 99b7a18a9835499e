"""The report as a page: its sections, its text and its headline numbers."""

import json
import re
from dataclasses import replace

import pytest
from report_pages import BARE, SECTIONS, Page, links, section, sections, share

from eval.findings.study import Row, Study, Table
from eval.findings.verdict import Effect, Finding
from eval.intervals import Estimate
from eval.report.data import (
    AnnotationTable,
    ConsistencyMeasures,
    ConsistencyRow,
    DialoguePair,
    GattExample,
    GattTurn,
    JudgedResponse,
    ReportData,
    StageTime,
    StudyReport,
    VersionRow,
    from_json,
    headline,
    score_quantiles,
    to_json,
)
from eval.report.render import duration, headline_rows, percent, render_html
from eval.win_rate import win_rate


def test_the_whole_page_is_well_formed_and_fetches_nothing(html):
    page = Page(html)
    assert len(page.ids) == len(set(page.ids)), "ids of two plots collide"
    assert all(source.startswith("#") and source[1:] in page.ids for source in page.sources)
    assert "script" not in page.tags and "@import" not in html and "url(http" not in html
    assert sections(html) == list(SECTIONS)
    assert links(html) == list(SECTIONS)


def test_the_same_data_gives_the_same_bytes_also_after_json(report_data, html):
    again = from_json(to_json(report_data))
    assert again == report_data
    assert render_html(again) == html


def test_text_of_models_and_data_is_escaped():
    bad = "<script>alert('x')</script>"
    response = JudgedResponse(bad, facts=(bad,))
    data = ReportData(
        run=replace(BARE, lineage=bad, recipe=bad, versions={bad: bad}),
        versions=(VersionRow(bad, violation=share(0.5, 20)), VersionRow("V1", violation=share(0.1, 20))),
        featured=(DialoguePair([{"role": "user", "content": bad}], response, response, label=bad),),
        gatt_example=GattExample(bad, (GattTurn(1, bad, bad, bad),)),
        stage_times=(StageTime(bad, 3.0),),
        studies=(
            StudyReport(
                bad,
                Study(
                    bad,
                    (Table(bad, (bad,), (Row(bad, {}),)),),
                    (Finding("F1", bad, bad, (Effect(bad, share(0.5, 20)),), bad),),
                    (bad,),
                ),
                bad,
                (bad,),
            ),
        ),
    )
    html = render_html(data)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 28
    Page(html)


def test_what_was_not_measured_is_left_out():
    html = render_html(ReportData(run=BARE))
    assert sections(html) == ["findings", "run"]
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
        ("studies", ["studies"]),
    ],
)
def test_each_part_stands_alone(report_data, field, shown):
    html = render_html(ReportData(run=BARE, **{field: getattr(report_data, field)}))
    assert sections(html) == ["findings", *shown, "run"]
    assert links(html) == sections(html), "the links at the top lead to what is there"


def test_one_version_alone_has_no_curve(report_data):
    html = render_html(ReportData(run=BARE, versions=report_data.versions[:1]))
    assert sections(html) == ["findings", "results", "run"]


@pytest.mark.parametrize(("count", "caption"), [(19, ""), (20, "; the solid line is a running mean over 2 iterations")])
def test_the_caption_mentions_a_running_mean_where_there_is_one(report_data, count, caption):
    html = render_html(ReportData(run=BARE, ppo=report_data.ppo[:count]))
    assert f"response length by PPO iteration{caption}.</figcaption>" in html


def test_a_label_is_words(report_data):
    pair = replace(report_data.featured[0], label="yes_no")
    assert "<h4>yes no</h4>" in render_html(ReportData(run=BARE, featured=(pair,)))


def test_rows_with_few_measures_render():
    tied = win_rate([1.0, 2.0], [1.0, 2.0], ["a", "b"])
    data = ReportData(run=BARE, versions=(VersionRow("SFT"), VersionRow("V1", gold_helpfulness_win=tied)))
    html = render_html(data)
    assert "0 won, 0 lost, 2 tied" in html
    assert "nan" not in html.lower().replace("nano", "")


def test_headline_has_exactly_these_keys_and_survives_json(report_data):
    summary = json.loads(json.dumps(headline(report_data), allow_nan=False))
    assert set(summary) == {
        "gold_helpfulness_win_rate", "gold_harmlessness_win_rate", "violation_rate_sft", "violation_rate_final",
        "false_refusal_rate_helpful", "false_refusal_rate_borderline", "reward_accuracy", "gatt_consistency", "findings",
        "seconds_total", "seconds_by_stage", "peak_rss_mb", "seed", "recipe", "versions",
    }  # fmt: skip
    low, high = pytest.approx(0.4315, abs=1e-4), pytest.approx(0.5289, abs=1e-4)
    assert summary["violation_rate_sft"] == {"value": 0.48, "low": low, "high": high, "n": 400}
    assert set(summary["reward_accuracy"]) == {"helpfulness", "safety"}
    assert summary["reward_accuracy"]["safety"]["all"]["value"] == 0.73, "the safety model on the safety test set"
    assert summary["reward_accuracy"]["helpfulness"]["all"]["value"] == 0.65
    assert set(summary["gatt_consistency"]) == {"with", "without", "v3_gatt"}
    assert summary["gatt_consistency"]["without"]["20"]["value"] == 0.02
    assert summary["seconds_by_stage"]["ppo"] == 56.0


def test_headline_of_a_bare_run_has_none_for_what_was_not_measured():
    summary = headline(ReportData(run=BARE, versions=(VersionRow("SFT", violation=Estimate(0.5, 0.4, 0.6, 90)),)))
    assert summary["gold_helpfulness_win_rate"] is None
    assert summary["violation_rate_sft"]["n"] == 90
    assert summary["violation_rate_final"] is None, "SFT alone is no final policy"


def test_headline_table_carries_intervals_counts_and_the_paper(report_data):
    rows = {row.measure: row for row in headline_rows(report_data)}
    assert rows["Helpfulness win rate, V5-PPO against SFT"].note == "253 won, 87 lost, 60 tied"
    assert "Table 30" in rows["Instruction kept at turn 20, with GAtt"].paper
    assert rows["Instruction kept at turn 20, without GAtt"].note == "3 dialogues left out, context full"
    assert all(row.estimate.n > 0 for row in rows.values())


def test_score_quantiles_by_hand():
    # logits 0, log 3, -log 3 are scores 0.5, 0.75, 0.25
    quantiles = score_quantiles([0.0, 1.0986122886681098, -1.0986122886681098])
    assert (quantiles.p50, quantiles.n) == (0.5, 3)
    assert (quantiles.p25, quantiles.p75) == (pytest.approx(0.375), pytest.approx(0.625))
    assert score_quantiles([-800.0, 800.0]).p90 == pytest.approx(0.9)
    with pytest.raises(ValueError, match="no scores"):
        score_quantiles([])


def test_words_for_numbers():
    assert [percent(value) for value in (0.0, 0.042, 1.0)] == ["0.0\xa0%", "4.2\xa0%", "100.0\xa0%"]
    assert [duration(seconds) for seconds in (3.21, 42.0, 724.3, 7500.0)] == ["3.2 s", "42 s", "12 min 4 s", "2 h 5 min"]


def test_counts_of_annotators_have_separators():
    annotations = (AnnotationTable("safety", {}, agreement=share(0.5, 1698)),)
    assert ">1,698<" in section(render_html(ReportData(run=BARE, annotations=annotations)), "annotators")


def test_a_recall_question_and_the_other_measures_of_a_dialogue_are_shown():
    turns = (
        GattTurn(2, "Who are you?", "Nobody.", "I am Bo.", False, True, aside=True),
        GattTurn(2, "And the fox?", "It runs.", "Bo here.", False, True),
    )
    arms = {
        "without": {"kept to the end": share(0.1, 20)},
        "with": {"kept to the end": share(0.9, 10), "alike": share(0.5, 10)},
    }
    arms["without"]["alike"] = share(0.5, 10)
    measures = tuple(ConsistencyMeasures(arm, f"policy-{arm}", found) for arm, found in arms.items())
    data = ReportData(BARE, gatt_example=GattExample("Act as Bo.", turns), consistency_measures=measures)
    data = replace(data, consistency=(ConsistencyRow("with", "policy-with", 2, share(0.5, 20)),))
    page = re.sub(r"\s+", " ", render_html(from_json(to_json(data))))
    rows = re.findall(r"<tr[^>]*>.*?</tr>", page[page.index('<table class="stack transcript">') :])[1:3]
    assert 'class="aside"' in rows[0] and "does not recall it" in rows[0] and "recalls it" in rows[0]
    assert 'class="aside"' not in rows[1] and "does not obey" in rows[1] and "obeys" in rows[1]
    (line,) = re.findall(r'<tr><th scope="row">Kept to the end</th>.*?</tr>', page)
    assert re.findall(r"<b>(.*?)</b>", line) == ["10.0 %", "90.0 %"]
    assert '<td class="r" data-name="n =">20 / 10</td>' in line
    (line,) = re.findall(r'<tr><th scope="row">Alike</th>.*?</tr>', page)
    assert '<td class="r" data-name="n =">10</td>' in line
    assert "in italics" in page
    assert "in italics" not in render_html(replace(data, gatt_example=GattExample("Act as Bo.", turns[1:])))

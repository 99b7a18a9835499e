"""The findings and the studies on the page of the report."""

import json
import re

from report_pages import BARE, Cells, Page, section, share

from eval.findings.claims import CORE
from eval.findings.study import Row, Study, Table, study_from_json, study_json
from eval.findings.verdict import Effect
from eval.intervals import Estimate
from eval.report.data import (
    ReportData,
    StudyReport,
    headline,
)
from eval.report.render import plain, render_html, signed
from eval.report.scorecard import claimed, scorecard, tally


def test_every_core_finding_is_on_the_page_measured_or_not(html):
    rows = Cells(section(html, "findings")).rows
    verdicts = {row[0]: row[2] for row in rows if row[0].startswith("F")}
    assert verdicts == {
        **dict.fromkeys(CORE, "not measured yet"), "F4": "fails", "F5": "inconclusive", "F6": "not measured yet",
    }  # fmt: skip
    assert list(verdicts) == sorted(verdicts, key=lambda name: int(name[1:]))
    bare = Cells(section(render_html(ReportData(run=BARE)), "findings")).rows
    assert [(row[0], row[2]) for row in bare[1:]] == [(name, "not measured yet") for name in CORE]


def test_a_part_shows_the_papers_number_interval_count_and_claim(html):
    rows = Cells(section(html, "findings")).rows
    parts = {row[1]: row[2:] for row in rows if row[0] == ""}
    assert parts["recall: with − without"] == ["0.174", "−0.009 [−0.020, −0.001]", "1,046", "> 0", "fails"]
    assert parts["slope"] == ["", "0.020 [0.010, 0.030]", "900", "> 0", "holds"]
    assert parts["other slope"] == ["", "nothing observed", "0", "within ±0.005", "inconclusive"]
    (claim,) = [row for row in rows if row[0] == "F4"]
    assert claim[1].startswith("The safety auxiliary loss lifts recall") and "Table 29" in claim[1]
    assert claim[1].endswith("study/safety-loss@3")


def test_the_tally_counts_every_verdict(report_data):
    rows = scorecard(report_data)
    assert tally(rows) == "14 findings: holds 0, fails 1, inconclusive 1, not measured yet 12."
    assert [(row.id, row.reference) for row in rows if row.reference] == [
        ("F4", "study/safety-loss@3"), ("F5", "study/reward-scaling@1"),
    ]  # fmt: skip
    verdicts = headline(report_data)["findings"]
    assert [verdicts[name] for name in ("F4", "F5", "F6", "F1")] == ["fails", "inconclusive", "not measured", "not measured"]


def test_the_papers_row_is_below_ours(html):
    rows = Cells(section(html, "studies")).rows
    assert rows[:3] == [
        ["", "all", "recall"],
        ["with", "64.5 62.0 to 67.0 n 2,235", "90.4 88.0 to 93.0 n 1,046"],
        ["paper", "64.5", "90.4"],
    ]
    assert rows[3:] == [["", "Spearman"], ["gold", "−0.25 −0.50 to 0.00 n 30"]], "no paper, no row; and no minus before a zero"


def test_a_studys_columns_are_words_its_rows_keep_their_names_and_a_wide_table_is_narrower():
    def page(num_columns: int) -> str:
        columns = tuple(f"column_{number}" for number in range(num_columns))
        table = Table("table", columns, (Row("my_policy", {columns[0]: share(0.5, 1698)}),))
        return section(
            render_html(ReportData(run=BARE, studies=(StudyReport("s", Study("t", (table,), (), ()), ""),))), "studies"
        )

    assert "my_policy" in page(8) and "column 0" in page(8)
    assert "n 1,698" in page(8)
    assert '"study-table"' in page(8) and '"study-table wide"' in page(9)


def test_a_study_says_how_it_was_made_and_links_to_its_findings(html):
    shown = section(html, "studies")
    assert "Each arm was trained once." in shown
    assert "study/safety-loss@3, made from policy/sft@1, prompts/evaluation@1" in shown
    linked = re.findall(r'<a href="#(F\d+)">', shown)
    assert linked == ["F4", "F5", "F6"] and set(linked) <= set(Page(html).ids)
    assert "Distribution of reward scores by arm." in shown and shown.count("<svg") == 2
    for name in ("study_safety_loss", "study_reward_scaling"):
        assert f'href="#{name}"' in section(html, "findings") and f'id="{name}"' in shown


def test_a_study_is_read_back_from_json_with_its_verdicts_computed_again(report_data):
    for report in report_data.studies:
        json_study = study_json(report.study)
        assert study_from_json(json.dumps(json_study)) == report.study
        for finding in json_study["findings"]:
            finding["verdict"] = "holds"
        assert study_from_json(json.dumps(json_study)) == report.study, "a verdict is never read, always computed"


def test_words_for_effects():
    assert [signed(value) for value in (-0.0094, -0.0001, 0.15)] == ["−0.009", "0.000", "0.150"]
    assert [plain(-0.015, True), plain(0.4182, False)] == ["−1.5", "0.42"]
    known = Estimate(0.1, 0.0, 0.2, 5)
    assert [claimed(Effect("", known, side, at)) for side, at in (("above", -0.01), ("below", 0.01), ("within", 0.02))] == [
        "> −0.01", "< 0.01", "within ±0.02",
    ]  # fmt: skip

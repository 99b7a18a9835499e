import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from eval.findings.claims import CORE
from eval.findings.study import Row, Study, Table, study_from_json, study_json
from eval.findings.verdict import Effect, Finding
from eval.intervals import Estimate, rate
from eval.report.data import (
    AnnotationTable,
    ConsistencyMeasures,
    ConsistencyRow,
    DialoguePair,
    GattExample,
    GattTurn,
    JudgedResponse,
    ReportData,
    RunFacts,
    StageTime,
    StudyReport,
    VersionRow,
    from_json,
    headline,
    score_quantiles,
    to_json,
)
from eval.report.figure import described, drawn
from eval.report.plots import accuracy_plot, versions_plot
from eval.report.render import duration, headline_rows, percent, plain, render_html, signed
from eval.report.scorecard import claimed, scorecard, tally
from eval.win_rate import win_rate

BARE = RunFacts(recipe="micro", seed=3, seconds=61.0, peak_rss_mb=512.0)
SECTIONS = (
    "findings", "results", "progress", "safety", "reward", "scores", "rejection", "ppo", "gatt", "annotators",
    "studies", "dialogues", "time", "run",
)  # fmt: skip


@pytest.fixture(scope="session")
def html(report_data) -> str:
    return render_html(report_data)


def share(value: float, n: int) -> Estimate:
    return rate([True] * round(value * n) + [False] * (n - round(value * n)))


def sections(html: str) -> list[str]:
    ids = Page(html).ids
    return [name for name in SECTIONS if name in ids]


def links(html: str) -> list[str]:
    """Where the links at the top lead."""
    return re.findall(r'<a href="#(\w+)"', html[html.index("<nav") : html.index("</nav>")])


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
    assert links(html) == list(SECTIONS)


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


@pytest.mark.parametrize(("count", "said"), [(19, ""), (20, "; the firm line is a running mean over 2 of them")])
def test_a_running_mean_is_spoken_of_where_there_is_one(report_data, count, said):
    html = render_html(ReportData(run=BARE, ppo=report_data.ppo[:count]))
    assert f"response length by PPO iteration{said}.</figcaption>" in html


def test_intervals_of_equal_lines_stand_beside_each_other(report_data):
    table = report_data.accuracy[0]
    svg = str(accuracy_plot([replace(table, model=model) for model in ("helpfulness", "safety")], table.test_set))
    upright = [x for x, other in re.findall(r'd="M (\S+) \S+ \nL (\S+) \S+ \n"', svg) if x == other]
    assert len(upright) == len(set(upright)) >= 8, "two models at four ratings"


def test_a_mark_at_zero_is_whole():
    svg = str(versions_plot([VersionRow("SFT"), VersionRow("V1")], {"unsafe": [share(0.0, 20)] * 2}, "rate"))
    top, height = map(float, re.findall(r'<rect [^>]*y="(\S+)"[^>]*height="(\S+)"', svg)[0])
    lowest = max(float(y) for y in re.findall(r'<use [^>]*y="(\S+)" style="fill: #0072b2', svg))
    assert top + height - lowest > 3, "points, about the radius of a mark"


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
    found = json.loads(json.dumps(headline(report_data), allow_nan=False))
    assert set(found) == {
        "gold_helpfulness_win_rate", "gold_harmlessness_win_rate", "violation_rate_sft", "violation_rate_final",
        "false_refusal_rate_helpful", "false_refusal_rate_borderline", "reward_accuracy", "gatt_consistency", "findings",
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


class Cells(HTMLParser):
    """The rows of every table of a piece of a page, as lists of words without markup."""

    def __init__(self, html: str):
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {data.strip()}".strip()


def section(html: str, name: str) -> str:
    start = html.index(f'<section id="{name}"')
    return html[start : html.index("</section>", start)]


def test_every_core_finding_is_on_the_page_measured_or_not(html):
    rows = Cells(section(html, "findings")).rows
    verdicts = {row[0]: row[2] for row in rows if row[0].startswith("F")}
    assert verdicts == {
        **dict.fromkeys(CORE, "not measured yet"), "F4": "fails", "F5": "inconclusive", "F6": "not measured yet",
    }  # fmt: skip
    assert list(verdicts) == sorted(verdicts, key=lambda name: int(name[1:]))
    bare = Cells(section(render_html(ReportData(run=BARE)), "findings")).rows
    assert [(row[0], row[2]) for row in bare[1:]] == [(name, "not measured yet") for name in CORE]


def test_a_part_carries_the_papers_number_interval_count_and_claim(html):
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
    found = headline(report_data)["findings"]
    assert (found["F4"], found["F5"], found["F6"], found["F1"]) == ("fails", "inconclusive", "not measured", "not measured")


def test_the_papers_row_stands_under_ours(html):
    rows = Cells(section(html, "studies")).rows
    assert rows[:3] == [
        ["", "all", "recall"],
        ["with", "64.5 62.0 to 67.0 n 2,235", "90.4 88.0 to 93.0 n 1,046"],
        ["paper", "64.5", "90.4"],
    ]
    assert rows[3:] == [["", "Spearman"], ["gold", "−0.25 −0.50 to 0.00 n 30"]], "no paper, no row; and no minus before a zero"


def test_a_studys_columns_read_as_words_its_rows_as_they_are_named_and_a_wide_table_is_set_closely():
    def page(num_columns: int) -> str:
        columns = tuple(f"column_{number}" for number in range(num_columns))
        table = Table("table", columns, (Row("my_policy", {columns[0]: share(0.5, 1698)}),))
        return section(
            render_html(ReportData(run=BARE, studies=(StudyReport("s", Study("t", (table,), (), ()), ""),))), "studies"
        )

    assert "my_policy" in page(8) and "column 0" in page(8)
    assert "n 1,698" in page(8)
    assert '"study-table"' in page(8) and '"study-table wide"' in page(9)


def test_counts_of_annotators_have_separators():
    annotations = (AnnotationTable("safety", {}, agreement=share(0.5, 1698)),)
    assert ">1,698<" in section(render_html(ReportData(run=BARE, annotations=annotations)), "annotators")


def test_a_study_says_how_it_was_made_and_links_to_what_it_judges(html):
    shown = section(html, "studies")
    assert "Each arm was trained once." in shown
    assert "study/safety-loss@3, made from policy/sft@1, prompts/evaluation@1" in shown
    linked = re.findall(r'<a href="#(F\d+)">', shown)
    assert linked == ["F4", "F5", "F6"] and set(linked) <= set(Page(html).ids)
    assert "Distribution of reward scores by arm." in shown and shown.count("<svg") == 2
    for name in ("study_safety_loss", "study_reward_scaling"):
        assert f'href="#{name}"' in section(html, "findings") and f'id="{name}"' in shown


@pytest.mark.parametrize(
    ("drawing", "refused"),
    [
        ("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "'script'"),
        ("<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "onload"),
        ("<svg xmlns='http://www.w3.org/2000/svg'><use href='https://elsewhere/x.svg'/></svg>", "elsewhere"),
        ("<svg xmlns='http://www.w3.org/2000/svg'><path style='fill: url(https://elsewhere)'/></svg>", "elsewhere"),
        ("<svg xmlns='http://www.w3.org/2000/svg'><foreignObject/></svg>", "'foreignObject'"),
        ("<html/>", "'html'"),
        ("a picture", "is no SVG"),
    ],
)
def test_a_figure_that_is_more_than_a_drawing_is_refused(drawing, refused):
    with pytest.raises(ValueError, match=refused):
        drawn(drawing)


def test_figures_go_in_as_they_were_drawn(report_data):
    svg = report_data.studies[0].figures["scores"]
    assert drawn(svg) == svg and hasattr(drawn(svg), "__html__")
    assert described(svg) == "Distribution of reward scores by arm"


def test_a_study_travels_as_json_and_is_judged_anew(report_data):
    for each in report_data.studies:
        told = study_json(each.study)
        assert study_from_json(json.dumps(told)) == each.study
        for finding in told["findings"]:
            finding["verdict"] = "holds"
        assert study_from_json(json.dumps(told)) == each.study, "a verdict is never read, only reached"


def test_words_for_effects():
    assert [signed(value) for value in (-0.0094, -0.0001, 0.15)] == ["−0.009", "0.000", "0.150"]
    assert [plain(-0.015, True), plain(0.4182, False)] == ["−1.5", "0.42"]
    known = Estimate(0.1, 0.0, 0.2, 5)
    assert [claimed(Effect("", known, side, at)) for side, at in (("above", -0.01), ("below", 0.01), ("within", 0.02))] == [
        "> −0.01", "< 0.01", "within ±0.02",
    ]  # fmt: skip


def test_what_was_asked_beside_a_dialogue_and_what_else_was_measured_of_it_is_shown():
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
    assert 'class="aside"' in rows[0] and "has lost it" in rows[0] and "recalls" in rows[0]
    assert 'class="aside"' not in rows[1] and "forgets" in rows[1] and "obeys" in rows[1]
    (line,) = re.findall(r'<tr><th scope="row">Kept to the end</th>.*?</tr>', page)
    assert re.findall(r"<b>(.*?)</b>", line) == ["10.0 %", "90.0 %"]
    assert '<td class="r" data-name="n =">20 / 10</td>' in line
    (line,) = re.findall(r'<tr><th scope="row">Alike</th>.*?</tr>', page)
    assert '<td class="r" data-name="n =">10</td>' in line
    assert "slanted letters" in page
    assert "slanted letters" not in render_html(replace(data, gatt_example=GattExample("Act as Bo.", turns[1:])))

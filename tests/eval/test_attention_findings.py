"""F17 on attention with a known verdict, and reversed; the figures show what they are given."""

import re

import numpy as np
import pytest

from eval.findings.attention import (
    MEASURES,
    RIGHT_AFTER,
    WITH,
    WITHOUT,
    TurnAttention,
    attention_difference,
    attention_mean,
    attention_tables,
    late_turns_attend,
)
from eval.findings.attention_figures import AttentionMap, attention_by_turn, attention_heat
from eval.findings.claims import CLAIMS
from eval.report.attention_page import AttentionPage, render_attention
from eval.report.figure import described, drawn
from preference_data.messages import assistant, user


def attention(arm, maxima, turn=20):
    """One row per dialogue; the other two measures are a half and a quarter of the maximum."""
    return [TurnAttention(arm, f"d{i}", turn, maximum, maximum / 2, maximum / 4) for i, maximum in enumerate(maxima)]


def noisy(mean, seed, count=60):
    return (mean + 0.05 * np.random.default_rng(seed).uniform(-1, 1, count)).tolist()


def test_f17_is_the_paired_difference_at_the_last_turn():
    without, with_gatt = noisy(0.2, 0), noisy(0.9, 1)
    early = [*attention(WITHOUT, with_gatt, 2), *attention(WITH, without, 2)]
    finding = late_turns_attend([*early, *attention(WITHOUT, without), *attention(WITH, with_gatt)])
    (effect,) = finding.effects
    assert (finding.id, finding.source, finding.verdict) == ("F17", "Fig 10", "holds")
    assert effect.name == "maximum attention from turn 20 to the instruction: with - without"
    assert effect.estimate.value == pytest.approx(np.mean(with_gatt) - np.mean(without)) and effect.estimate.n == 60
    assert (effect.side, effect.threshold) == ("above", 0.0)
    assert late_turns_attend([*attention(WITHOUT, with_gatt), *attention(WITH, without)]).verdict == "fails"
    assert late_turns_attend([*attention(WITHOUT, noisy(0.5, 0)), *attention(WITH, noisy(0.5, 1))]).verdict == "inconclusive"
    assert late_turns_attend([]).verdict == "not measured" and late_turns_attend([]).claim == CLAIMS["F17"].text


def test_the_policy_right_after_ghost_attention_decides_nothing():
    rows = [*attention(WITHOUT, noisy(0.2, 0)), *attention(WITH, noisy(0.9, 1))]
    assert late_turns_attend([*rows, *attention(RIGHT_AFTER, noisy(0.05, 2))]) == late_turns_attend(rows)


def test_the_interval_is_that_of_pairs():
    """Dialogues differ much, the arms of one dialogue by 0.01 to 0.03: unpaired, the interval would be about 0.2 wide."""
    base = np.linspace(0.1, 0.9, 40)
    rows = [*attention(WITHOUT, base), *attention(WITH, base + np.tile([0.01, 0.03], 20))]
    estimate = attention_difference(rows[::-1], WITH, WITHOUT, 20)
    assert estimate.value == pytest.approx(0.02) and 0.016 < estimate.low < 0.019 and 0.021 < estimate.high < 0.024


def test_arms_that_read_different_dialogues_cannot_be_compared():
    rows = [*attention(WITHOUT, [0.1, 0.2, 0.3]), *attention(WITH, [0.5, 0.5])]
    with pytest.raises(
        ValueError, match="at turn 20 the arm 'with' read 2 dialogues and the arm 'without' 3, and 2 of them are the same"
    ):
        late_turns_attend(rows)


def test_the_tables_by_hand():
    rows = [*attention(WITHOUT, [0.2, 0.4], 2), *attention(WITH, [0.6, 1.0], 2)]
    rows += [*attention(WITHOUT, [0.0, 0.2]), *attention(WITH, [0.4, 0.8])]
    tables = attention_tables(rows, (2, 20))
    assert [table.title.split(": ")[1] for table in tables] == list(MEASURES.values())
    for table, scale in zip(tables, (1, 1 / 2, 1 / 4), strict=True):
        assert table.columns == ("turn 2", "turn 20") and table.percent == (scale == 1 / 4)
        values = {row.name: [row.measured[column].value for column in table.columns] for row in table.rows}
        assert values == {
            WITHOUT: pytest.approx([0.3 * scale, 0.1 * scale]),
            WITH: pytest.approx([0.8 * scale, 0.6 * scale]),
            "with - without": pytest.approx([0.5 * scale, 0.5 * scale]),
        }
    assert attention_mean(rows, RIGHT_AFTER, 20).known is False


STRONGEST = np.array([[1.0, 0, 0, 0], [0.55, 1.0, 0, 0], [0.15, 0.95, 1.0, 0], [0.25, 0.35, 0.05, 0.45]])
SHOWN = AttentionMap(STRONGEST, (0, 2), (1, 2))


def areas(svg):
    """The areas of the shapes of each colour, in the order of drawing."""
    by_colour = {}
    for path, colour in re.findall(r'<path d="([^"]+)"[^>]*style="fill: (#[0-9a-f]{6})"', svg):
        total = 0.0
        for loop in path.split("z"):
            if points := [tuple(map(float, point)) for point in re.findall(r"[ML] ([\d.-]+) ([\d.-]+)", loop)]:
                x, y = zip(*points, strict=True)
                total += (max(x) - min(x)) * (max(y) - min(y))
        by_colour.setdefault(colour, []).append(total)
    return by_colour


def test_a_heat_map_draws_stronger_cells_over_weaker_ones():
    """After the white backgrounds there is one shape per shade, as large as the cells that are at least as strong."""
    _, *shades = (painted[0] for painted in areas(attention_heat("without GAtt", SHOWN)).values())
    lower = STRONGEST[np.tril_indices(4)]
    counts = [int((lower >= shade / 10).sum()) for shade in range(10)]
    assert counts == [10, 9, 8, 7, 6, 5, 4, 4, 4, 4]
    assert [10 * area / shades[0] for area in shades] == pytest.approx(counts, rel=1e-3)


def test_a_heat_map_is_described_and_allowed_in_a_report():
    svg = attention_heat("policy/$v3 <b>", SHOWN)
    assert drawn(svg) == svg == attention_heat("policy/$v3 <b>", SHOWN), "shapes alone, and the same bytes again"
    assert described(svg) == "Maximum attention over layers and heads, policy/$v3 <b>"
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert {"instruction", "policy/$v3 &lt;b&gt;", "maximum attention", "0", "0.5", "1", "2"} <= set(texts)


@pytest.mark.parametrize(("turns", "named"), [(3, [1, 2, 3]), (10, [1, 2, 4, 6, 8, 10]), (20, [1, 5, 10, 15, 20])])
def test_axes_name_few_turns(turns, named):
    shown = AttentionMap(np.eye(2 * turns), tuple(range(0, 2 * turns, 2)), (0, 1))
    texts = re.findall(r"<text[^>]*>(\d+)</text>", attention_heat("one", shown))
    assert [text for text in texts if text not in ("0",)][: len(named)] == [str(number) for number in named]


def test_the_line_of_each_arm_passes_through_its_means():
    rows = [*attention(WITHOUT, [0.2, 0.4], 2), *attention(WITH, [0.6, 1.0], 2)]
    svg = attention_by_turn([*rows, *attention(WITHOUT, [0.0, 0.2], 3), *attention(WITH, [0.8, 0.8], 3)])
    marked = {"#d55e00": [], "#0072b2": []}
    for y, colour in re.findall(
        r'<use [^>]*y="([\d.]+)" style="fill: (#d55e00|#0072b2); stroke: [^;"]*(?:; stroke-line[^"]*)?"', svg
    ):
        marked[colour].append(float(y))
    low, high = marked["#d55e00"], marked["#0072b2"]
    unit = (low[1] - low[0]) / (0.3 - 0.1)
    assert [low[1] - y for y in (*low[:2], *high[:2])] == pytest.approx(
        [unit * (mean - 0.1) for mean in (0.3, 0.1, 0.8, 0.8)], abs=1e-3
    )
    assert drawn(svg) and {"without GAtt", "with GAtt"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", svg))


PAGE = AttentionPage(
    source="talks.jsonl, row 1", instruction="Act as <Plato>.", messages=[user("Act as <Plato>. Hi"), assistant("Yes & no.")],
    num_tokens=1234, bin_size=7, maps={"policy/v3@1": SHOWN, "policy/v4@1": SHOWN},
    rows=(TurnAttention("policy/v3@1", "d", 2, 0.125, 0.0625, 0.03125), TurnAttention("policy/v4@1", "d", 2, 0.5, 0.25, 0.75)),
)  # fmt: skip


def test_the_page_holds_the_maps_and_the_numbers_and_fetches_nothing():
    html = render_attention(PAGE)
    assert html == render_attention(PAGE) and html.count("<svg") == 2
    assert "What policy/v3@1 and policy/v4@1 look at" in html and "1,234 tokens, in bins of 7 at most" in html
    assert "<mark>Act as &lt;Plato&gt;.</mark>" in html and "Yes &amp; no." in html
    cells = re.findall(r"<td>(?:<b>)?([\d.]+)", html)
    assert cells == ["0.125", "0.062", "0.0312", "0.500", "0.250", "0.7500"]
    assert not re.findall(r'(?:src|href)="(?!#)', html) and "url(http" not in html

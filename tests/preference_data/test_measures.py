"""Measures of Parquet files of comparisons: all files count as one, and every batch goes through ``track``."""

import pytest
from comparisons import comparison

from preference_data.comparison import Comparison
from preference_data.measuring.agreement import AgreementError, choice_agreement
from preference_data.measuring.judgement_arrays import judgements_of
from preference_data.measuring.measures import MEASURES, agreement_of, statistics_of
from preference_data.measuring.statistics import describe
from preference_data.parquet import write_records


def judged(item, annotator, chosen="a", batch="week-1"):
    texts = {"a": f"a {item} long", "b": f"b {item}"}
    rejected = texts["b" if chosen == "a" else "a"]
    return comparison(f"question {item}", texts[chosen], rejected, annotator=annotator, batch=batch)


FILES = {
    "one": [judged(1, "x"), judged(1, "y"), judged(2, "x", "b"), judged(3, "x")],
    "two": [judged(2, "y", batch="week-2"), judged(3, "y", "b"), judged(4, "z", batch="week-2")],
}
ALL = [record for records in FILES.values() for record in records]


@pytest.fixture
def paths(tmp_path):
    for name, records in FILES.items():
        write_records(tmp_path / name, records, Comparison)
    return [tmp_path / name for name in FILES]


def test_statistics_of_several_files_are_those_of_all_comparisons(paths):
    statistics = statistics_of(paths, by="batch", annotators=True)
    assert statistics.total == describe(ALL)
    for batch, group in statistics.groups.items():
        assert group == describe([record for record in ALL if record.batch == batch])
    assert {name: row.shared for name, row in statistics.annotators.items()} == {"x": 3, "y": 3, "z": 0}
    plain = statistics_of(paths)
    assert plain.total == statistics.total and plain.groups is plain.annotators is None
    assert statistics_of(paths, count_tokens=lambda texts: list(map(len, texts))).total.unit == "tokens"


def test_agreement_is_measured_within_each_group(paths):
    agreement = agreement_of(paths, "batch")
    assert (agreement.judgements, agreement.items, list(agreement.groups)) == (7, 4, ["week-1", "week-2"])
    first = [record for record in ALL if record.batch == "week-1"]
    assert list(agreement.groups["week-1"]) == list(MEASURES)
    assert agreement.groups["week-1"]["choices"] == choice_agreement(judgements_of(first))
    # item 2 has two judgements, but one a week
    assert isinstance(agreement.groups["week-2"]["choices"], AgreementError) and agreement.is_known
    assert agreement_of(paths, "axis").groups["safety"]["choices"] == choice_agreement(judgements_of(ALL))
    assert not agreement_of(paths, "annotator").is_known


def test_track_sees_every_batch_and_how_many_rows_there_are(paths):
    seen = []

    def track(batches, num_rows):
        for batch in batches:
            seen.append((len(batch), num_rows))
            yield batch

    assert statistics_of(paths, track=track).total.comparisons == 7
    assert agreement_of(paths, "batch", track).judgements == 7
    assert seen == 2 * [(4, 7), (3, 7)]

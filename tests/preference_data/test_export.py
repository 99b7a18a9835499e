import pytest
from comparisons import comparison
from hypothesis import given
from hypothesis import strategies as st
from native_rows import same_folder

from preference_data.comparison import RATINGS
from preference_data.export import export, native_row
from preference_data.importing import import_files
from preference_data.messages import assistant, user

plain = st.text(alphabet=st.characters(exclude_categories=("Cs",), exclude_characters="\0[<"), min_size=1, max_size=8)
spoken = plain.filter(str.strip)
labels = st.none() | plain


@st.composite
def comparisons(draw):
    prompt = [user(draw(spoken))]
    if draw(st.booleans()):
        prompt = [{"role": "system", "content": draw(spoken)}, *prompt, assistant(draw(spoken)), user(draw(spoken))]
    chosen, rejected = draw(spoken), draw(spoken)
    if chosen.strip() == rejected.strip():
        rejected += "x"
    return comparison(
        prompt,
        chosen,
        rejected,
        source=draw(plain),
        rating=draw(st.sampled_from([*RATINGS, "unrated"])),
        is_safety=draw(st.booleans()),
        chosen_safe=draw(st.none() | st.just(True)),
        rejected_safe=draw(st.none() | st.booleans()),
        risk_category=draw(labels),
        annotator=draw(labels),
        batch=draw(labels),
        chosen_policy=draw(labels),
        rejected_policy=draw(labels),
        chosen_temperature=draw(st.none() | st.floats(0, 2)),
        rejected_temperature=draw(st.none() | st.floats(0, 2)),
    )


@same_folder
@given(records=st.lists(comparisons(), min_size=1, max_size=5, unique_by=lambda record: (record.item_id, record.annotator)))
def test_what_is_exported_is_imported_again_as_it_was(tmp_path, records):
    assert export(tmp_path / "f.jsonl", records, "native") == (len(records), {})
    assert import_files([tmp_path / "f.jsonl"], "safety", max_rejected=0).comparisons == records


def test_export_hides_the_choice_and_refuses_two_axes(tmp_path):
    one, other = comparison(chosen="b", rejected="a"), comparison(chosen="a", rejected="b")
    assert (native_row(one)["response_a"], native_row(one)["choice"]) == ("a", "b")
    assert (native_row(other)["response_a"], native_row(other)["choice"]) == ("a", "a")
    helpful = comparison(axis="helpfulness")
    with pytest.raises(ValueError, match="both axes"):
        export(tmp_path / "f.jsonl", [one, helpful], "native")
    assert export(tmp_path / "f.jsonl", [one, helpful], "native", "helpfulness") == (1, {})

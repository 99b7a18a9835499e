"""Rows of public formats in the tests of importers: imported as a file, and broken in every way JSON allows."""

import copy
import json

from hypothesis import strategies as st
from row_files import write

from preference_data.formats import IMPORTERS, recognise
from preference_data.importing import import_files
from preference_data.judgement import RowError, make_comparison


def import_rows(folder, rows, axis="helpfulness", format=None):
    """The result of importing ``rows`` as one JSON list."""
    path = folder / "export.json"
    path.write_text(json.dumps(rows))
    return import_files([path], axis, format=format, max_rejected=1)


def import_as_csv_and_parquet(folder, rows, axis="helpfulness"):
    """The comparisons of ``rows`` in a CSV file, where what is no text is its JSON, and those of a Parquet file."""
    paths = [write(folder / f"export.{suffix}", rows) for suffix in ("csv", "parquet")]
    return [import_files([path], axis, max_rejected=1).comparisons for path in paths]


def recognised(folder, row):
    """(name of the importer that a file of ``row`` gets, names of all that would take it)."""
    path = folder / "row.json"
    path.write_text(json.dumps([row]))
    return recognise(path).NAME, [name for name, importer in IMPORTERS.items() if importer.misfit(row) is None]


def refused(folder, rows, axis="helpfulness", format=None):
    """The reasons, one for each row or judgement that was refused."""
    result = import_rows(folder, rows, axis, format)
    assert result.read == result.accepted + len(result.rejects)
    return [reject.reason for reject in result.rejects]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _places(value, path=()):
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _places(value[key], (*path, key))


@st.composite
def broken(draw, *samples):
    """One of ``samples`` in which one to three places hold another value, or were taken out."""
    row = copy.deepcopy(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(1, 3))):
        *above, key = draw(st.sampled_from([path for path in _places(row) if path] or [("none",)]))
        holder = row
        for step in above:
            holder = holder[step]
        if draw(st.booleans()):
            holder[key] = draw(json_values)
        elif key in holder or isinstance(holder, list):
            del holder[key]
    return row


def outcomes(importer, row, axis):
    """Each judgement of ``row`` as its Comparison or its RowError; any other exception is the importer's fault."""
    found = []
    try:
        for fields in importer.judgements(row, axis):
            try:
                if isinstance(fields, RowError):
                    raise fields
                fields = {name: value for name, value in fields.items() if name != "item_id"}
                found.append(
                    make_comparison(axis=axis, **({"source": "s"} | {k: v for k, v in fields.items() if v is not None}))
                )
            except RowError as error:
                found.append(error)
    except RowError as error:
        found.append(error)
    return found

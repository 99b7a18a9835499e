"""Rows as a file of any type."""

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def write(path: Path, rows: list[dict]) -> Path:
    """``rows`` as a file of the type that the name of ``path`` says; in CSV what is no text is its JSON."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as file:
        if path.suffixes[0] in (".csv", ".tsv"):
            names = list(dict.fromkeys(name for row in rows for name in row))
            writer = csv.DictWriter(file, names, delimiter="\t" if ".tsv" in path.suffixes else ",")
            writer.writeheader()
            for row in rows:
                writer.writerow({n: v if v is None or isinstance(v, str) else json.dumps(v) for n, v in row.items()})
        elif path.suffix == ".json":
            json.dump(rows, file, indent=1)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return path

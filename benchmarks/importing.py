"""Importing and measuring a million comparisons, against what one would write by hand with ``datasets``.

The peer reads the same file with ``datasets.load_dataset("json")`` and checks each row in a plain Python loop: fields, types,
roles, choice, equal texts, and duplicates by the same annotator. It writes nothing, reports no lines and keeps no rejects. Both
run as processes of their own, in turn, three times; the figure is the median of the ratios of their times.

    python benchmarks/importing.py [--rows 1000000] [--times 3]
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from preference_data.comparison import RATINGS

RLHF = [sys.executable, "-m", "commands.cli"]
PEER = """
import sys
from datasets import load_dataset
path, cache = sys.argv[1:]
seen, accepted, rejected = set(), 0, 0
for row in load_dataset("json", data_files=path, split="train", cache_dir=cache):
    prompt = row["prompt"]
    texts = [message["content"] for message in prompt] + [row["response_a"], row["response_b"]]
    roles = [message["role"] for message in prompt]
    key = (tuple(texts[:-2]), frozenset(texts[-2:]), row["annotator"])
    ok = (
        all(isinstance(text, str) and text.strip() and chr(0) not in text for text in texts)
        and roles[::2] == ["user"] * len(roles[::2])
        and roles[1::2] == ["assistant"] * len(roles[1::2])
        and len(roles) % 2 == 1
        and not any(tag in text for text in texts[:-2:2] for tag in ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<s>", "</s>"))
        and row["choice"] in ("a", "b")
        and row["rating"] in ("significantly_better", "better", "slightly_better", "negligibly_better", None)
        and texts[-1].strip() != texts[-2].strip()
        and key not in seen
    )
    seen.add(key)
    accepted += ok
    rejected += not ok
print(accepted, rejected)
"""


def write_file(path: Path, rows: int) -> None:
    """About 1 kB a row: a prompt of one or two turns, two responses of 10 to 80 words."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(5000)]

    def text(count: int) -> str:
        return " ".join(rng.choices(words, k=count))

    def message(role: str, count: int) -> dict[str, str]:
        return {"role": role, "content": text(count)}

    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            before = [message("user", 15), message("assistant", 40)] * rng.randint(0, 1)
            row = {
                "prompt": [*before, message("user", 18)],
                "response_a": text(rng.randint(10, 80)),
                "response_b": text(rng.randint(10, 80)),
                "choice": rng.choice("ab"),
                "rating": rng.choice(RATINGS),
                "annotator": f"ann-{rng.randint(1, 40)}",
                "batch": f"week-{14 * number // rows}",
                "policy_a": "policy/sft@1",
                "policy_b": "policy/v1@1",
                "temperature_a": 0.7,
                "temperature_b": 1.0,
            }
            file.write(json.dumps(row) + "\n")


def timed(command: list[str], folder: Path) -> tuple[float, float]:
    """(seconds, largest resident memory of the process and its children in MB)."""
    started, peak = time.perf_counter(), 0
    process = psutil.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            peak = max(peak, sum(each.memory_info().rss for each in [process, *process.children(recursive=True)]))
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - started, peak / 1e6


def import_once(file: Path, rows: int, registry: Path) -> float:
    """Import ``file``, print its figures, and return the seconds."""
    told = ["--axis", "helpfulness", "--name", "mine", "--quiet", "--registry", str(registry)]
    seconds, peak = timed([*RLHF, "import", str(file), *told], file.parent)
    size = file.stat().st_size / 1e6
    print(f"import of {rows:,} rows ({size:,.0f} MB): {seconds:.1f} s, {rows / seconds:,.0f} rows/s, {peak:,.0f} MB")
    return seconds


def compared_once(file: Path, rows: int, folder: Path) -> float:
    """Import ``file`` and let the peer read it; measure what was imported; return the ratio of the two times."""
    registry = folder / "registry"
    ours = import_once(file, rows, registry)
    theirs, peak = timed([sys.executable, "-c", PEER, str(file), str(folder / "cache")], folder)
    print(f"  datasets and a plain loop: {theirs:.1f} s, {peak:,.0f} MB; ratio {ours / theirs:.2f}")
    for measure in (["stats", "--by", "batch", "--annotators"], ["agreement"]):
        command = [*RLHF, "data", measure[0], "preferences/mine", *measure[1:], "--registry", str(registry)]
        seconds, peak = timed(command, folder)
        print(f"  data {' '.join(measure)}: {seconds:.1f} s, {peak:,.0f} MB")
    return ours / theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        tenth, whole = Path(name) / "tenth.jsonl", Path(name) / "whole.jsonl"
        write_file(tenth, options.rows // 10)
        write_file(whole, options.rows)
        import_once(tenth, options.rows // 10, Path(name) / "tenth-registry")
        ratios = []
        for _ in range(options.times):
            with tempfile.TemporaryDirectory(dir=name) as folder:
                ratios.append(compared_once(whole, options.rows, Path(folder)))
    print(f"import against datasets and a plain loop: median ratio {statistics.median(ratios):.2f} of {len(ratios)}")


if __name__ == "__main__":
    main()

"""What the registry costs: listing 10,000 artifacts, and committing one of 1 GB.

    python benchmarks/registry_costs.py

- listing: ``registry.overview`` and ``Registry.list`` in this process, and the whole command ``rlhf registry list`` into a pipe
- commit: writing a file of 1 GB into a draft and committing it, against copying the same file and hashing it with sha256. What
  the draft adds beyond that is one fsync and the manifest, so the peer is timed with and without an fsync of its own.
"""

import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from registry.manifest import FileEntry, Manifest, Parent, Run, fsync, write_manifest
from registry.overview import overview
from registry.store import Registry

ROUNDS = 3
KINDS, NAMES, REVISIONS = ("policy", "reward_model", "samples", "evaluation"), 250, 10
SIZE, CHUNK = 10**9, 10**7

RUN = Run(
    stage="ppo", stage_revision=1, config={f"setting_{number}": number / 7 for number in range(23)}, seed=0,
    metrics={f"metric_{number}": number / 3 for number in range(6)}, versions={f"library-{n}": f"{n}.1.0" for n in range(11)},
    dtype="float32", device="cpu", git_revision="0" * 40, seconds=54.3, peak_rss_mb=2799.6,
)  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        listing(Path(folder) / "many")
        commit(Path(folder))


def listing(root: Path) -> None:
    registry, count = Registry(root), len(KINDS) * NAMES * REVISIONS
    fill(root)
    os.sync()
    for what, work in (
        ("registry.overview", lambda: overview(registry)),
        ("Registry.list", lambda: registry.list()),
        ("rlhf registry list", lambda: command(root)),
    ):
        seconds = [timed(work) for _ in range(ROUNDS)]
        print(f"{what} of {count:,} artifacts: {', '.join(f'{1000 * each:.0f}' for each in seconds)} ms", flush=True)


def fill(root: Path) -> None:
    """Artifacts without payload files, whose manifests are of the size that PPO's has (3.5 kB)."""
    files = [FileEntry(path=f"file-{number}.json", sha256="0" * 64, size=1000) for number in range(8)]
    parents = {role: [Parent(reference="policy/run-0@1", digest="0" * 64)] for role in ("policy", "a", "b", "prompts")}
    for kind in KINDS:
        for number in range(NAMES):
            for revision in range(1, REVISIONS + 1):
                folder = root / kind / f"run-{number}" / str(revision)
                folder.mkdir(parents=True)
                manifest = Manifest(
                    **RUN.model_dump(), format_version=1, kind=kind, name=f"run-{number}", revision=revision,
                    digest="0" * 64, fingerprint=f"{number:032x}{revision:032x}", parents=parents,
                    created="2026-11-21T04:18:52+00:00", files=files,
                )  # fmt: skip
                write_manifest(folder, manifest)


def command(root: Path) -> None:
    words = [str(Path(sys.executable).parent / "rlhf"), "registry", "list", "--registry", str(root)]
    subprocess.run(words, check=True, capture_output=True)


def commit(folder: Path) -> None:
    source = folder / "source"
    with source.open("wb") as file:
        for _ in range(SIZE // CHUNK):
            file.write(os.urandom(CHUNK))
    fsync(source)
    registry = Registry(folder / "registry")
    found: list[list[float]] = []
    for number in range(ROUNDS + 1):
        times = []
        for work in (
            lambda: into_draft(registry, source),
            lambda: copied(source, folder / "plain"),
            lambda: copied(source, folder / "synced", fsync),
        ):
            os.sync()  # an fsync would write what the one before had left as well
            times.append(timed(work))
        if number:  # the first is a warm-up
            found.append(times)
        shutil.rmtree(registry.root)
        (folder / "plain").unlink()
        (folder / "synced").unlink()
    for what, column in (("copy + sha256", 1), ("copy + fsync + sha256", 2)):
        seconds = "; ".join(f"{row[0]:.2f} against {row[column]:.2f}" for row in found)
        ratio = statistics.median(row[0] / row[column] for row in found)
        print(f"draft and commit of {SIZE / 1e9:g} GB against {what}: {seconds} s; median ratio {ratio:.2f}", flush=True)


def into_draft(registry: Registry, source: Path) -> None:
    with registry.draft("policy", "large", "ab") as draft:
        shutil.copyfile(source, draft.path / "model.safetensors")
        draft.commit(RUN, {})


def copied(source: Path, target: Path, sync: Callable[[Path], None] = lambda path: None) -> None:
    shutil.copyfile(source, target)
    sync(target)
    with target.open("rb") as file:
        hashlib.file_digest(file, "sha256").hexdigest()


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()

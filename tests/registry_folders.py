"""Small artifacts for tests, and what tests do to their folders by hand."""

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

from registry.artifact import Artifact
from registry.manifest import Run
from registry.store import Registry

RUN = Run(
    stage="sft",
    stage_revision=1,
    config={"learning_rate": 2e-5, "epochs": 2},
    seed=7,
    metrics={"loss": 1.25},
    versions={"python": "3.11"},
    dtype="float32",
    device="cpu",
    git_revision=None,
    seconds=1.5,
    peak_rss_mb=100.0,
)


def put(
    registry: Registry,
    reference: str,
    files: dict[str, str],
    fingerprint: str = "ab",
    run: Run = RUN,
    **parents: Artifact | list[Artifact],
) -> Artifact:
    kind, name = reference.split("/")
    with registry.draft(kind, name, fingerprint) as draft:
        for path, text in files.items():
            (draft.path / path).parent.mkdir(parents=True, exist_ok=True)
            (draft.path / path).write_text(text)
        return draft.commit(run, {role: [found] if isinstance(found, Artifact) else found for role, found in parents.items()})


def run_until_killed(code: str, registry: Registry) -> None:
    """Run ``code``, which kills its own process, on the registry that its first argument names."""
    killed = subprocess.run([sys.executable, "-c", code, str(registry.root)], cwd=Path(__file__).parents[1])
    assert killed.returncode == -signal.SIGKILL


def reseal(manifest: Path, text: str) -> None:
    """Write another manifest, with the sum that belongs to it."""
    manifest.write_text(text)
    manifest.with_name("manifest.json.sha256").write_text(f"{hashlib.sha256(text.encode()).hexdigest()}  manifest.json\n")

"""Running steps and printing what they made: every command that makes artifacts ends here."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import typer

from commands.options import RunOptions
from commands.printing.lines import print_json
from registry.artifact import Artifact
from registry.errors import ReferenceNotFound
from registry.store import Registry
from stages.engine.run import StageResult, run_stage
from stages.environment import quiet_libraries
from stages.stage import Step
from stages.terminal.progress import Progress, clock_text
from stages.terminal.trackers import tracking


def make(
    run: RunOptions,
    steps: Sequence[Step],
    *,
    show: Callable[[Artifact], None] = lambda artifact: None,
    facts: Callable[[Artifact], Mapping[str, Any]] = lambda artifact: {},
    next_: str = "",
    force_all: bool = False,
) -> None:
    """Make what ``steps`` make, in order, and print the last: with ``--json`` as one object, to which ``facts`` adds.

    ``show`` prints what else a person wants to see of it. ``next_`` is the command that comes next, if not the stage's own. The
    option ``--force`` is for the last step, with ``force_all`` for every one.
    """
    results = run_steps(run, steps, force_all)
    if not results:
        return
    *before, last = results
    if run.json_:
        earlier = {"before": [_result(result) for result in before]} if before else {}
        print_json({**_result(last), **facts(last.artifact), **earlier})
        return
    show(last.artifact)
    for result in results:
        typer.echo(
            f"{result.artifact.reference}{' (up to date)' if result.up_to_date else f' in {clock_text(result.seconds)}'}"
        )
    text = next_ or steps[-1].stage.next
    typer.echo(f"next: {text.format(ref=last.artifact.reference, path=last.artifact.path)}{run.same_registry}")


def run_steps(run: RunOptions, steps: Sequence[Step], force_all: bool = False) -> list[StageResult]:
    """Run ``steps``, each on what the earlier ones made; with ``--dry-run`` print them as JSON and run none."""
    save_every, registry = run.check(), run.open_registry()
    if run.dry_run:
        print_json({"steps": planned(registry, steps)})
        return []
    progress = Progress(quiet=run.quiet, tracking=tracking(run.track, run.track_dir, steps[-1].name))
    quiet_libraries()
    made: dict[str, str] = {}
    results = []
    for step in steps:
        results.append(
            run_stage(
                registry, step.stage, name=step.name, config=step.config, inputs=step.pinned(made), seed=run.seed,
                progress=progress, force=run.force and (force_all or step is steps[-1]), save_every=save_every,
                device=run.device,
            )
        )  # fmt: skip
        made[step.makes] = str(results[-1].artifact.reference)
    return results


def planned(registry: Registry, steps: Sequence[Step]) -> list[dict[str, Any]]:
    """What would run, as JSON values. Raises RegistryError for an input that does not exist and that no earlier step makes."""
    coming: set[str] = set()
    shown = []
    for step in steps:
        inputs = {
            role: [reference if reference in coming else str(registry.resolve(reference).reference) for reference in references]
            for role, references in step.inputs.items()
        }
        config = step.config.model_dump(mode="json")
        shown.append({"stage": step.stage.name, "makes": step.makes, "inputs": inputs, "config": config})
        coming.add(step.makes)
    return shown


def exists_in(registry: Registry) -> Callable[[str], bool]:
    """Whether a reference leads to an artifact of ``registry``."""

    def exists(reference: str) -> bool:
        try:
            return bool(registry.follow(reference))
        except ReferenceNotFound:
            return False

    return exists


def _result(result: StageResult) -> dict[str, Any]:
    manifest = result.artifact.manifest
    reference = str(result.artifact.reference)
    return {"artifact": reference, "digest": manifest.digest, "metrics": manifest.metrics, "seconds": result.seconds}

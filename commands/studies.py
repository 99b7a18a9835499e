"""``rlhf study NAME``: an ablation or a closer look, with the paper's numbers beside ours and the verdicts of its findings.

The commands are derived from the rows of ``stages/study_catalog.py``.
"""

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_args

import typer

from commands.config_options import changes, config_option
from commands.making import exists_in, make
from commands.options import TRACKING, RunOptions, keyword, plain_errors, run_options, with_parameters
from commands.printing.study import print_study
from policy.config import Preset
from registry.artifact import Artifact, did_you_mean
from stages.stage import Study
from stages.study_catalog import STUDIES
from stages.study_steps import planned_study

study_app = typer.Typer(
    no_args_is_help=True,
    help="Ablations and analyses, with the paper's numbers and the verdicts of findings.\n\n"
    "A study reads the artifacts of the recipe's run; --input names others.",
)


def _command(study: Study) -> Callable[..., None]:
    def command(*, input_: list[str] | None, run: RunOptions, **given: Any) -> None:
        with plain_errors():
            changed, _ = changes(study, given)
            exists = exists_in(run.open_registry())
            inputs, sizes = _inputs(study, input_ or ()), _sizes(study, given.get("sizes"))
            steps = planned_study(study, run.load_recipe(), inputs, sizes, run.name or "", changed, exists)
            make(run, steps, show=_show, facts=_study)

    roles = ", ".join(f"{name} ({role.help})" for name, role in study.inputs.items())
    other = typer.Option("--input", metavar="ROLE=REF", help=f"Read this artifact instead; may be repeated. Roles: {roles}.")
    own = [keyword("input_", Annotated[list[str] | None, other], None)]
    if study.sizes == "several":
        help_ = (
            "Start from models of these sizes; those that the recipe's run has not made are made first, as policy/sft-PRESET."
        )
        own.append(keyword("sizes", Annotated[str | None, typer.Option("--sizes", metavar="PRESET,...", help=help_)], None))
    if study.sizes == "one":
        help_ = "Size of the small model, which is made first. Default: the next below the recipe's."
        own.append(keyword("sizes", Annotated[str | None, typer.Option("--size", metavar="PRESET", help=help_)], None))
    own += [config_option(study, option) for option in study.options]
    unused = () if study.saves_states else ("save_every",)
    return run_options(*TRACKING, *unused, default_name=study.artifact)(with_parameters(command, own))


def _inputs(study: Study, given: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """``ROLE=REF`` by role. Raises ValueError for a role that the study does not have."""
    inputs: dict[str, tuple[str, ...]] = {}
    for text in given:
        role, equals, reference = text.partition("=")
        if not equals or role not in study.inputs:
            meant = did_you_mean(role, list(study.inputs))
            raise ValueError(f"--input is {text!r}.{meant} Give ROLE=REF with one of the roles {', '.join(study.inputs)}")
        inputs[role] = (*inputs.get(role, ()), reference)
    return inputs


def _sizes(study: Study, given: str | None) -> tuple[str, ...]:
    """The presets named by ``--sizes`` or ``--size``, each once. Raises ValueError for one that does not exist."""
    if given is None:
        return ()
    flag = "--sizes" if study.sizes == "several" else "--size"
    sizes, known = tuple(dict.fromkeys(filter(None, map(str.strip, given.split(","))))), get_args(Preset)
    for size in sizes:
        if size not in known:
            raise ValueError(f"{flag} names {size!r}.{did_you_mean(size, known)} Sizes are presets: {', '.join(known)}")
    if not sizes or (study.sizes == "one" and len(sizes) > 1):
        count = "one preset" if study.sizes == "one" else "presets separated by commas"
        raise ValueError(f"{flag} is {given!r}; give {count}, of {', '.join(known)}")
    return sizes


def _study(artifact: Artifact) -> dict[str, Any]:
    return json.loads(artifact.file("study.json").read_text(encoding="utf-8"))


def _show(artifact: Artifact) -> None:
    print_study(_study(artifact))
    for figure in sorted(artifact.path.glob("*.svg")):
        typer.echo(f"figure: {figure}")


for _row in STUDIES.values():
    study_app.command(_row.artifact, help=f"{_row.help}\n\nExample: {_row.example}")(_command(_row))

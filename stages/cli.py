"""``rlhf``: the stage commands. Nothing heavy is imported until a command needs it."""

import stages.environment  # noqa: F401, I001  (first: it tells libraries to be quiet before they load)

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from preference_data.importing import TooManyRejects, write_rejects
from registry.errors import WrongKind
from stages.options import (
    DryRunOption,
    ForceOption,
    QuietOption,
    RecipeOption,
    SeedOption,
    SetOption,
    existing,
    plain_errors,
)
from stages.progress import Progress, clock_text
from stages.recipe import ImportConfig, load_recipe, shipped_recipes
from stages.registry_commands import JsonOption, ReferenceArgument, RegistryOption, print_json, print_table, registry_app
from stages.roots import open_registry
from stages.stage_commands import COMMANDS, EVALUATIONS, add_commands, load_stage

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="The Llama 2-Chat recipe: reward models, rejection sampling, PPO and Ghost Attention, stage by stage.\n\n"
    "Start with: rlhf reproduce --recipe nano",
)
evaluate_app = typer.Typer(no_args_is_help=True, help="Measure a policy, the reward models, or whether instructions hold.")
recipe_app = typer.Typer(no_args_is_help=True, help="Recipes: every choice of a run.")
app.add_typer(registry_app, name="registry")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(recipe_app, name="recipe")


@app.command()
def reproduce(
    recipe: RecipeOption = "nano",
    folder: Annotated[Path | None, typer.Option("--dir", metavar="DIR", help="Default: runs/<recipe>-<seed>.")] = None,
    seed: SeedOption = 0,
    first: Annotated[
        str | None, typer.Option("--from", metavar="STEP", help="Run again from this stage or artifact on.")
    ] = None,
    last: Annotated[str | None, typer.Option("--until", metavar="STEP", help="Stop after this stage or artifact.")] = None,
    set_: SetOption = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Every stage of a recipe in order, then the report. What is up to date is skipped.

    Example: rlhf reproduce --recipe nano --seed 0
    """
    with plain_errors():
        chosen = load_recipe(recipe, set_ or [])
        place = folder or Path("runs") / f"{chosen.name}-{seed}"
        from stages.environment import quiet_libraries
        from stages.pipeline import steps
        from stages.reproduce import reproduce as run

        if dry_run:
            plan = [{"stage": step.stage.name, "makes": step.makes, "inputs": step.inputs} for step in steps(chosen)]
            print_json({"recipe": chosen.name, "dir": str(place), "steps": plan})
            return
        quiet_libraries()
        done = run(chosen, place, seed, Progress(quiet=quiet), first, last)
        report = place / "report" / "report.html"
        if json_:
            print_json({"artifact": done.last, "made": done.made, "up_to_date": done.up_to_date, "seconds": done.seconds,
                        "report": str(report) if done.headline else None, "headline": done.headline})  # fmt: skip
            return
        typer.echo(f"{done.made} made, {done.up_to_date} up to date, in {clock_text(done.seconds)}")
        if done.headline:
            typer.echo(f"report: {report}")
            typer.echo(f"next: rlhf chat policy/chat --registry {place / 'registry'}")
        else:
            typer.echo(f"next: rlhf reproduce --recipe {recipe} --dir {place} --seed {seed}")


@app.command("import")
def import_(
    files: Annotated[list[Path] | None, typer.Argument(metavar="[FILE...]", help="Annotation files, JSONL or CSV.")] = None,
    axis: Annotated[str, typer.Option("--axis", metavar="AXIS", help="What was judged: helpfulness or safety.")] = "",
    annotations: Annotated[
        str | None, typer.Option("--annotations", metavar="REF", help="An annotations artifact, for files.")
    ] = None,
    format_: Annotated[str | None, typer.Option("--format", help="Importer by name; recognised when left out.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the preferences. Default: the file's.")] = None,
    max_rejected: Annotated[float, typer.Option("--max-rejected", help="Largest share of faulty rows, 0 to 1.")] = 0.01,
    heldout_share: Annotated[float, typer.Option("--heldout-share", help="Share of prompts held out for testing.")] = 0.05,
    registry: RegistryOption = None,
    seed: SeedOption = 0,
    force: ForceOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Annotation files -> preferences. Rows that cannot be used are kept with line and reason.

    Example: rlhf import judgements.jsonl --axis helpfulness
    """
    with plain_errors():
        if axis not in ("helpfulness", "safety"):
            raise ValueError(f"--axis is {axis or 'missing'}; say --axis helpfulness or --axis safety")
        if bool(files) == bool(annotations):
            raise ValueError("give annotation files, or an artifact with --annotations, and not both")
        paths = [existing(path) for path in files or []]
        stage = load_stage("stages.import_annotations:STAGE")
        from stages.import_annotations import file_digests
        from stages.stage import run_stage

        inputs = {"annotations": (annotations,)} if annotations else {}
        config = ImportConfig(
            axis=axis,
            files=tuple(str(path) for path in paths) or (f"{axis}.jsonl",),
            heldout_files=(f"{axis}-heldout.jsonl",) if annotations else (),
            sha256=file_digests(paths),
            format=format_,
            max_rejected=max_rejected,
            heldout_share=0.0 if annotations else heldout_share,
        )
        chosen = name or (_plain_name(paths[0].stem) if paths else axis)
        rejects_file = Path(f"{chosen}.rejects.jsonl")
        try:
            result = run_stage(
                open_registry(registry), stage, name=chosen, config=config, inputs=inputs, seed=seed,
                progress=Progress(quiet=quiet), force=force,
            )  # fmt: skip
        except TooManyRejects as error:
            write_rejects(rejects_file, error.result.rejects)
            raise ValueError(f"{error}\nall rejected rows are in {rejects_file}") from error
        _say_imported(result.artifact, rejects_file, json_)


def _say_imported(artifact: Any, rejects_file: Path, json_: bool) -> None:
    metrics = artifact.manifest.metrics
    kept = artifact.path / "logs" / "rejects.jsonl"
    if kept.is_file():
        rejects_file.write_bytes(kept.read_bytes())
    where = str(rejects_file) if kept.is_file() else None
    counts = {key: metrics[key] for key in ("read", "accepted", "rejected")}
    if json_:
        print_json({"artifact": str(artifact.reference), **counts, "rejects_file": where})
        return
    typer.echo(
        f"{metrics['read']} rows read, {metrics['accepted']} accepted ({metrics['train']} to train, {metrics['test']} held out)"
    )
    for reason, count in metrics["rejected"].items():
        typer.echo(f"  rejected: {count} {reason}")
    for column, count in metrics["ignored_columns"].items():
        typer.echo(f"  column {column!r} is not known and was ignored in {count} rows")
    if where:
        typer.echo(f"rejected rows, with line and reason: {where}")
    axis = artifact.manifest.config["axis"]
    typer.echo(f"{artifact.reference}")
    typer.echo(f"next: rlhf train-reward --axis {axis} --preferences {artifact.reference} --set {axis}.mixture=own")


def _plain_name(stem: str) -> str:
    plain = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in stem.lower()).strip("._-")
    return plain or "annotations"


@app.command()
def score(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSONL with prompt and response, or messages, on each line.")],
    model: Annotated[list[str], typer.Option("--model", metavar="REF", help="Reward model; may be repeated.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Default: FILE.scored.jsonl.")] = None,
    registry: RegistryOption = None,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score prompts with responses: raw logit, sigmoid and, with both axes, the combined reward.

    Example: rlhf score answers.jsonl --model reward_model/helpfulness --model reward_model/safety
    """
    with plain_errors():
        existing(file)
        opened = [open_registry(registry).open(text, kind="reward_model") for text in model]
        from reward_model.scoring import RewardScorer
        from stages.environment import quiet_libraries
        from stages.score import score_file

        quiet_libraries()
        scorers = {str(artifact.reference): RewardScorer.load(artifact.path) for artifact in opened}
        axes = {str(artifact.reference): artifact.manifest.config.get("axis", "") for artifact in opened}
        done = score_file(file, out or file.with_suffix(".scored.jsonl"), scorers, axes, Progress(quiet=quiet))
        if json_:
            print_json({key: str(value) if isinstance(value, Path) else value for key, value in asdict(done).items()})
            return
        typer.echo(f"{done.scored} of {done.read} rows scored: {done.output}")
        if done.rejects_file:
            typer.echo(f"{done.rejected} rows could not be scored, with line and reason: {done.rejects_file}")


@app.command()
def report(
    reference: Annotated[str, typer.Argument(metavar="REF", help="A report artifact.")] = "report/nano",
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the page goes.")] = Path("report"),
    recipe: RecipeOption = "nano",
    registry: RegistryOption = None,
) -> None:
    """Draw report.html and report.json of a run.

    Example: rlhf report report/nano --registry runs/nano-0/registry --out report
    """
    with plain_errors():
        opened = open_registry(registry)
        artifact = opened.open(reference, kind="report")
        from stages.report import write_report

        write_report(opened, artifact, out, load_recipe(recipe).budget_seconds)
        typer.echo(f"{out / 'report.html'}")


@app.command()
def chat(
    reference: ReferenceArgument = "policy/chat",
    system: Annotated[str | None, typer.Option("--system", help="A system message.")] = None,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0)] = 0.6,
    top_p: Annotated[float, typer.Option("--top-p", min=0.0, max=1.0)] = 0.9,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1)] = 256,
    seed: SeedOption = 0,
    registry: RegistryOption = None,
) -> None:
    """Talk to a policy; an empty line or Ctrl-D ends it.

    Example: rlhf chat policy/chat --registry runs/nano-0/registry
    """
    with plain_errors():
        artifact = open_registry(registry).open(reference)
        if artifact.reference.kind != "policy":
            raise WrongKind(f"rlhf chat talks to a policy, and {artifact.reference} is of kind {artifact.reference.kind}")
        from policy.checkpoint import load_policy
        from policy.generation import TransformersSampler
        from stages.chat import converse
        from stages.environment import quiet_libraries

        quiet_libraries()
        typer.echo(f"talking to {artifact.reference}; Ctrl-D ends", err=True)

        def read() -> str | None:
            try:
                return input("> ")
            except EOFError:
                return None

        converse(
            TransformersSampler(*load_policy(artifact.path)), read, typer.echo, system, temperature, top_p, max_new_tokens, seed
        )


@recipe_app.command("list")
def recipe_list(json_: JsonOption = False) -> None:
    """The shipped recipes.

    Example: rlhf recipe list
    """
    found = {name: load_recipe(name).description for name in shipped_recipes()}
    if json_:
        print_json(found)
    else:
        print_table(("recipe", "description"), list(found.items()))


@recipe_app.command("show")
def recipe_show(
    name: Annotated[str, typer.Argument(metavar="R", help="A shipped recipe or a YAML file.")],
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """A recipe after defaults.

    Example: rlhf recipe show nano
    """
    with plain_errors():
        values = load_recipe(name, set_ or []).model_dump(mode="json")
        if json_:
            print_json(values)
            return
        import yaml

        typer.echo(yaml.safe_dump(values, sort_keys=False), nl=False)


add_commands(app, COMMANDS)
add_commands(evaluate_app, EVALUATIONS)


def main() -> None:
    app()


if __name__ == "__main__":
    main()

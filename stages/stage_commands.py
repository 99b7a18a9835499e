"""The commands that run one stage: ``rlhf sft``, ``rlhf train-reward``, ``rlhf ppo`` and the others.

They are alike, so they are rows of a table: where the stage lives, which section of the recipe configures it, which artifacts
it reads and what they are called in ``reproduce``. A command's options are made from its row.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from registry.errors import ReferenceNotFound
from registry.saved_states import SaveEvery
from registry.store import Registry
from rlhf.config import SelectionConfig
from stages.options import (
    DryRunOption,
    ForceOption,
    QuietOption,
    RecipeOption,
    SaveEveryOption,
    SeedOption,
    SetOption,
    plain_errors,
)
from stages.progress import Progress, clock_text
from stages.recipe import load_recipe, section_of
from stages.registry_commands import JsonOption, RegistryOption, print_json
from stages.roots import open_registry
from stages.stage import Stage, run_stage


@dataclass(frozen=True)
class Role:
    """One input of a command. ``default`` None: it must be given; ``many``: it may be given several times.

    ``looked_for``: what is taken when nothing is given, where the registry has it.
    """

    help: str
    default: str | None = None
    many: bool = False
    looked_for: str = ""


@dataclass(frozen=True)
class Setting:
    """One key of a command's section that has an option of its own, with the values it may have; ``next``: what to do then.

    Without ``values`` the option is a flag that makes the key true.
    """

    key: str
    help: str
    values: tuple[str, ...] = ()
    next: str = ""


@dataclass(frozen=True)
class StageCommand:
    """A row: ``stage`` is ``module:NAME``; ``section`` of the recipe; ``name`` of the artifact; ``next`` command.

    ``axis``: the section is that of ``--axis``, helpfulness or safety. ``settings`` by the name of their option. ``part``: the
    keys of the section that the stage takes, where it does not take all.
    """

    command: str
    help: str
    stage: str
    section: str
    name: str
    roles: Mapping[str, Role]
    next: str
    example: str
    axis: bool = False
    settings: Mapping[str, Setting] = field(default_factory=dict)
    part: type[BaseModel] | None = None


_PROMPTS = Role("prompts to answer", "prompts/tuning")
_EVALUATION = Role("prompts to answer", "prompts/evaluation")
_REWARD_MODELS = {
    "helpfulness": Role("helpfulness reward model", "reward_model/helpfulness"),
    "safety": Role("safety reward model", "reward_model/safety"),
}

COMMANDS = (
    StageCommand(
        "pretrain", "A tiny base policy from scratch, on a corpus.", "stages.pretrain:STAGE", "pretrain", "base",
        {"corpus": Role("documents to train on", "dialogues/corpus")},
        "rlhf sft --policy {ref}", "rlhf pretrain --recipe nano --corpus dialogues/corpus",
    ),
    StageCommand(
        "sft", "Supervised fine-tuning on the answers of dialogues (paper 3.1).", "stages.tune:SFT", "sft", "sft",
        {"policy": Role("policy to start from", "policy/base"),
         "dialogues": Role("dialogues to train on", "dialogues/demonstrations", many=True)},
        "rlhf annotate --policies policy/base --policies {ref}",
        "rlhf sft --policy policy/base --dialogues dialogues/demonstrations",
    ),
    StageCommand(
        "annotate", "Let two policies answer; simulated annotators choose, or people do, in files (paper 3.2.1).",
        "stages.annotate:STAGE", "annotation", "round-1",
        {"policies": Role("policies that answer, two of them", many=True), "prompts": _PROMPTS,
         "heldout_prompts": Role("prompts of held-out comparisons, for simulated annotators", "", many=True)},
        "rlhf import --annotations {ref} --axis helpfulness",
        "rlhf annotate --policies policy/base --policies policy/sft --heldout-prompts prompts/evaluation",
        settings={"for": Setting(
            "judges", "files for people to judge in, in place of simulated annotators", ("label-studio", "csv", "jsonl"),
            "copy the files for people out of {path}; then rlhf import FILE --axis AXIS --pairs {ref}, AXIS as the file's name",
        )},
    ),
    StageCommand(
        "train-reward", "Train one reward model on preferences (paper 3.2.2).", "stages.train_reward:STAGE", "", "",
        {"policy": Role("chat policy to start from", "policy/sft"),
         "preferences": Role("preferences of this axis", many=True),
         "other_preferences": Role("preferences of the other axis, for the paper's mix", "", many=True)},
        "rlhf score FILE --model {ref}",
        "rlhf train-reward --axis helpfulness --preferences preferences/mine --set helpfulness.mixture=own",
        axis=True,
        settings={"aggregate": Setting(
            "aggregate", "every judgement of an item, or the majority of its annotators", ("all", "majority")
        )},
    ),
    StageCommand(
        "distill", "Safety context distillation on adversarial prompts (paper 4.2.4).", "stages.distill:STAGE", "distillation",
        "distilled",
        {"policy": Role("policy that answers", "policy/sft"), "safety": _REWARD_MODELS["safety"], "prompts": _PROMPTS},
        "rlhf tune --distilled {ref}", "rlhf distill --policy policy/sft --safety reward_model/safety",
    ),
    StageCommand(
        "rejection-sample", "Sample K answers a prompt and select the best (paper 3.2.3); `rlhf tune` then learns from them.",
        "stages.rejection_sample:STAGE", "rejection_sampling", "v1",
        {"policy": Role("policy that answers", "policy/sft"), **_REWARD_MODELS, "prompts": _PROMPTS,
         "evaluation_prompts": Role("prompts that must not be learnt from", "", many=True, looked_for="prompts/evaluation")},
        "rlhf tune --samples {ref}", "rlhf rejection-sample --policy policy/sft --set rejection_sampling.k=16",
        settings={"allow-overlap": Setting("allow_overlap", "learn from prompts that are for evaluation all the same")},
    ),
    StageCommand(
        "rescore", "Score and select samples anew, by other reward models; nothing is sampled (paper 3.2.3).",
        "stages.rescore:STAGE", "rejection_sampling", "rescored",
        {"samples": Role("samples to score"), **_REWARD_MODELS},
        "rlhf tune --samples {ref}", "rlhf rescore --samples samples/v1 --helpfulness reward_model/helpfulness@2",
        part=SelectionConfig,
    ),
    StageCommand(
        "tune", "Fine-tune a version from the base on demonstrations, selected samples and the rest (paper 3.2.3).",
        "stages.tune:VERSION", "tuning", "v1",
        {"policy": Role("policy to start from", "policy/base"),
         "demonstrations": Role("supervised dialogues", "dialogues/demonstrations"),
         "samples": Role("rejection samples", many=True),
         "distilled": Role("distilled safety answers", "", many=True),
         "gatt": Role("Ghost Attention dialogues", "", many=True)},
        "rlhf chat {ref}", "rlhf tune --samples samples/v1 --distilled dialogues/distilled --name v1",
    ),
    StageCommand(
        "gatt", "Make Ghost Attention dialogues with a policy (paper 3.3); `rlhf sft` then learns from them.",
        "stages.gatt:STAGE", "gatt", "gatt",
        {"policy": Role("policy that answers", "policy/v3"), "helpfulness": _REWARD_MODELS["helpfulness"],
         "samples": Role("rejection samples to string together", many=True), "prompts": _PROMPTS},
        "rlhf sft --policy policy/v3 --dialogues {ref} --name v3-gatt", "rlhf gatt --policy policy/v3 --samples samples/v3",
    ),
    StageCommand(
        "ppo", "PPO with the combined reward (paper 3.2.3).", "stages.ppo:STAGE", "ppo", "v5-ppo",
        {"policy": Role("policy to start from, and to stay near", "policy/v5"), **_REWARD_MODELS, "prompts": _PROMPTS},
        "rlhf chat {ref}", "rlhf ppo --policy policy/v5 --set ppo.kl_coef=0.02",
    ),
)  # fmt: skip

EVALUATIONS = (
    StageCommand(
        "policy", "Answer the evaluation prompts; score and judge the answers.", "stages.evaluate:POLICY", "evaluation", "sft",
        {"policy": Role("policy that answers", "policy/chat"), **_REWARD_MODELS, "prompts": _EVALUATION},
        "rlhf registry show {ref}", "rlhf evaluate policy --policy policy/chat --name chat",
    ),
    StageCommand(
        "reward", "Accuracy of both reward models on held-out comparisons (paper Table 7, 8).", "stages.evaluate:REWARD",
        "evaluation", "reward-models",
        {"preferences": Role("preferences whose test side is scored", many=True), **_REWARD_MODELS, "prompts": _EVALUATION},
        "rlhf registry show {ref}", "rlhf evaluate reward --preferences preferences/helpfulness-round-1",
    ),
    StageCommand(
        "consistency", "Does an instruction hold through a dialogue (paper Table 30)?", "stages.evaluate:CONSISTENCY",
        "consistency", "consistency-chat",
        {"policy": Role("policy that answers", "policy/chat"), "prompts": _EVALUATION},
        "rlhf registry show {ref}", "rlhf evaluate consistency --policy policy/chat",
    ),
)  # fmt: skip


def add_commands(app: typer.Typer, rows: tuple[StageCommand, ...]) -> None:
    """Give ``app`` one command a row."""
    for row in rows:
        app.command(row.command, help=f"{row.help}\n\nExample: {row.example}")(_function(row))


def _function(row: StageCommand) -> Callable[..., None]:
    def command(**given: Any) -> None:
        with plain_errors():
            _run(row, given)

    parameters = [_option(name, role) for name, role in row.roles.items()]
    parameters += [_setting(name, setting) for name, setting in row.settings.items()]
    if row.axis:
        axis = Annotated[str, typer.Option("--axis", metavar="AXIS", help="helpfulness or safety.")]
        parameters.insert(0, inspect.Parameter("axis", inspect.Parameter.KEYWORD_ONLY, annotation=axis))
    shared = {
        "name": (
            Annotated[str | None, typer.Option("--name", help=f"Name of the artifact. Default: {row.name or 'the axis'}.")],
            None,
        ),
        "recipe": (RecipeOption, "nano"),
        "set_": (SetOption, None),
        "registry": (RegistryOption, None),
        "seed": (SeedOption, 0),
        "force": (ForceOption, False),
        "save_every": (SaveEveryOption, "1m"),
        "dry_run": (DryRunOption, False),
        "json_": (JsonOption, False),
        "quiet": (QuietOption, False),
    }
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for name, (annotation, default) in shared.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _option(name: str, role: Role) -> inspect.Parameter:
    shown = f"{role.help[0].upper()}{role.help[1:]}{'; may be repeated' * role.many}."
    shown += f" Default: {role.looked_for}, where there is one." if role.looked_for else ""
    flag = "--" + name.replace("_", "-")
    if role.many:
        annotation: Any = Annotated[list[str], typer.Option(flag, metavar="REF", help=shown)]
        default: Any = inspect.Parameter.empty if role.default is None else ([role.default] if role.default else [])
    else:
        annotation = Annotated[str, typer.Option(flag, metavar="REF", help=shown)]
        default = inspect.Parameter.empty if role.default is None else role.default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _setting(name: str, setting: Setting) -> inspect.Parameter:
    shown = f"{setting.help[0].upper()}{setting.help[1:]}"
    if setting.values:
        option = typer.Option(f"--{name}", metavar=name.upper(), help=f"{shown}: {', '.join(setting.values)}.")
        annotation: Any = Annotated[str | None, option]
    else:
        annotation = Annotated[bool | None, typer.Option(f"--{name}", help=f"{shown}.")]
    return inspect.Parameter(_parameter(name), inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=None)


def _parameter(setting: str) -> str:
    """Under which name a setting is given."""
    return f"{setting.replace('-', '_')}_"


def _with_settings(config: Any, row: StageCommand, given: Mapping[str, Any]) -> tuple[Any, str]:
    """``config`` with what the options of its settings say, or the part of it that is taken, and what to do next."""
    next_ = row.next
    if row.part:
        config = row.part.model_validate(config.model_dump(include=set(row.part.model_fields)))
    for name, setting in row.settings.items():
        value = given[_parameter(name)]
        if value is None:
            continue
        if setting.values and value not in setting.values:
            raise ValueError(f"--{name} is {value!r}; it is one of {', '.join(setting.values)}")
        config, next_ = config.model_copy(update={setting.key: value}), setting.next or next_
    return config, next_


def _run(row: StageCommand, given: dict[str, Any]) -> None:
    recipe = load_recipe(given["recipe"], given["set_"] or [])
    if row.axis and given["axis"] not in ("helpfulness", "safety"):
        raise ValueError(f"--axis is {given['axis']!r}; it is helpfulness or safety")
    config, next_ = _with_settings(section_of(recipe, given["axis"] if row.axis else row.section), row, given)
    name = given["name"] or row.name or given["axis"]
    registry = open_registry(given["registry"])
    inputs = {role: _texts(given[role]) for role in row.roles if given[role]}
    inputs |= {role: each for role in row.roles if role not in inputs and (each := _looked_for(row.roles[role], registry))}
    save_every = SaveEvery.parse(given["save_every"])
    if given["dry_run"]:
        resolved = {role: [str(registry.resolve(text).reference) for text in texts] for role, texts in inputs.items()}
        print_json({"stage": row.command, "name": name, "inputs": resolved, "config": config.model_dump(mode="json")})
        return
    stage = load_stage(row.stage)
    result = run_stage(
        registry, stage, name=name, config=config, inputs=inputs, seed=given["seed"],
        progress=Progress(quiet=given["quiet"]), force=given["force"], save_every=save_every,
    )  # fmt: skip
    reference = str(result.artifact.reference)
    if given["json_"]:
        manifest = result.artifact.manifest
        print_json({"artifact": reference, "digest": manifest.digest, "metrics": manifest.metrics, "seconds": result.seconds})
        return
    typer.echo(f"{reference}{' (up to date)' if result.up_to_date else f' in {clock_text(result.seconds)}'}")
    typer.echo(f"next: {next_.format(ref=reference, path=result.artifact.path)}")


def _looked_for(role: Role, registry: Registry) -> tuple[str, ...]:
    """What a role takes when nothing is given."""
    try:
        return (role.looked_for,) if role.looked_for and registry.follow(role.looked_for) else ()
    except ReferenceNotFound:
        return ()


def _texts(given: str | list[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def load_stage(place: str) -> Stage:
    """The stage at ``module:NAME``; imports torch and the rest, and silences their bars."""
    from stages.environment import quiet_libraries

    module, name = place.split(":")
    found = getattr(importlib.import_module(module), name)
    quiet_libraries()
    assert isinstance(found, Stage)
    return found

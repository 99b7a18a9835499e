"""How a stage is declared: one row of the catalog (``stages/catalog.py``). Light to import: nothing here loads torch.

A stage is a function from a config and opened inputs to the files of one new artifact. Its row says where that function lives
and everything that commands, recipes, plans and docs need to know about it. A *step* is one artifact that a recipe makes with
it.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from policy.placement import finetuning_dtype
from registry.artifact import Artifact
from registry.saved_states import SavedStates
from stages.recipe import Recipe, section_of
from stages.terminal.progress import Progress

References = Mapping[str, tuple[str, ...]]
"""Role -> references, such as ``{"policy": ("policy/sft",)}``."""
Inputs = Mapping[str, list[Artifact]]
"""Role -> opened artifacts: what a stage's function is given."""
StageFunction = Callable[[Any, Inputs, Path, Progress, int, SavedStates], dict[str, Any]]
"""``(config, inputs, out, progress, seed, states) -> metrics``.

It writes the payload into the empty folder ``out``. Metrics must be JSON values (numpy scalars are accepted). What it saves in
``states`` it finds there again when the same run starts once more, after it was stopped or killed.
"""


def one(inputs: Inputs, role: str) -> Artifact:
    """The single artifact in a role; a stage that calls this was wired with exactly one."""
    artifacts = inputs.get(role, [])
    assert len(artifacts) == 1, (
        f"the role {role!r} needs one artifact, and has {[str(artifact.reference) for artifact in artifacts]}"
    )
    return artifacts[0]


@dataclass(frozen=True)
class Role:
    """One input of a stage: artifacts of one ``kind`` (``""``: the function itself checks it).

    ``default``: what the recipe's run calls them, or a function of the recipe that says so; None: they must be given; ``()``:
    they may be missing. ``many``: several may be given. ``if_there``: the default is taken only where it exists.
    """

    kind: str
    help: str
    default: tuple[str, ...] | Callable[[Recipe], tuple[str, ...]] | None = None
    many: bool = False
    if_there: bool = False

    def references(self, recipe: Recipe) -> tuple[str, ...]:
        """The default for ``recipe``."""
        return self.default(recipe) if callable(self.default) else self.default or ()


@dataclass(frozen=True)
class Option:
    """A key of the stage's config that has an option of its own on the command line; type and help come from the field.

    ``flag``: the option's name where it is not the key's. ``next``: the next command where the option is used.
    """

    key: str
    flag: str = ""
    next: str = ""

    @property
    def name(self) -> str:
        return self.flag or self.key.replace("_", "-")


@dataclass(frozen=True)
class Stage:
    """A row of the catalog. The stage makes one artifact of ``kind``, called ``artifact`` unless another name is given.

    ``revision`` is raised whenever results may change. ``function`` is a dotted path, ``module:name``. ``config_of`` gives the
    config of a recipe's run; with ``by_axis`` it is the section of ``--axis`` instead, which also names the artifact.
    ``command`` is what follows ``rlhf``; empty where the stage has no command of its own, or one that is written by hand.
    ``next`` is the command that usually comes next, with ``{ref}`` and ``{path}`` of the new artifact. ``trains``: trackers can
    follow it. ``saves_states``: a run that was stopped resumes from what it saved; a short one starts over. ``named_after``:
    the role whose artifact lends its name. ``finetunes``: it runs ``policy/finetuning.py``, whose number format depends on the
    device.
    """

    name: str
    kind: str
    revision: int
    config: type[BaseModel]
    function: str
    inputs: Mapping[str, Role] = field(default_factory=dict)
    help: str = ""
    config_of: Callable[[Recipe], BaseModel] | None = None
    artifact: str = ""
    command: str = ""
    example: str = ""
    next: str = "rlhf registry show {ref}"
    options: tuple[Option, ...] = ()
    by_axis: bool = False
    named_after: str = ""
    trains: bool = False
    saves_states: bool = True
    finetunes: bool = False

    def load(self) -> StageFunction:
        """The stage's function; imports torch and whatever else it needs."""
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)

    def dtype(self, device: str) -> str:
        """The number format of its training on ``device`` (cpu, cuda, cuda:1, ...)."""
        return finetuning_dtype(device.partition(":")[0]) if self.finetunes else "float32"

    @property
    def file(self) -> str:
        """The source file of the function."""
        return self.function.partition(":")[0].replace(".", "/") + ".py"

    def configured(self, recipe: Recipe, axis: str = "") -> BaseModel:
        """Its config in ``recipe``. Raises RecipeError for a section that the recipe does not have."""
        if self.by_axis:
            return section_of(recipe, axis)
        assert self.config_of, f"{self.name} is configured by its command, not by a recipe"
        return self.config_of(recipe)


@dataclass(frozen=True)
class Study(Stage):
    """A row for an ablation or a closer look: ``rlhf study NAME``, and a step of a recipe that lists it in ``studies``.

    ``lacking`` says what a recipe lacks for the study ("" where nothing is missing). ``before``: dotted path of the function
    that gives the steps to make first, see ``stages/study_steps.py``. ``sizes``: whether models of one or several other
    sizes take part.
    """

    lacking: Callable[[Recipe], str] = lambda recipe: ""
    before: str = ""
    sizes: Literal["", "one", "several"] = ""


@dataclass(frozen=True)
class Step:
    """One artifact to make. ``inputs``: role -> references; those of this run are pinned to what the run made."""

    stage: Stage
    name: str
    config: BaseModel
    inputs: References

    @property
    def makes(self) -> str:
        return f"{self.stage.kind}/{self.name}"

    def pinned(self, made: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
        """The inputs, those that the run has made by their full references (what a step makes -> reference)."""
        return {role: tuple(made.get(reference, reference) for reference in given) for role, given in self.inputs.items()}


def section(name: str, part: type[BaseModel] | None = None) -> Callable[[Recipe], BaseModel]:
    """The function that takes a stage's config from a section of the recipe, or only the keys of ``part`` from it."""

    def config_of(recipe: Recipe) -> BaseModel:
        config = section_of(recipe, name)
        return part.model_validate(config.model_dump(include=set(part.model_fields))) if part else config

    return config_of


def wired(stage: Stage, recipe: Recipe, given: References, exists: Callable[[str], bool]) -> dict[str, tuple[str, ...]]:
    """The inputs of ``stage``: what is ``given``, else the defaults of its roles. Raises ValueError for an unknown role, and
    where a role that has no default is not given, or more than one artifact for a role that takes one."""
    if unknown := [role for role in given if role not in stage.inputs]:
        raise ValueError(f"{stage.name} has no input {unknown[0]!r}; its inputs are {', '.join(stage.inputs) or 'none'}")
    inputs: dict[str, tuple[str, ...]] = {}
    for name, role in stage.inputs.items():
        references = given.get(name)
        if references is None:
            if role.default is None:
                raise ValueError(f"{stage.name} needs {name} ({role.help}); give a reference of kind {role.kind or 'any'}")
            references = tuple(reference for reference in role.references(recipe) if not role.if_there or exists(reference))
        if len(references) > 1 and not role.many:
            raise ValueError(f"{stage.name} takes one artifact as {name}, and {len(references)} were given")
        if references:
            inputs[name] = references
    return inputs

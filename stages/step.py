"""One artifact of a recipe that is to be made: by which stage, under which name, from which others."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from stages.engine.run import Stage


@dataclass(frozen=True)
class Step:
    """One artifact to make. ``inputs``: role -> references; those of this run are pinned to what the run made."""

    stage: Stage
    name: str
    config: BaseModel
    inputs: Mapping[str, tuple[str, ...]]

    @property
    def makes(self) -> str:
        return f"{self.stage.kind}/{self.name}"

    def inputs_from(self, made: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
        """The inputs, those that the run has made by their full references (what a step makes -> reference)."""
        return {role: tuple(made.get(text, text) for text in texts) for role, texts in self.inputs.items()}

"""Files of dialogues given where a command takes dialogues: they are added to the registry first."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from commands.options import existing
from stages.catalog import STAGES
from stages.external_files import artifact_name, sha256_of
from stages.sections import FileConfig
from stages.stage import Step


def dialogues_given(given: Sequence[str]) -> tuple[list[Step], tuple[str, ...]]:
    """The steps that add the JSONL files among ``given``, and the references of all. Raises ValueError for two of one name."""
    steps: list[Step] = []
    references = []
    for text in given:
        if text.endswith(".jsonl"):
            file = existing(Path(text))
            config = FileConfig(file=text, sha256=sha256_of(file))
            steps.append(Step(STAGES["add-dialogues"], artifact_name(file), config, {}))
            text = steps[-1].makes
        references.append(text)
    if repeated := [reference for reference, count in Counter(references).items() if count > 1]:
        raise ValueError(f"{repeated[0]} is given twice as dialogues; give each once, and files under names of their own")
    return steps, tuple(references)

"""The table of stages and studies in the docs, made from the catalog.

python tests/stage_table.py        writes docs/stages.md
"""

from command_line import ROOT

from stages.catalog import STAGES
from stages.stage import Stage
from stages.study_catalog import STUDIES

PAGE = ROOT / "docs" / "stages.md"
HEAD = """# Stages and studies

Each stage reads artifacts and makes one. A name in brackets is optional; `...` marks an input that may be several artifacts.
Stages without a command of their own run as part of the command named. This page is made from the catalog (`stages/catalog.py`,
`stages/study_catalog.py`).
"""
PART_OF = {
    "corpus": "reproduce", "demonstrations": "reproduce", "prompts": "reproduce", "report": "reproduce",
    "add-checkpoint": "gatt", "add-dialogues": "gatt", "add-prompts": "reproduce", "add-reward-model": "add-reward-model",
    "import": "import", "mix": "data mix", "split": "data split", "overlap": "data overlap", "overlap-prompts": "data overlap",
    "gatt": "gatt", "evaluate-consistency": "evaluate consistency", "score": "score",
}  # fmt: skip


def page() -> str:
    stages = "\n".join(_row(stage) for stage in STAGES.values())
    studies = "\n".join(f"| `rlhf {study.command}` | {study.help} | {_inputs(study)} |" for study in STUDIES.values())
    return (
        f"{HEAD}\n| stage | makes | reads | command |\n|---|---|---|---|\n{stages}\n\n"
        f"## Studies\n\n| command | what it measures | reads |\n|---|---|---|\n{studies}\n"
    )


def _row(stage: Stage) -> str:
    return f"| {stage.name} | {stage.kind} | {_inputs(stage)} | `rlhf {stage.command or PART_OF[stage.name]}` |"


def _inputs(stage: Stage) -> str:
    shown = []
    for name, role in stage.inputs.items():
        text = f"{name}{'...' if role.many else ''}"
        shown.append(f"[{text}]" if role.default == () or role.if_there else text)
    return ", ".join(shown) or "-"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

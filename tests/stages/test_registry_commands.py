import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from pydantic import BaseModel
from typer.testing import CliRunner

from registry.saved_states import SavedStates
from registry.store import Registry
from stages.progress import Progress
from stages.registry_commands import registry_app, size_text
from stages.roots import open_registry
from stages.stage import Inputs, Stage, run_stage

runner = CliRunner()


class FillConfig(BaseModel):
    factor: float = 2.0


def fill(config: FillConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates) -> dict[str, float]:
    (out / "data").write_text(f"made from {list(inputs)}")
    return {"loss": 0.5}


@pytest.fixture
def filled(tmp_path: Path) -> Registry:
    """prompts/data@1, made from prompts/root@1."""
    registry, stage, quiet = (
        Registry(tmp_path / "registry"),
        Stage("fill", "prompts", 1, FillConfig, fill),
        Progress(quiet=True),
    )
    run_stage(registry, stage, name="root", config=FillConfig(), inputs={}, seed=0, progress=quiet)
    run_stage(registry, stage, name="data", config=FillConfig(), inputs={"source": ["prompts/root"]}, seed=0, progress=quiet)
    return registry


def command(registry: Registry, *arguments: str) -> Result:
    return runner.invoke(registry_app, [*arguments, "--registry", str(registry.root)])


def test_list_command(filled: Registry) -> None:
    filled.set_alias("prompts/best", "prompts/data")
    lines = [line.split("\t") for line in command(filled, "list").stdout.splitlines()]
    assert lines[0] == ["artifact", "stage", "size", "created", "alias"]
    assert [(line[0], line[4]) for line in lines[1:]] == [("prompts/data@1", "prompts/best"), ("prompts/root@1", "")]
    found = json.loads(command(filled, "list", "--json").stdout)
    assert [each["artifact"] for each in found["artifacts"]] == ["prompts/data@1", "prompts/root@1"]
    assert found["aliases"] == {"prompts/best": "prompts/data@1"}
    empty = command(filled, "list", "--kind", "policy")
    assert empty.exit_code == 0 and empty.stdout == "" and "holds no artifacts of kind policy yet" in empty.stderr
    assert command(filled, "list", "--kind", "polcy").exit_code == 2


def test_show_command(filled: Registry) -> None:
    rows = dict(line.split("\t", 1) for line in command(filled, "show", "prompts/data").stdout.splitlines())
    root = filled.resolve("prompts/root")
    assert rows["artifact"] == "prompts/data@1" and rows["parent source"] == f"prompts/root@1  {root.digest}"
    assert rows["config factor"] == "2.0" and rows["metric loss"] == "0.5" and "file data" in rows
    found = json.loads(command(filled, "show", "prompts/data", "--json").stdout)
    assert found["manifest"]["digest"] == filled.resolve("prompts/data").digest


def test_lineage_command(filled: Registry) -> None:
    shown = command(filled, "lineage", "prompts/data").stdout.splitlines()
    assert shown[0].startswith("prompts/data@1  fill") and shown[1].startswith("└─ source: prompts/root@1  fill")
    tree = json.loads(command(filled, "lineage", "prompts/data", "--json").stdout)
    assert tree["parents"][0]["reference"] == "prompts/root@1"


def test_verify_command(filled: Registry) -> None:
    done = command(filled, "verify")
    assert done.exit_code == 0 and done.stdout == "prompts/data@1: whole\nprompts/root@1: whole\n"
    filled.resolve("prompts/root").file("data").write_text("moved")
    wrong = command(filled, "verify")
    assert wrong.exit_code == 1 and "prompts/root@1: WRONG\n  data: sha256 was" in wrong.stdout
    assert command(filled, "verify", "prompts/data").exit_code == 0
    as_json = command(filled, "verify", "prompts/root", "--json")
    found = json.loads(as_json.stdout)
    assert as_json.exit_code == 1 and found["whole"] is False and found["checked"][0]["problems"][0]["path"] == "data"


def test_alias_command(filled: Registry) -> None:
    assert command(filled, "alias", "prompts/best", "prompts/root").stdout == "prompts/best is prompts/root@1\n"
    done = command(filled, "alias", "prompts/best", "prompts/data", "--json")
    assert json.loads(done.stdout) == {"alias": "prompts/best", "artifact": "prompts/data@1"}
    assert filled.aliases() == {"prompts/best": "prompts/data@1"}


@pytest.mark.parametrize(
    "arguments", [("show", "prompts/rot"), ("lineage", "rot"), ("verify", "prompts/rot"), ("alias", "a", "b")]
)
def test_a_wrong_reference_exits_2_with_the_reason_on_stderr(filled: Registry, arguments: tuple[str, ...]) -> None:
    done = command(filled, *arguments, "--json")
    assert done.exit_code == 2 and done.stdout == "" and done.stderr.startswith("error: ")


def test_every_command_has_help_with_an_example() -> None:
    for name in ("list", "show", "lineage", "verify", "alias"):
        done = runner.invoke(registry_app, [name, "--help"])
        assert done.exit_code == 0 and f"Example: rlhf registry {name}" in " ".join(done.stdout.split())


def test_the_registry_comes_from_the_option_then_the_environment_then_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RLHF_REGISTRY", raising=False)
    folder = tmp_path / "project" / "deep"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert open_registry(None).root == folder / "rlhf-registry"
    (tmp_path / "project" / "rlhf-project.yaml").touch()
    assert open_registry(None).root == tmp_path / "project" / "registry"
    monkeypatch.setenv("RLHF_REGISTRY", str(tmp_path / "environment"))
    assert open_registry(None).root == tmp_path / "environment"
    assert open_registry(Path("option")).root == folder / "option"
    monkeypatch.setenv("RLHF_REGISTRY", "")
    assert open_registry(None).root == tmp_path / "project" / "registry"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (3_420_000, "3.42 MB"), (999_999, "1 MB")],
)
def test_size_text(size: int, text: str) -> None:
    assert size_text(size) == text


def test_registry_commands_load_no_torch() -> None:
    code = "import sys, stages.registry_commands; print('torch' in sys.modules, 'transformers' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["False", "False"]

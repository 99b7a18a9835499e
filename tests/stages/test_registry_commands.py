import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from fakes import function_stage
from pydantic import BaseModel
from registry_folders import RUN, put, reseal
from typer.testing import CliRunner

from commands.options import open_registry
from commands.printing.lines import FOLDED_ROWS
from commands.registry import registry_app
from registry.errors import ReferenceNotFound
from registry.saved_states import SavedStates
from registry.store import Registry
from stages.engine.run import run_stage
from stages.stage import Inputs
from stages.terminal.progress import Progress
from stages.terminal.screen_text import size_text

runner = CliRunner()


class FillConfig(BaseModel):
    factor: float = 2.0


def fill(config: FillConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates) -> dict[str, Any]:
    (out / "data").write_text(f"made from {list(inputs)}")
    return {"loss": 0.5, "by_family": {"fact": 1 / 3, "count": 2}, "empty": {}, "curve": [1, 2]}


FILL = function_stage("fill", "prompts", 1, FillConfig, fill)


@pytest.fixture
def filled(tmp_path: Path) -> Registry:
    """prompts/data@1, made from prompts/root@1."""
    registry = Registry(tmp_path / "registry")
    make(registry, "root", {})
    make(registry, "data", {"source": ["prompts/root"]})
    return registry


def make(registry: Registry, name: str, inputs: dict[str, list[str]], seed: int = 0) -> None:
    progress = Progress(quiet=True)
    run_stage(registry, FILL, name=name, config=FillConfig(), inputs=inputs, seed=seed, progress=progress)


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
    assert rows["artifact"] == "prompts/data@1" and rows["parent source"] == f"prompts/root@1  {root.digest[:12]}"
    assert rows["config factor"] == "2.0" and rows["metric loss"] == "0.5" and "file data" in rows
    assert rows["metric by_family.fact"] == "0.333333" and rows["metric by_family.count"] == "2"
    assert rows["metric empty"] == "{}" and rows["metric curve"] == "[1, 2]" and "alias" not in rows
    assert rows["digest"] == filled.resolve("prompts/data").digest and "seed 0" in rows["stage"]
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


def test_the_registry_comes_from_the_option_then_the_environment_then_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RLHF_REGISTRY", raising=False)
    folder = tmp_path / "project" / "deep"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    (folder / "rlhf-project.yaml").touch()  # of an earlier release, which looked for it
    assert open_registry(None).root == folder / "rlhf-registry"
    monkeypatch.setenv("RLHF_REGISTRY", str(tmp_path / "environment"))
    assert open_registry(None).root == tmp_path / "environment"
    assert open_registry(Path("option")).root == folder / "option"
    monkeypatch.setenv("RLHF_REGISTRY", "")
    assert open_registry(None).root == folder / "rlhf-registry"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (3_420_000, "3.42 MB"), (999_999, "1 MB")],
)
def test_size_text(size: int, text: str) -> None:
    assert size_text(size) == text


def test_show_says_whether_the_code_was_committed(tmp_path: Path) -> None:
    registry, found = Registry(tmp_path), []
    for number, revision in enumerate(("a" * 40, "a" * 40 + "-dirty", None)):
        run = RUN.model_copy(update={"git_revision": revision})
        put(registry, "policy/sft", {"model": "w"}, f"{number}", run)
        rows = dict(line.split("\t", 1) for line in command(registry, "show", "policy/sft").stdout.splitlines())
        found.append(rows["code"])
    assert found == ["a" * 40, "a" * 40 + ", with changes that were not committed", "outside a git checkout"]
    registry.set_alias("policy/chat", "policy/sft")
    assert "alias\tpolicy/chat\n" in command(registry, "show", "policy/chat").stdout


def test_list_goes_on_past_what_cannot_be_read(filled: Registry) -> None:
    path = filled.resolve("prompts/root").path / "manifest.json"
    reseal(path, json.dumps(json.loads(path.read_text()) | {"format_version": 99}))
    done = command(filled, "list")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(line[0], line[1]) for line in lines[1:]] == [("prompts/data@1", "fill"), ("prompts/root@1", "UNREADABLE")]
    assert done.exit_code == 0 and "error: prompts/root@1 cannot be read: " in done.stderr
    assert "has format_version 99" in done.stderr and "2 artifacts, " in done.stderr
    found = json.loads(command(filled, "list", "--json").stdout)
    assert [each["artifact"] for each in found["artifacts"]] == ["prompts/data@1"]
    assert found["unreadable"][0]["artifact"] == "prompts/root@1" and "99" in found["unreadable"][0]["problem"]
    assert command(filled, "show", "prompts/root").exit_code == 2
    assert "prompts/root@1 (cannot be read" in command(filled, "lineage", "prompts/data").stdout
    verified = command(filled, "verify")
    assert verified.exit_code == 1 and "prompts/root@1: WRONG" in verified.stdout and "prompts/data@1: WRONG" in verified.stdout
    for number in range(7):
        put(filled, "policy/sft", {"model": str(number)}).path.joinpath("manifest.json").unlink()
    told = command(filled, "list").stderr.splitlines()
    assert told[-1] == "error: and 3 more; rlhf registry verify names them all"
    assert sum(" cannot be read: " in line for line in told) == 5


def test_torn_aliases_and_those_that_lead_nowhere_are_told(filled: Registry) -> None:
    filled.set_alias("prompts/best", "prompts/root")
    shutil.rmtree(filled.root / "prompts" / "root")
    done = command(filled, "list")
    assert done.exit_code == 0 and "error: the alias prompts/best points at prompts/root@1, which is not in" in done.stderr
    (filled.root / "aliases.json").write_text('{"prompts/best"')
    done = command(filled, "list")
    assert done.exit_code == 0 and done.stdout.count("\n") == 2 and "aliases.json is not a JSON object" in done.stderr
    assert json.loads(command(filled, "list", "--json").stdout)["aliases"] == {}
    done = command(filled, "verify")
    assert done.exit_code == 1 and "aliases.json: WRONG" in done.stdout
    assert command(filled, "verify", "--json").stdout.count("set the aliases again") == 1


def test_a_stage_whose_input_is_gone_says_which_before_it_runs(filled: Registry) -> None:
    shutil.rmtree(filled.root / "prompts" / "root")
    with pytest.raises(ReferenceNotFound, match=r"'prompts/root' is not in .* Valid: prompts/data"):
        make(filled, "data", {"source": ["prompts/root"]}, seed=1)
    done = command(filled, "verify", "prompts/data")
    assert done.exit_code == 1 and "  prompts/root@1: the parent in the role 'source' cannot be opened" in done.stdout
    assert "└─ source: prompts/root@1 (missing from the registry)" in command(filled, "lineage", "prompts/data").stdout


def test_remove_and_prune_commands(filled: Registry) -> None:
    refused = command(filled, "remove", "prompts/root")
    assert refused.exit_code == 2 and "prompts/root@1 is a parent of prompts/data@1" in refused.stderr
    make(filled, "data", {"source": ["prompts/root"]}, seed=1)
    (filled.root / ".removed" / "policy-old-1").mkdir(parents=True)
    shown = command(filled, "prune")
    assert shown.stdout.splitlines()[:2] == ["prompts/data@1", "policy-old-1, left by an interrupted command"]
    assert shown.stdout.splitlines()[2].startswith("1 artifacts, ") and shown.stdout.endswith("can go; --yes removes them\n")
    found = json.loads(command(filled, "prune", "--json").stdout)
    assert found["would_remove"] == ["prompts/data@1"] and found["leftovers"] == ["policy-old-1"]
    assert (filled.root / ".removed" / "policy-old-1").exists()
    done = command(filled, "prune", "--yes")
    assert done.stdout.splitlines()[0] == "prompts/data@1" and "had left: policy-old-1" in done.stderr
    assert command(filled, "prune").stdout == "0 artifacts, 0 B, can go\n"
    assert json.loads(command(filled, "remove", "prompts/data", "--json").stdout) == {"removed": ["prompts/data@2"]}


def test_a_draft_that_cannot_tell_what_it_is_is_shown_and_discarded(filled: Registry) -> None:
    (filled.root / ".drafts" / "ab" / "states").mkdir(parents=True)
    assert command(filled, "drafts").stdout.splitlines()[1].split("\t") == ["unknown", "ab", "0", "unknown", "stopped"]
    assert "1 unfinished; see `rlhf registry drafts`" in command(filled, "list").stderr
    assert json.loads(command(filled, "drafts", "--discard", "--json").stdout)["discarded"] == ["ab"]
    assert "nothing is unfinished" in command(filled, "drafts").stderr


def test_an_export_that_cannot_be_written_is_told(filled: Registry, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    done = command(filled, "export", "prompts/data", str(tmp_path / "file" / "plain"))
    assert done.exit_code == 1 and "error: " in done.stderr and str(tmp_path / "file") in done.stderr
    assert command(filled, "export", "prompts/data", str(tmp_path / "plain")).exit_code == 0
    assert (tmp_path / "plain" / "data").exists()


@pytest.mark.parametrize(("rows", "folded"), [(2, True), (FOLDED_ROWS + 1, False)])
def test_a_terminal_gets_columns_that_are_folded_unless_there_are_thousands(rows: int, folded: bool) -> None:
    code = (
        f"from commands.printing.lines import print_table; print_table(['name', 'value'], [['a', 'x' * 100 + 'END']] * {rows})"
    )
    terminal, inside = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "60", "TERM": "xterm"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=inside, env=environment):
        os.close(inside)
        shown = b""
        try:
            while part := os.read(terminal, 65536):
                shown += part
        except OSError:  # so a terminal says that its other side has closed
            pass
    os.close(terminal)
    assert (b"xEND" in shown and b"x" * 100 in shown) is not folded and b"name" in shown and b"END" in shown

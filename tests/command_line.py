"""The command line in a process of its own, with sockets or without, or in this one."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

from click.testing import Result
from typer.testing import CliRunner

from commands.cli import app

ROOT = Path(__file__).resolve().parents[1]
NO_SOCKETS = """
import socket, sys
def refuse(*arguments, **options):
    raise OSError("a connection was tried: " + repr(arguments[1:]))
socket.socket.connect = refuse
socket.socket.connect_ex = refuse
socket.getaddrinfo = refuse
sys.argv = ["rlhf", *sys.argv[1:]]
from commands.cli import main
main()
"""


def rlhf(*arguments, sockets=True, cwd=ROOT, env=None, **options):
    """Run the command line in a process of its own, on one thread: two runs may stand side by side."""
    command = [sys.executable, "-m", "commands.cli"] if sockets else [sys.executable, "-c", NO_SOCKETS]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RLHF_REGISTRY": "", "OMP_NUM_THREADS": "1", **(env or {})}
    return subprocess.run([*command, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, **options)


def rlhf_here(*arguments, cwd):
    """The same in this process, for what is refused: a process of its own takes seconds to load what it then does not use."""
    with contextlib.chdir(cwd):
        done = CliRunner(env={"RLHF_REGISTRY": ""}).invoke(app, [str(each) for each in arguments])
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def run_here(*arguments: object, code: int = 0) -> Result:
    """The same in this folder, where it is to end with ``code``."""
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == code, done.output
    return done


def plain(text: str) -> str:
    """Without colours, in one line."""
    return re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m", "", text))

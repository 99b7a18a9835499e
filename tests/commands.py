"""The command line in a process of its own, with sockets or without."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NO_SOCKETS = """
import socket, sys
def refuse(*arguments, **options):
    raise OSError("a connection was tried: " + repr(arguments[1:]))
socket.socket.connect = refuse
socket.socket.connect_ex = refuse
socket.getaddrinfo = refuse
sys.argv = ["rlhf", *sys.argv[1:]]
from stages.cli import main
main()
"""


def rlhf(*arguments, sockets=True, cwd=ROOT, env=None, **options):
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "stages.cli"] if sockets else [sys.executable, "-c", NO_SOCKETS]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RLHF_REGISTRY": "", **(env or {})}
    return subprocess.run([*command, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, **options)

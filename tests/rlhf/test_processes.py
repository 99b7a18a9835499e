"""PPO on two processes is PPO on one: whitening, penalties and losses are of the whole batch, and the weights stay alike."""

import os
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from fakes import talking_policy, tiny_policy, tiny_tokenizer
from ppo_fakes import HELD_OUT, PROMPTS, REWARD, config, value_model

from rlhf.ppo import ppo
from rlhf.processes import Processes, ProcessesError

SETTINGS = config(
    iterations=2, minibatch_size=3, microbatch_size=1, ppo_epochs=2, kl_coef=0.3, validation={"every": 1}, batch_size=6
)


def trained(out: Path) -> None:
    """Train from fixed seeds, and write the stats and the weights of policy and critic."""
    policy, critic = talking_policy().double(), value_model(torch.float64)
    ref_policy = tiny_policy(seed=5, dtype=torch.float64)
    stats = list(ppo(policy, ref_policy, critic, tiny_tokenizer(), PROMPTS, REWARD, SETTINGS, 3, None, HELD_OUT))
    weights = [torch.cat([parameter.detach().flatten() for parameter in model.parameters()]) for model in (policy, critic)]
    torch.save({"weights": weights, "stats": stats}, out)


def _worker(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    assert Processes.current() == Processes(rank, 2)
    trained(folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    tests = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)])}
    started = [
        subprocess.Popen([sys.executable, __file__, str(rank), str(port), str(tmp_path)], env=environment) for rank in range(2)
    ]
    assert [each.wait(timeout=300) for each in started] == [0, 0]
    trained(tmp_path / "alone.pt")
    alone, first, second = (torch.load(tmp_path / name, weights_only=False) for name in ("alone.pt", "0.pt", "1.pt"))
    for mine, one, other in zip(alone["weights"], first["weights"], second["weights"], strict=True):
        assert torch.equal(one, other)
        assert (mine - one).abs().max() < 1e-9
    for ours, theirs in zip(alone["stats"], first["stats"], strict=True):
        for field in fields(ours):
            if "seconds" not in field.name and field.name != "validations":
                assert getattr(ours, field.name) == pytest.approx(getattr(theirs, field.name), abs=1e-9), field.name
        assert [each.answers for each in ours.validations] == [each.answers for each in theirs.validations]
        assert [each.score for each in ours.validations] == pytest.approx([each.score for each in theirs.validations])
    assert any(stats.empty_fraction > 0 for stats in alone["stats"])  # so a share must know the lowest score of the others


def test_processes_that_do_not_know_of_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ProcessesError, match="2 processes were launched and no process group was made"):
        Processes.current()


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_shares_are_all_items_once(count: int) -> None:
    items = list(range(7))
    assert [item for rank in range(count) for item in Processes(rank, count).share(items)] == items


if __name__ == "__main__":
    _worker(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))

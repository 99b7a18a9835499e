"""One check of ``rlhf doctor``: its subject, its state, what was found and what to do about it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "wrong", "skipped", "note"]


@dataclass(frozen=True, slots=True)
class Check:
    """``state``: as it should be, wrong, not checked, or worth knowing. ``advice``: what to do, '' where there is nothing."""

    name: str
    state: State
    found: str
    advice: str = ""


def checked(name: str, problems: list[str], fine: str, advice: str) -> Check:
    """Wrong with its problems, or else ok."""
    return Check(name, "wrong", "; ".join(problems), advice) if problems else Check(name, "ok", fine)


def shown(check: Check) -> str:
    """The check as lines for people."""
    state = "WRONG" if check.state == "wrong" else check.state
    line = f"{state:<9}{check.name}: {check.found}"
    return f"{line}\n{'':<9}-> {check.advice}" if check.advice else line


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    """``{"healthy": bool, "checks": [...]}``; healthy: nothing is wrong."""
    return {"healthy": all(check.state != "wrong" for check in checks), "checks": [asdict(check) for check in checks]}

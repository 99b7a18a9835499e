"""Text and numbers on a terminal of a given width: cut, broken into lines, made harmless, drawn as a row of bars."""

import math
from collections.abc import Sequence
from statistics import fmean

from rich.text import Text

_BARS = "▁▂▃▄▅▆▇█"


def plain(text: str) -> str:
    """``text`` on one line, every control character replaced: what a model writes must not steer the terminal."""
    return "".join(character if character.isprintable() else "�" for character in " ".join(text.split()))


def fitted(line: Text, width: int) -> Text:
    """``line``, cut to ``width`` cells with an ellipsis."""
    line.truncate(width, overflow="ellipsis")
    line.no_wrap = True
    return line


def wrapped(text: str, width: int, most: int) -> list[str]:
    """``text`` in at most ``most`` lines of ``width`` cells, broken between words where there are any; the last is cut."""
    lines: list[str] = []
    rest = Text(text)
    while rest.plain and len(lines) < most - 1 and rest.cell_len > width:
        taken = rest.copy()
        taken.truncate(max(1, width))
        end = len(taken.plain)
        cut = taken.plain.rfind(" ")
        cut = cut if cut > end // 2 and rest.plain[end : end + 1] != " " else end
        lines.append(rest.plain[:cut].rstrip())
        rest = Text(rest.plain[cut:].lstrip())
    return [*lines, rest.plain] if rest.plain and most > 0 else lines


def number(value: float, share: bool = False, sign: bool = False) -> str:
    """Three digits that mean something, without an exponent while that is short; shares in per cent."""
    plus = "+" if sign else ""
    if not math.isfinite(value):
        return str(value)
    if share:
        return f"{100 * value:{plus}.1f}%"
    size = abs(value)
    if size and (size < 1e-3 or size >= 1e5):
        return f"{value:{plus}.1e}"
    return f"{value:{plus},.{0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3}f}"


def sparkline(values: Sequence[float], width: int) -> str:
    """``values`` as at most ``width`` bars; a blank where there is no number, the middle bar where all are equal."""
    means = [_mean(values[start:end]) for start, end in _buckets(len(values), min(width, len(values)))]
    known = [mean for mean in means if math.isfinite(mean)]
    if not known:
        return " " * len(means)
    low, high = min(known), max(known)
    return "".join(_bar(mean, low, high) if math.isfinite(mean) else " " for mean in means)


def _bar(value: float, low: float, high: float) -> str:
    if high == low:
        return _BARS[3]
    return _BARS[min(len(_BARS) - 1, int((value - low) / (high - low) * len(_BARS)))]


def _buckets(count: int, parts: int) -> list[tuple[int, int]]:
    return [(part * count // parts, (part + 1) * count // parts) for part in range(parts)]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return fmean(known) if known else math.nan


def size_text(size: int) -> str:
    """Bytes for people, in powers of 1000: ``812 B``, ``3.4 MB``."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:
            return f"{size} B" if unit == "B" else f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"

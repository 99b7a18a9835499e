"""The margin m(rating) of the ranking loss -log sigmoid(chosen - rejected - m(rating)) (paper Equation 2, Table 27)."""

from collections.abc import Mapping
from typing import Final, Literal

from preference_data.comparison import Rating

MarginPreset = Literal["none", "small", "large"]
Margins = MarginPreset | Mapping[Rating, float]

MARGINS: Final[dict[str, dict[Rating, float]]] = {
    "none": {"significantly_better": 0.0, "better": 0.0, "slightly_better": 0.0, "negligibly_better": 0.0, "unrated": 0.0},
    "small": {"significantly_better": 1.0, "better": 2 / 3, "slightly_better": 1 / 3, "negligibly_better": 0.0, "unrated": 0.0},
    "large": {"significantly_better": 3.0, "better": 2.0, "slightly_better": 1.0, "negligibly_better": 0.0, "unrated": 0.0},
}
"""Table 27 by preset and rating. Unrated comparisons take margin 0: the paper does not say, so this is our choice."""


def margin(rating: Rating, margins: Margins) -> float:
    """m(rating) in raw-logit units, at least 0. ``margins``: a preset or a table, in which "unrated" is 0 unless it is given.

    Raises ValueError for an unknown preset or rating.
    """
    if isinstance(margins, str) and margins not in MARGINS:
        raise ValueError(f"there is no margin preset {margins!r}; use one of {', '.join(MARGINS)}")
    table = MARGINS[margins] if isinstance(margins, str) else {"unrated": 0.0, **margins}
    if rating not in table:
        raise ValueError(f"there is no margin for the rating {rating!r}; ratings are {', '.join(table)}")
    return table[rating]

"""What the paper claims: one sentence per claim, its place in the paper, and the paper's numbers (arXiv 2307.09288).

A finding has an id, F1 to F31; those in CORE are shown in every report, measured or not. ``paper`` holds the numbers that do
not stand beside a part of the finding, and says which were read off a chart.
"""

from dataclasses import dataclass

from eval.findings.verdict import Effect, Finding

CORE = ("F1", "F2", "F4", "F8", "F9", "F12", "F13", "F14", "F15", "F23", "F25", "F26")


@dataclass(frozen=True, slots=True)
class Claim:
    """``source``: table, figure or section of the paper."""

    source: str
    text: str
    paper: str = ""


CLAIMS = {
    "F1": Claim("Tables 7, 8", "each reward model is best on its own axis"),
    "F2": Claim("Table 8", "accuracy rises with the annotators' rating"),
    "F3": Claim("Table 28", "the margin helps separable pairs; the large margin does not help the negligible ones"),
    "F4": Claim("Table 29", "the safety auxiliary loss lifts recall of unsafe responses at 0.5 without costing accuracy"),
    "F5": Claim(
        "Fig 6",
        "reward accuracy grows with preference data",
        "with 70B from 0.51 to 0.63 over 14 batches, from 0.50 to 0.81 where the preference is clear, off the chart",
    ),
    "F6": Claim(
        "Fig 6", "a larger reward model is better at equal data", "0.610, 0.614, 0.634 with 7B, 13B, 70B, off the chart"
    ),
    "F7": Claim(
        "Fig 27",
        "a larger margin pushes scores to the ends of (0, 1)",
        "some 8 % of the scores in the chart's uppermost step and 4 % in its lowest with the large one; under 2 % without",
    ),
    "F8": Claim(
        "Fig 29",
        "reward scores rise with the judges' absolute ratings, on both axes",
        "mean score from 0.24 to 0.55 for helpfulness, from 0.29 to 0.78 for safety, off the chart",
    ),
    "F9": Claim(
        "Fig 7",
        "best of N rises with N, the median stays flat",
        "maximum from 0.54 to 0.67, median 0.54 throughout, off the chart",
    ),
    "F10": Claim(
        "Fig 8",
        "the best sampling temperature is higher for many samples than for one",
        "of the RLHF model with one sample 0.50 to 0.54 up to T 1.3 and 0.34 at 1.5, with 100 samples the most, 0.72 to 0.73, "
        "at T 1.1 to 1.3, off the chart",
    ),
    "F11": Claim(
        "section 3.2.3",
        "training on the previous round's samples alone loses a rare skill; pooling the best of all rounds keeps it",
        "RLHF-V3, trained on V2's alone, got worse at composing rhyming lines; no numbers",
    ),
    "F12": Claim(
        "Fig 11",
        "the helpfulness win rate grows from SFT through V1 to V5",
        "39 % to 78 % by its own reward model, off the chart",
    ),
    "F13": Claim(
        "Fig 11",
        "the harmlessness win rate grows from SFT through V1 to V5",
        "22 % to 76 % by its own reward model, off the chart",
    ),
    "F14": Claim(
        "Fig 11",
        "PPO on top of rejection sampling improves again",
        "helpfulness 70 % to 78 %, harmlessness 67 % to 76 %, off the chart",
    ),
    "F15": Claim(
        "Table 30",
        "without Ghost Attention the instruction is lost by turn 4 to 6; with it it holds through turn 20",
        "without: 10 % at turn 4, none from turn 6 on; with: 100 % through turn 20",
    ),
    "F16": Claim(
        "A.3.5",
        "Ghost Attention generalises to constraints that it was never trained with",
        "no numbers; examples are answers as haiku and answers in one sentence",
    ),
    "F17": Claim(
        "Fig 10",
        "with Ghost Attention late turns attend more to the instruction",
        "a picture of one dialogue; no numbers",
    ),
    "F23": Claim("Fig 20", "RLHF removes the bad tail: low scores become rarer from SFT through V1 to V2"),
    "F25": Claim(
        "section 3.4.1",
        "no Goodhart: as the reward's score of PPO's checkpoints rises, so does what people, or gold, think of them",
    ),
    "F26": Claim("section 3.2.3", "a safety score below 0.15 is a high-precision switch", "recall 0.55"),
    "F29": Claim("section 3.2.3", "small models gain from a larger model's rejection samples", "no numbers"),
    "F30": Claim(
        "section 3.4.1",
        "an independent guard, a reward model of other annotators that no training sees, rises with the tuned ones",
        "no numbers",
    ),
}


def finding(name: str, *effects: Effect) -> Finding:
    """The finding ``name`` with its measured effects; without effects it was not measured."""
    claim = CLAIMS[name]
    return Finding(name, claim.source, claim.text, effects, claim.paper)

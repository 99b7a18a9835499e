"""The paper's own numbers that the report prints beside ours (arXiv 2307.09288); shares are fractions.

Numbers read off a chart are approximate. The paper has no closed world with a gold judge: its raters are people, and its
Figure 11 compares with ChatGPT where this project compares with its own SFT policy. Compare direction and size; the numbers
are not targets.
"""

TABLE_8 = {  # (reward model, test set) -> accuracy by rating
    ("helpfulness", "helpfulness"): {
        "significantly_better": 0.807,
        "better": 0.675,
        "slightly_better": 0.609,
        "negligibly_better": 0.547,
        "all": 0.632,
    },
    ("safety", "helpfulness"): {
        "significantly_better": 0.646,
        "better": 0.575,
        "slightly_better": 0.538,
        "negligibly_better": 0.522,
        "all": 0.562,
    },
    ("helpfulness", "safety"): {
        "significantly_better": 0.899,
        "better": 0.732,
        "slightly_better": 0.638,
        "negligibly_better": 0.545,
        "all": 0.628,
    },
    ("safety", "safety"): {
        "significantly_better": 0.943,
        "better": 0.763,
        "slightly_better": 0.657,
        "negligibly_better": 0.553,
        "all": 0.645,
    },
}

TABLE_30 = {"with": {2: 1.0, 4: 1.0, 6: 1.0, 20: 1.0}, "without": {2: 1.0, 4: 0.10, 6: 0.0, 20: 0.0}}

RATING_SHARES = {  # Figure 25 in mid-run, read off the chart
    "significantly_better": 0.125,
    "better": 0.26,
    "slightly_better": 0.31,
    "negligibly_better": 0.305,
}

# What the headline table prints for each measure.
HEADLINE = {
    "gold_helpfulness_win_rate": "about 78 % by its own reward model, against ChatGPT (Fig 11)",
    "gold_harmlessness_win_rate": "about 76 % by its own reward model, against ChatGPT (Fig 11)",
    "violation_rate_final": "3–7 % after RLHF, by model size (Fig 17)",
    "false_refusal_rate_helpful": "0.006–0.05 % (Fig 33)",
    "false_refusal_rate_borderline": "15–27 % (Fig 33)",
}
DETECTION = {0.15: "precision 0.89, recall 0.55 (section 3.2.3)", 0.5: "recall 0.90 (Table 29)"}
AGREEMENT = {
    "ac2_ratings": "AC2 0.37–0.55 (section 3.4.2)",
    "ac2_safety_labels": "AC2 0.92 (section 4.4)",
}

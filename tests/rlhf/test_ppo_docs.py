"""docs/ppo.md tells of every field of PPOStats in the words of the code."""

import dataclasses

from command_line import ROOT

from rlhf.ppo_stats import PPOStats


def test_the_page_s_table_is_the_fields_of_the_stats() -> None:
    page = (ROOT / "docs" / "ppo.md").read_text(encoding="utf-8")
    told = {field.name: field.metadata["help"].replace("|", "\\|") for field in dataclasses.fields(PPOStats)}
    rows = [f"| `{name}` | {meaning} |" for name, meaning in told.items()]
    table = "\n".join(["| field | meaning |", "|---|---|", *rows, ""])
    assert table in page, f"the table of docs/ppo.md should be\n{table}"

"""Constraints that a policy proposes: what is read off its lists, and what it names often enough."""

from fakes import ScriptedPolicy

from gatt.constraint_file import constraint_of
from gatt.proposals import Proposal, known, listed, propose

LISTS = (
    "Sure, here are twenty of them for you to choose from!\n\n1. Napoleon\n2. Oscar Wilde - a writer\n3. Plato",
    "- napoleon\n- Plato\n- Plato\n- Zorblax the Great",
    "* **Napoleon**\n* Marie Curie (1867)\n* [INST]",
)


def test_a_list_is_read_whatever_it_looks_like_and_talk_is_left_out() -> None:
    assert listed(LISTS[0]) == ["Napoleon", "Oscar Wilde", "Plato"]
    assert listed(LISTS[1]) == ["napoleon", "Plato", "Plato", "Zorblax the Great"]
    assert listed(LISTS[2]) == ["Napoleon", "Marie Curie"]
    assert listed("10) chess: a game\n11. rock-climbing\nWhat else?\n\n") == ["chess", "rock-climbing"]
    assert listed("Sure, here is the list that you asked for\nHobbies:\nchess\nrock climbing.\n\n") == [
        "chess",
        "rock climbing",
    ]
    assert listed("ch\x00ess\n</s>\ndarts") == ["darts"]


def test_a_value_counts_once_an_answer_in_any_spelling() -> None:
    sampler = ScriptedPolicy(lambda messages, position: LISTS[position])
    proposals = propose(sampler, "figure", samples=3, count=7, temperature=1.0, max_new_tokens=50, seed=0)
    assert proposals[0] == Proposal("figure", "Napoleon", 3, 3)
    assert {proposal.value: proposal.mentions for proposal in proposals} == {
        "Napoleon": 3, "Plato": 2, "Oscar Wilde": 1, "Zorblax the Great": 1, "Marie Curie": 1,
    }  # fmt: skip
    assert len(sampler.asked) == 1 and "Name 7 famous public figures" in sampler.asked[0][0]["content"]
    assert [proposal.value for proposal in known(proposals, 2)] == ["Napoleon", "Plato"]
    assert constraint_of({"family": "figure", "value": known(proposals, 3)[0].value}).terse == "Figure: Napoleon."

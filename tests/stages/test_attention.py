"""The part of the study of Ghost Attention that tells F17, and `rlhf attention`, on small random policies."""

import json
import re

import numpy as np
import pytest
import torch
from fakes import tiny_policy, tiny_tokenizer
from row_files import write
from transformers import LlamaForCausalLM
from typer.testing import CliRunner

from commands.cli import app
from eval.report.figure import drawn
from policy.chat import CHAT_TEMPLATE, encode_dialogue, encode_prompt
from policy.checkpoint import save_checkpoint
from policy.tokenizer import train_tokenizer
from preference_data.messages import assistant, user
from stages.measure.attention import NUM_BINS, Transcript, attention_arms
from stages.terminal.progress import Progress

INSTRUCTION = "Always act as Napoleon."
QUIET = Progress(quiet=True)
RUNNER = CliRunner()


def talk(turns, start="What colour is the sea?"):
    messages = [user(f"{INSTRUCTION} {start}"), assistant("The sea is blue.")]
    return messages + [user("And the fox?"), assistant("The fox is brown. Sure!")] * (turns - 1)


def transcripts(*lengths):
    return [Transcript(f"d{place}", INSTRUCTION, talk(turns, "Hi! " * place)) for place, turns in enumerate(lengths, start=1)]


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """Three random policies; the second looks sharper, the third sharper still."""
    folder = tmp_path_factory.mktemp("policies")
    for place, name in enumerate(("v3", "v3-gatt", "final")):
        model = tiny_policy(place)
        with torch.no_grad():
            for layer in model.model.layers:
                layer.self_attn.q_proj.weight *= 1 + 4 * place
        save_checkpoint(model, tiny_tokenizer(), folder / name)
    other = train_tokenizer(["The fox is brown and the sea is blue. Always act!"] * 9, 400, CHAT_TEMPLATE)
    save_checkpoint(tiny_policy(), other, folder / "other")
    return folder


def arms(folder):
    return {"without": folder / "v3", "right after": folder / "v3-gatt", "with": folder / "final"}


def by_hand(checkpoint, messages, turn):
    """(maximum, mean of heads, share) from turn ``turn`` to the instruction, of a plain eager model."""
    model = LlamaForCausalLM.from_pretrained(checkpoint, attn_implementation="eager")
    tokenizer = tiny_tokenizer()
    ids = encode_dialogue(tokenizer, messages).ids
    with torch.no_grad():
        weights = torch.cat(model(torch.tensor([ids]), output_attentions=True).attentions).numpy()
    start = len(encode_dialogue(tokenizer, messages[: 2 * turn - 2]).ids)
    stop = len(encode_dialogue(tokenizer, messages[: 2 * turn]).ids)
    first = 1 + len(tokenizer("[INST]", add_special_tokens=False)["input_ids"])
    alone = len(encode_prompt(tokenizer, [user(INSTRUCTION)]).ids) - (first - 1)  # without its [/INST]
    assert tokenizer.decode(ids[first:alone]).strip() == INSTRUCTION
    block = weights[:, :, start:stop, first:alone]
    return block.max(), block.max(axis=(2, 3)).mean(), block.sum(axis=3).mean()


def test_every_arm_reads_the_same_dialogues_to_the_last_turn(policies):
    given = transcripts(4, 2, 3, 5)
    part = attention_arms(arms(policies), given, (1, 2, 3), QUIET)
    assert {(row.arm, row.dialogue, row.turn) for row in part.rows} == {
        (arm, dialogue, turn) for arm in arms(policies) for dialogue in ("d1", "d3", "d4") for turn in (2, 3)
    }
    for row in part.rows:
        messages = given[int(row.dialogue[1:]) - 1].messages[:6]
        expected = by_hand(arms(policies)[row.arm], messages, row.turn)
        assert (row.maximum, row.mean_of_heads, row.share) == pytest.approx(expected, abs=1e-6)
    (effect,) = part.finding.effects
    late = {arm: [row.maximum for row in part.rows if (row.arm, row.turn) == (arm, 3)] for arm in arms(policies)}
    assert effect.estimate.value == pytest.approx(np.mean(late["with"]) - np.mean(late["without"]))
    assert effect.estimate.n == 3 and "turn 3" in effect.name
    assert part.notes[0].startswith("Attention is that of each policy reading the same 3 dialogues to turn 3")
    assert part.notes[0].endswith("3 of 4 dialogues that the policy without GAtt held go to turn 3; 1 ended before.")
    assert [table.columns for table in part.tables] == [("turn 2", "turn 3")] * 3


def test_the_heat_maps_stand_side_by_side_whatever_the_order_of_the_arms(policies):
    given, turned = arms(policies), dict(reversed(arms(policies).items()))
    first, second = (attention_arms(each, transcripts(3), (2, 3), QUIET) for each in (given, turned))
    assert first.figures.keys() == second.figures.keys() == {"attention-1-without", "attention-2-with", "attention-by-turn"}
    for name in ("attention-1-without", "attention-2-with"):
        assert drawn(first.figures[name]) and first.figures[name] == second.figures[name]
        assert f">{name.split('-')[-1]} GAtt<" in first.figures[name]


def test_without_a_dialogue_that_is_long_enough_nothing_is_measured(policies):
    for turns in ((2, 6), (1,)):
        part = attention_arms(arms(policies), transcripts(3, 4), turns, QUIET)
        assert part.finding.verdict == "not measured" and not part.figures and not part.rows and not part.tables
        assert part.notes[0].startswith("Attention was not looked at: of 2 dialogues none")


def test_no_more_dialogues_are_read_than_asked_for(policies):
    part = attention_arms(arms(policies), transcripts(2, 3, 3, 3), (3,), QUIET, limit=2)
    assert {row.dialogue for row in part.rows} == {"d2", "d3"}
    assert "the same 2 dialogues to turn 3" in part.notes[0] and "3 of 4 dialogues" in part.notes[0]
    part = attention_arms(arms(policies), transcripts(2, 3), (3,), QUIET, limit=0)
    assert part.finding.verdict == "not measured" and not part.rows
    assert part.notes[0].startswith("Attention was not looked at, as none was asked for: 1 of 2 dialogues")


def test_policies_that_cannot_be_compared_are_refused(policies):
    with pytest.raises(ValueError, match="asked of the arms without, and with must be among them"):
        attention_arms({"without": policies / "v3"}, transcripts(2), (2,), QUIET)
    with pytest.raises(ValueError, match=r"without and with read dialogue d1 as other tokens \(\d+ and \d+\)"):
        attention_arms({"without": policies / "v3", "with": policies / "other"}, transcripts(2), (2,), QUIET)


def attend(folder, *arguments):
    return RUNNER.invoke(app, ["attention", str(folder / "talks.jsonl"), *map(str, arguments)])


@pytest.fixture
def talks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        {"messages": talk(3), "instruction": INSTRUCTION},
        {"messages": [{"role": "system", "content": INSTRUCTION}, user("And the fox?"), assistant("Brown.")]},
        {"messages": talk(2)},
        {"prompt": "hi"},
        {"messages": talk(200), "instruction": INSTRUCTION},
    ]
    write(tmp_path / "talks.jsonl", rows)
    return tmp_path


def test_the_command_draws_a_page_and_tells_its_numbers(policies, talks):
    done = attend(talks, "--policy", policies / "final", "--against", policies / "v3", "--bin", 3, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    html = (talks / "attention.html").read_text()
    base = policies.name
    assert [row["arm"] for row in told["attention"]] == [f"{base}/v3"] * 2 + [f"{base}/final"] * 2
    assert told["tokens"] == len(encode_dialogue(tiny_tokenizer(), talk(3)).ids) and told["bin"] == 3
    maximum, mean_of_heads, share = by_hand(policies / "final", talk(3), 3)
    last = told["attention"][-1]
    assert (last["maximum"], last["mean_of_heads"], last["share"]) == pytest.approx((maximum, mean_of_heads, share), abs=1e-6)
    assert html.count("<svg") == 2 and html.index(f">{base}/v3<") < html.index(f">{base}/final<")
    assert f"{maximum:.3f}" in re.findall(r"<b>([\d.]+)</b>", html)


def test_the_instruction_is_what_is_given_or_the_rows_or_its_system_message(policies, talks):
    said = attend(talks, "--row", 3, "--policy", policies / "v3", "--instruction", INSTRUCTION, "--out", "one.html")
    assert said.exit_code == 0 and "maximum attention from turn 2 to the instruction 0." in said.stdout
    system = attend(talks, "--row", 2, "--policy", policies / "v3", "--out", "two.html", "--json")
    assert system.exit_code == 0 and json.loads(system.stdout)["attention"] == [], "one turn has none behind it"
    for page in ("one.html", "two.html"):
        assert f"<mark>{INSTRUCTION}</mark>" in (talks / page).read_text()
    tokens = json.loads(system.stdout)["tokens"]
    assert json.loads(system.stdout)["bin"] == -(-tokens // NUM_BINS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--row", "9"], "row 9 of talks.jsonl was asked for, and it has 5 rows"),
        (["--row", "4"], "row 4 of talks.jsonl is not a dialogue: a row needs prompt and response, or messages"),
        (["--row", "3"], "neither a system message nor a field `instruction`"),
        (["--row", "3", "--instruction", "Be kind."], "the first message does not hold the instruction 'Be kind.'"),
        (["--row", "5"], "and the context of this policy holds 1 to"),
        (["--against", "POLICIES/v3"], "both policies are called"),
        (["--against", "POLICIES/other"], "as other tokens"),
        (["--against", "policy/none"], "'policy/none' is not in"),
    ],
)
def test_bad_input_is_told_and_no_page_is_written(policies, talks, arguments, message):
    arguments = [each.replace("POLICIES", str(policies)) for each in arguments]
    done = attend(talks, "--policy", policies / "v3", "--registry", talks / "registry", *arguments)
    told = re.sub(r"\s+", " ", done.stderr).replace(f"{talks}/", "")
    assert done.exit_code == 2 and message in told and not (talks / "attention.html").exists()

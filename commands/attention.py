"""``rlhf attention``: the attention of policies to an instruction, as a page."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from commands.options import DeviceOption, JsonOption, RegistryOption, check_folder, existing, open_registry, plain_errors
from commands.printing.lines import print_json
from policy.placement import check_device, on_device


def attention(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Dialogues: JSONL, JSON, CSV or Parquet, as rlhf score reads.")],
    policy: Annotated[str, typer.Option("--policy", metavar="REF", help="Policy, or a Hugging Face folder.")] = "policy/chat",
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="REF", help="Another policy to compare with, plotted first and on the same scale."),
    ] = None,
    row: Annotated[int, typer.Option("--row", metavar="N", min=1, help="Row of the file.")] = 1,
    instruction: Annotated[
        str | None,
        typer.Option(
            "--instruction",
            metavar="TEXT",
            help="The words of the first message that are to hold throughout. Default: the row's `instruction`, or its system "
            "message.",
        ),
    ] = None,
    bin_size: Annotated[
        int | None, typer.Option("--bin", metavar="N", min=1, help="Largest number of tokens in a bin. Default: about 48 bins.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="HTML page to write.")] = Path("attention.html"),
    registry: RegistryOption = None,
    device: DeviceOption = "cpu",
    json_: JsonOption = False,
) -> None:
    """Plot a policy's attention in one dialogue: the maximum over layers and heads (paper Figure 10).

    Any Llama checkpoint can be drawn. With --against two are drawn side by side, on the same tokens. The attention from each
    turn to the instruction stands below in numbers.

    Example: rlhf attention dialogues.jsonl --policy policy/v3-gatt --against policy/v3 --instruction "Always act as Plato."
    """
    with plain_errors():
        existing(file)
        check_folder(out)
        check_device(device)
        store = open_registry(registry)
        from eval.report.attention_page import render_attention
        from stages.environment import quiet_libraries
        from stages.measure.attention_page import attention_page, reader_of, transcript_in

        quiet_libraries()
        transcript = transcript_in(file, row, instruction)
        readers = [reader_of(store, text) for text in (against, policy) if text]
        with on_device(device):
            page = attention_page(readers, transcript, bin_size)
        out.write_text(render_attention(page), encoding="utf-8")
        if json_:
            rows = [asdict(measured) for measured in page.rows]
            print_json({"page": str(out), "tokens": page.num_tokens, "bin": page.bin_size, "attention": rows})
            return
        if page.rows:
            last = max(measured.turn for measured in page.rows)
            for measured in page.rows:
                if measured.turn == last:
                    typer.echo(f"{measured.arm}: maximum attention from turn {last} to the instruction {measured.maximum:.3f}")
        typer.echo(f"page: {out}")

"""nexvar models, fetch, export, verify, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nexvar.cli._app import echo, verb
from nexvar.cli.options import Device, Dtype, Reads, Writes
from nexvar.errors import NexVarError


@verb()
def models(
    fits: Annotated[bool, typer.Option("--fits", help="which fit this machine, with what options and memory")] = False,
    length: Annotated[int | None, typer.Option(help="with --fits: bases of a sequence; default: the window")] = None,
) -> None:
    """List every checkpoint: parameters, context, licence, and what was verified."""
    from nexvar.cards import all_cards
    from nexvar.weights import machine

    rows: list[tuple[str, ...]] = [("name", "parameters", "context", "weights", "objective", "licence", "parity")]
    for card in all_cards().values():
        size = machine.human_bytes(machine.weight_bytes(card))
        numbers = (f"{card.parameters:,}", f"{card.context:,}", size)
        parity = f"{card.parity} (package {card.package})" if card.package else card.parity
        rows.append((card.name, *numbers, card.objective, card.licence.split(";")[0], parity))
    if fits:
        from nexvar.ops.arithmetic import cpu_products
        from nexvar.weights import footprint

        echo(f"free memory: {machine.human_bytes(machine.free_memory())}", err=True)
        echo(f"on the CPU, products of bfloat16 weights are computed in {cpu_products()}", err=True)
        rows = [("name", "parameters", "objective", "licence", "memory", "how")]
        for card in all_cards().values():
            about = (card.name, f"{card.parameters:,}", card.objective, card.licence.split(";")[0])
            try:
                problem, setting = footprint.hindrance(card), footprint.best(card, length)
            except NexVarError as error:  # of a package whose architecture is broken
                problem, setting = str(error), None
            if problem:
                rows.append((*about, "", f"no: {problem}"))
            elif setting:
                rows.append((*about, machine.human_bytes(setting.bytes), str(setting)))
            else:
                rows.append((*about, "", "no"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@verb()
def fetch(
    name: Annotated[str, typer.Argument(help="a model's name, alias or hub repository")],
    revision: Annotated[str | None, typer.Option(help="instead of the pinned one; checksums then do not apply")] = None,
) -> None:
    """Download a checkpoint beforehand: resumes, checks sizes and checksums, converts torch files to safetensors."""
    from nexvar import cards
    from nexvar.weights import hub

    card = cards.get(name)
    folder = hub.fetch(card, revision)
    hub.read_weights(card, folder)
    echo(folder)


@verb()
def export(
    source: Annotated[
        str, typer.Argument(help="a folder (trained, fine-tuned or downloaded), or a model's name"), Reads()
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="a new folder; nothing is overwritten"), Writes(tree=True)
    ],
    format: Annotated[
        str, typer.Option(help="official (what the original code reads), huggingface (the hub's files) or safetensors")
    ] = "official",
    dtype: Annotated[str, typer.Option(help="auto (as stored), float32, bfloat16, float16")] = "auto",
    adapter: Annotated[
        Path | None, typer.Option(help="a LoRA adapter in PEFT's layout, added to the weights"), Reads()
    ] = None,
    push_to_hub: Annotated[
        str | None, typer.Option(help="OWNER/NAME: upload the folder, too; a new repository is private")
    ] = None,
) -> None:
    """Write a model in the original project's own layout, the hub's, or ours. What cannot go along is named."""
    from nexvar.weights import export as exporting
    from nexvar.weights import hub

    if push_to_hub is not None:
        hub.check_repository(push_to_hub)
    made = exporting.export(source, output, format, dtype=dtype, adapter=adapter)
    for note in made.notes:
        echo(note, err=True)
    echo(f"{', '.join(made.files)} -> {made.folder}")
    if push_to_hub is not None:
        echo(hub.push(made.folder, push_to_hub))


@verb()
def verify(
    source: Annotated[str, typer.Argument(help="a model's name, alias or hub repository, or a folder"), Reads()],
    device: Device = "auto",
    dtype: Dtype = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="without the greedy continuation of 2,000 tokens")] = False,
    revision: Annotated[str | None, typer.Option(help="instead of the pinned one; checksums then do not apply")] = None,
) -> None:
    """Check files, tensors and every value recorded of the real checkpoint; exit code 1 if one differs."""
    from nexvar.verify import verify as checks

    failed = 0
    for check in checks(source, device=device, dtype=dtype, quick=quick, revision=revision):
        echo(check)
        failed += check.outcome == "FAIL"
    if failed:
        echo(f"nexvar: {failed} check(s) failed", err=True)
        raise typer.Exit(1)


@verb()
def doctor() -> None:
    """What this installation has and what works: paste it into a bug report. Exit code 1 if something is broken."""
    from nexvar.doctor import examine

    failed = 0
    for check in examine():
        echo(check)
        failed += check.outcome == "FAIL"
    if failed:
        raise typer.Exit(1)

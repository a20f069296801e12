"""nexvar generate."""

from __future__ import annotations

from typing import Annotated

import typer

from nexvar.cli._app import Device, Dtype, Model, app


@app.command()
def generate(
    prompt: Annotated[list[str], typer.Option(help="the beginning (repeatable)")],
    n_tokens: Annotated[int, typer.Option(help="new tokens")] = 500,
    temperature: float = 1.0,
    top_k: Annotated[int, typer.Option(help="1 is greedy, 0 keeps all")] = 4,
    top_p: float = 1.0,
    seed: int | None = None,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Continue DNA prompts; FASTA on standard output."""
    from nexvar.nexvar import NexVar

    loaded = NexVar(model or "nexvar_mito", device=device, dtype=dtype)
    result = loaded.generate(
        prompt, n_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, progress=True
    )
    for i, (sequence, logprob) in enumerate(zip(result.sequences, result.logprobs_mean, strict=True), start=1):
        typer.echo(f">generated_{i} model={loaded.card.name} mean_log_prob={logprob:.4f}\n{sequence}")

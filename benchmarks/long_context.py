"""Forward, score, prefill and embedding of long sequences: ``python benchmarks/long_context.py [--full] [--fasta F]``.

Small models with random weights, float32; time and peak memory above the model at 32,768 against 8,192 bases (--full:
1,048,576 against 131,072). A ratio of 4 (8) is linear growth; of memory, 1 is none.
A forward gives the logits of the last base alone; scores and embeddings go through ``score_sequences`` and ``embed``.
nexvar: the Hyena layers S, D, H of StripedHyena 2. nexvar-attention adds one attention layer, whose time grows with
the square of the length and whose keys and values with the length: it stays at 8,192 against 4,096 bases.
Without --fasta: random bases.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from _measure import Row, peak_above, report, run_once
from hyenadna import random_model
from nexvar.cards import Card
from nexvar.genome.reference import Fasta
from nexvar.inference.core.pieces import piece_tokens
from nexvar.inference.embed import embed
from nexvar.inference.score import score_sequences
from nexvar.models import caduceus, striped_hyena2
from nexvar.tokenizers import make
from nexvar.weights.load import Loaded


def bases(fasta: Path | None, length: int) -> str:
    """The first ``length`` A, C, G, T, N of all records, one after the other."""
    if fasta is None:
        return "".join(random.Random(0).choices("ACGT", k=length))
    genome, parts = Fasta(fasta), []
    for name in genome.contigs:
        parts.append(genome.fetch(name, *genome.span(name)))
        if sum(map(len, parts)) >= length:
            break
    text = "".join(c if c in "ACGTN" else "N" for c in "".join(parts)[:length])
    if len(text) < length:
        raise SystemExit(f"{fasta} has {len(text):,} bases only")
    return text


def load(family: str, longest: int) -> Loaded:
    torch.manual_seed(0)
    kind, objective, module = "byte", "causal", None
    if family.startswith("nexvar"):
        config = striped_hyena2.Config(
            hidden_size=128, pattern="SDHSDH" if family == "nexvar" else "SDH*", num_attention_heads=2,
            inner_mlp_size=352, hcs_filter_groups=8, hcm_filter_groups=8,
        )  # fmt: skip
        module = striped_hyena2.Model(config)
    elif family == "hyenadna":
        kind, module = "hyenadna", random_model(longest + 2, width=64, layers=4)
    else:
        ps = family == "caduceus-ps"
        swap = {7: 10, 8: 9, 9: 8, 10: 7}
        config = caduceus.Config(
            d_model=32, n_layer=4, rcps=ps, complement_map=tuple(swap.get(i, i) for i in range(16)) if ps else ()
        )
        kind, objective, module = "caduceus", "masked", caduceus.Model(config)
        for p in module.parameters():
            if p.dim() > 1:
                torch.nn.init.normal_(p, std=0.05)
    card = Card(
        name=family, architecture="", tokenizer=kind, objective=objective, context=1 << 30, parameters=1, licence="",
        citation="", parity="", parity_note="", config={},
    )  # fmt: skip
    return Loaded(module.eval(), make(kind), card, torch.device("cpu"), torch.float32)


def jobs(loaded: Loaded, text: str) -> dict[str, Callable[[], Any]]:
    ids = torch.tensor([loaded.tokenizer.encode(text, special=False).ids])
    module, last = loaded.module, slice(-1, None)

    def forward() -> None:
        assert torch.isfinite(module(ids, logits=last).logits).all()

    def prefill() -> None:
        cache = module.new_cache(1, len(text))
        for piece in ids.split(piece_tokens(module, ids.shape[1]), dim=1):
            module(piece, cache=cache, logits=last)

    found: dict[str, Callable[[], Any]] = {"forward": forward}
    if loaded.card.objective == "causal":
        found |= {"score": lambda: score_sequences(loaded, [text]), "prefill": prefill}
    return {**found, "embedding": lambda: embed(loaded, [text])}


@torch.inference_mode()
def rows(full: bool, fasta: Path | None = None) -> Iterator[Row]:
    for family in ("nexvar", "nexvar-attention", "hyenadna", "caduceus-ph"):
        lengths = (4096, 8192) if family == "nexvar-attention" else (131_072, 1_048_576) if full else (8192, 32_768)
        short, long = (bases(fasta, length) for length in lengths)
        loaded = load(family, len(long))
        for name, job in jobs(loaded, short[:4096]).items():
            peak_above(job)  # what is made once: kernels, kept filters
            few, many = (run_once(jobs(loaded, text)[name]) for text in (short, long))
            case, against = f"{family}, {name} of {len(long):,} bases", f"{len(short):,} bases"
            yield Row(case, against, many.cpu, few.cpu)
            yield Row(case, against, many.memory / 1e6, few.memory / 1e6, "MB")


if __name__ == "__main__":
    report(__doc__, rows, "fasta")

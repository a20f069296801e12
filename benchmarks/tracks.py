"""Predicting tracks: ``python benchmarks/tracks.py [--full]``.

`nexvar tracks` over 131,072 bases (--full: 1,048,576) of random DNA with NTv3's architecture at 2 M parameters and a
head of two tracks, Genos' CNN at every base: reading, windows, both strands, parts and bigWigs, beside the forwards
alone: the model on the same windows of both strands, tokenised, in the same batches. And its memory over a contig four
times as long.
"""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import torch

from _measure import Row, interleaved, peak_above, report, timed_row
from nexvar.cards import Card
from nexvar.genome.reference import Fasta, reverse_complement
from nexvar.inference.core.batching import default_batch_tokens
from nexvar.inference.core.sliding import Segment
from nexvar.inference.track_model import TrackFacts, TrackModel, Tracks, write_head
from nexvar.inference.track_windows import Stretches
from nexvar.inference.tracks import track_predictor
from nexvar.models.ntv3 import Config, Model
from nexvar.runs.tracks_run import TrackFiles, TrackJob, tracks_file
from nexvar.tokenizers import Ntv3Tokenizer
from nexvar.weights.load import Loaded

WINDOW = 8192


def tracked(folder: Path) -> Loaded:
    """NTv3's architecture, a head in ``folder``; all weights random."""
    config = Config(attention_heads=4, conv_init_embed_dim=128, embed_dim=128, ffn_embed_dim=512)
    module = Model(config).eval()
    card = Card(
        name="2M", architecture="ntv3", tokenizer="ntv3", objective="masked", context=1 << 20, licence="none",
        parameters=sum(p.numel() for p in module.parameters()), citation="none", parity="none", parity_note="none",
        config={},
    )  # fmt: skip
    loaded = Loaded(module, Ntv3Tokenizer(), card, torch.device("cpu"), torch.float32, folder=folder)
    facts = TrackFacts(("fwd", "rev"), (1, 0), ("+", "-"), 1, WINDOW, "genos", (1.0, 1.0), (1.0, 1.0), 10.0)
    write_head(folder, facts, TrackModel(loaded, facts).head.state_dict())
    return loaded


def written(folder: Path, bases: int) -> Path:
    path = folder / f"{bases}.fa"
    letters = "".join(random.Random(0).choices("ACGT", k=bases))
    path.write_text(">chr1\n" + re.sub("(.{60})", r"\1\n", letters) + "\n")
    return path


def batches_of(loaded: Loaded, fasta: Path, bases: int) -> list[torch.Tensor]:
    """The token ids that the run reads, in its batches."""
    genome, predictor = Fasta(fasta), track_predictor(loaded)
    windows = Stretches(predictor, predictor.rule()).windows
    texts = [genome.fetch("chr1", w.start, w.end) for _, w, _ in windows.windows([Segment("chr1", 0, bases, 0, bases)])]
    rows = [loaded.tokenizer.tokenize(strand) for text in texts for strand in (text, reverse_complement(text))]
    return list(torch.tensor(rows).split(max(default_batch_tokens(loaded) // WINDOW, 1)))


def rows(full: bool) -> Iterator[Row]:
    bases, numbers = 1 << (20 if full else 17), count()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (folder := root / "model").mkdir()
        loaded, fasta = tracked(folder), written(root, bases)
        model, batches = Tracks.of(loaded, folder).model, batches_of(loaded, fasta, bases)

        def run(fasta: Path = fasta) -> None:
            tracks_file(TrackJob(TrackFiles(fasta), root / f"{next(numbers)}.{{track}}.bw", loaded))

        @torch.inference_mode()
        def forwards() -> None:
            for ids_BL in batches:
                model(ids_BL, torch.ones_like(ids_BL, dtype=torch.bool), None)

        case = f"{bases:,} bases, 2 tracks at every base"
        yield timed_row(case, "its forwards", interleaved({"tracks": run, "forwards": forwards}, 2 if full else 3))
        longer = written(root, 4 * bases)
        case = f"{4 * bases:,} bases, 2 tracks at every base"
        yield Row(case, "a quarter of them", peak_above(lambda: run(longer)) / 1e6, peak_above(run) / 1e6, "MB")


if __name__ == "__main__":
    report(__doc__, rows)

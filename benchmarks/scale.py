"""What scoring costs beside the model: ``python benchmarks/scale.py [--full]``.

A VCF of 20,000 SNVs (--full: a million) and a stand-in for the model that answers every forward with the same logits,
so that what is left is everything else: reading, planning, windows, tokens, batches, read-outs, parts, merging. Against
what nexvar_mito itself takes for a variant; the time to the first rows; memory.
"""

from __future__ import annotations

import random
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from _measure import Row, report
from nexvar.cards import get
from nexvar.inference.options import Options
from nexvar.models import GenomicModel, Output
from nexvar.runs.job import InputFiles, ScoreJob
from nexvar.runs.score_run import score_file
from nexvar.tokenizers import make
from nexvar.weights.load import Loaded, load


class StandIn(GenomicModel):
    """Answers at once, with the vocabulary of nexvar_mito; keeps count of nothing but its length."""

    last_hidden, tap_names, causal, pads_safely, rc_equivariant = "none", ("none",), True, True, False

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.randn(1, 1, 128), requires_grad=False)

    def new_cache(self, batch_size: int, max_length: int) -> SimpleNamespace:
        cache = SimpleNamespace(length=0)
        cache.select = lambda rows: SimpleNamespace(**vars(cache))
        return cache

    def forward(self, ids_BL: Tensor, *, mask_BL=None, taps=(), cache=None, logits=True) -> Output:
        if cache is not None:
            cache.length += ids_BL.shape[1]
        length = len(range(*logits.indices(ids_BL.shape[1]))) if isinstance(logits, slice) else ids_BL.shape[1]
        return Output(self.logits.expand(ids_BL.shape[0], length, -1), {}, {})


def stand_in() -> Loaded:
    card = get("nexvar_mito")
    return Loaded(StandIn(), make(card.tokenizer), card, torch.device("cpu"), torch.float32)


def write_inputs(folder: Path, variants: int) -> tuple[Path, Path]:
    """A genome of five bases per variant and an SNV at every fifth, with the columns of a usual VCF."""
    rng = random.Random(1)
    genome = "".join(rng.choices("ACGT", k=5 * variants + 1000))
    fasta, vcf = folder / "genome.fa", folder / "variants.vcf"
    with fasta.open("w") as file:
        file.write(">chr1\n")
        file.writelines(genome[i : i + 60] + "\n" for i in range(0, len(genome), 60))
    with vcf.open("w") as file:
        file.write("##fileformat=VCFv4.2\n##contig=<ID=chr1>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        for i in range(variants):
            pos = 5 * i + 500
            alt = "ACGT".replace(genome[pos], "")[i % 3]
            file.write(f"chr1\t{pos + 1}\trs{i}\t{genome[pos]}\t{alt}\t50\tPASS\tAC=3;AF=0.01;AN=300\n")
    return fasta, vcf


def timed_forward(loaded: Loaded) -> list[float]:
    """Wrap the model; the CPU seconds that its forwards take go into the list's one element."""
    spent, forward = [0.0], loaded.module.forward

    def wrapped(*args, **kwargs):
        start = time.process_time()
        result = forward(*args, **kwargs)
        spent[0] += time.process_time() - start
        return result

    loaded.module.forward = wrapped
    return spent


def first_rows(folder: Path, begun: float, found: list[float]) -> None:
    """Watch for the first finished part; ``found`` gets the CPU seconds since ``begun``."""
    while not any(folder.glob("part-*.parquet")):
        time.sleep(0.01)
    found.append(time.process_time() - begun)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def scored(loaded: Loaded, inputs: tuple[Path, Path], out: Path) -> tuple[float, float]:
    """CPU seconds of the model and of everything, for all variants."""
    spent, begun = timed_forward(loaded), time.process_time()
    score_file(ScoreJob(InputFiles(*inputs), out, model=loaded, options=Options(window=get("nexvar_mito").window)))
    return spent[0], time.process_time() - begun


def rows(full: bool) -> Iterator[Row]:
    variants, few = 1_000_000 if full else 20_000, 40
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "few").mkdir()
        inputs, some = write_inputs(folder, variants), write_inputs(folder / "few", few)
        real, _ = scored(load("nexvar_mito", device="cpu"), some, folder / "real.vcf.gz")
        scored(stand_in(), some, folder / "few.vcf.gz")
        before, first, out = peak(), list[float](), folder / "out.vcf.gz"
        begun = time.process_time()
        threading.Thread(target=first_rows, args=(Path(f"{out}.parts"), begun, first), daemon=True).start()
        model, everything = scored(stand_in(), inputs, out)
    yield Row("a variant, all but the model", "nexvar_mito alone", (everything - model) / variants, real / few)
    yield Row(f"{variants:,} variants: the first rows", "all", first[0], everything)
    yield Row(f"{variants:,} variants: peak memory", "of the process before", peak(), before, "MB")


if __name__ == "__main__":
    report(__doc__, rows)

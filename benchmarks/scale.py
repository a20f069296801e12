"""What scoring costs beside the model: time to the first rows, memory, seconds per variant of every stage.

    python benchmarks/scale.py                 # a VCF of 1,000,000 SNVs, a stand-in for the model that costs nothing
    python benchmarks/scale.py --variants 20000 --profile
    python benchmarks/scale.py --model nexvar_mito --variants 400    # the share of the real model

The stand-in answers every forward with the same logits, so that what is left is everything else: reading, planning,
windows, tokens, batches, read-outs, parts, merging. Memory is the growth of the peak over the state before the run.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import random
import resource
import signal
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from nexvar.cards import get
from nexvar.inference.score import Options
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


def first_rows(folder: Path, begun: float, cpu: float, stop: bool) -> None:
    """Watch for the first finished part."""
    while not any(folder.glob("part-*.parquet")):
        time.sleep(0.01)
    wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
    print(f"first rows on disk after {wall:.1f} s, {cpu:.1f} s of CPU time", flush=True)
    if stop:
        os.kill(os.getpid(), signal.SIGINT)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=1_000_000)
    parser.add_argument("--model", help="a real one instead of the stand-in")
    parser.add_argument("--window", type=int, default=get("nexvar_mito").window)
    parser.add_argument("--output", default="out.vcf.gz")
    parser.add_argument("--first", action="store_true", help="stop when the first rows are on disk")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fasta, vcf = write_inputs(folder, args.variants)
        (folder / "few").mkdir()
        few = write_inputs(folder / "few", 200)
        loaded = load(args.model, device="cpu") if args.model else stand_in()
        options = Options(window=args.window)
        score_file(ScoreJob(InputFiles(*few), folder / "few.vcf.gz", model=loaded, options=options))
        spent = timed_forward(loaded)
        before, begun, cpu = peak(), time.perf_counter(), time.process_time()
        out = folder / args.output
        threading.Thread(target=first_rows, args=(Path(f"{out}.parts"), begun, cpu, args.first), daemon=True).start()
        profile = cProfile.Profile()
        if args.profile:
            profile.enable()
        try:
            summary = score_file(ScoreJob(InputFiles(fasta, vcf), out, model=loaded, options=options))
        except KeyboardInterrupt:  # --first
            return
        if args.profile:
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(30)
        wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
        beside = cpu - spent[0]
        print(f"{summary.scored:,} variants scored in {wall:.1f} s, {cpu:.1f} s of CPU time")
        print(f"memory grew by {peak() - before:.0f} MB")
        print(f"model {spent[0]:.1f} s; beside it {beside:.1f} s = {1e6 * beside / summary.scored:.0f} us a variant, "
              f"{beside / cpu:.1%} of all")  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

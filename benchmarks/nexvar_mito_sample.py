"""Generated mitogenomes: open reading frames of the 13 proteins in order, GC, nearest training genome.

python benchmarks/nexvar_mito_sample.py --genomes chordata_mitogenomes.fa.gz --features features.tsv.gz
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from _mito_proteins import PROTEINS, Nearest, in_order, profiles, proteins_found
from _nexvar_mito import (
    RCRS,
    open_split,
    parser,
)
from nexvar import NexVar


def made_genomes(options: argparse.Namespace, prompts: list[str]) -> list[str]:
    """``options.count`` genomes, each a prompt and what the model adds; kept in ``options.made`` if given, and taken
    from there: a run that was stopped goes on behind the last whole one."""
    made: list[str] = []
    if options.made and options.made.is_file():
        made = ["".join(r.split("\n")[1:]) for r in options.made.read_text().split(">")[1:] if r.endswith("\n")]
    model, start, before = NexVar(options.model), time.process_time(), len(made)
    while len(made) < options.count:
        batch = [prompts[i % len(prompts)] for i in range(len(made), min(len(made) + 25, options.count))]
        new = model.generate(
            prompt_seqs=batch, n_tokens=options.length - options.prompt, temperature=options.temperature, top_k=4,
            seed=len(made),
        ).sequences  # fmt: skip
        new = [p + s for p, s in zip(batch, new, strict=True)]
        if options.made:
            with options.made.open("a") as file:
                file.writelines(f">made_{len(made) + i}\n{s}\n" for i, s in enumerate(new))
        made += new
    print(f"{len(made) - before} genomes of {options.length:,} bases in {time.process_time() - start:.0f} s of CPU")
    return made[: options.count]


def sample(options: argparse.Namespace) -> None:
    store, parts = open_split(options.genomes, options.cache)
    reference = profiles(store, parts.train[::10], options.features)
    held = [store.sequence(r).tobytes().decode().upper() for r in parts.held_out]
    # A genome begins at tRNA-Phe: prompt with the first bases of held-out genomes, which no training step saw.
    prompts = [p for p in (h[: options.prompt] for h in held) if set(p) <= set("ACGT")]
    made = made_genomes(options, prompts)

    def row(name: str, genomes: list[str]) -> None:
        proteins = [proteins_found(g, reference) for g in genomes]
        ordered = [in_order(p) for p in proteins]
        gc = [(g.count("G") + g.count("C")) / len(g) for g in genomes]
        print(f"{name:28}{len(genomes):4} genomes, GC {np.mean(gc):.3f} +- {np.std(gc):.3f}; proteins found: median "
              f"{np.median([len(p) for p in proteins]):.0f} of 13, in order {np.median(ordered):.0f} "
              f"(most {max(ordered)}); all 13 in order: {ordered.count(len(PROTEINS))}", flush=True)  # fmt: skip
        if name == "made":
            print("  " + ", ".join(f"{gene} {sum(gene in p for p in proteins)}" for gene in PROTEINS))

    row("human (rCRS)", ["".join(RCRS.read_text().split("\n")[1:]).upper().replace("N", "")])
    row("held out", held)
    row("held out, backwards", [h[::-1] for h in held])  # the same composition and repeats, no gene
    row("made", made)
    row("made, backwards", [g[::-1] for g in made])
    nearest = Nearest([store.sequence(r) for r in parts.train])
    for name, genomes in (("made", made), ("held out", held)):
        near = [nearest.share(np.frombuffer(g[options.prompt :].encode(), dtype=np.uint8)) for g in genomes]
        print(f"{name}: 16-mers shared with the nearest of {len(parts.train)} training genomes: median "
              f"{np.median(near):.3f}, most {max(near):.3f}", flush=True)  # fmt: skip


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--features", type=Path, required=True)
    command.add_argument("--count", type=int, default=100)
    command.add_argument("--length", type=int, default=16_500)
    command.add_argument("--prompt", type=int, default=100)
    command.add_argument("--temperature", type=float, default=1.0)
    command.add_argument("--made", type=Path, help="FASTA that keeps the generated genomes")
    sample(command.parse_args())


if __name__ == "__main__":
    main()

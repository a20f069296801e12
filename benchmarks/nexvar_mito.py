"""How good is nexvar_mito? Every number of its model card.

    python benchmarks/nexvar_mito.py bits   --genomes chordata_mitogenomes.fa.gz [--model DIR]
    python benchmarks/nexvar_mito.py rest   --genomes chordata_mitogenomes.fa.gz [--model DIR]
    python benchmarks/nexvar_mito.py sisters --genomes chordata_mitogenomes.fa.gz --features features.tsv.gz
    python benchmarks/nexvar_mito.py auroc  --genomes chordata_mitogenomes.fa.gz --snvs mtdna_snvs.tsv.gz [--model DIR]
    python benchmarks/nexvar_mito.py sample --genomes chordata_mitogenomes.fa.gz --features features.tsv.gz

bits    bits per base on the held-out genera, beside interpolated Markov models trained on the very same genomes; with
        --features by kind of gene
rest    bits of a base given the bases on both of its sides, by how many are read before it and counted behind it (of a
        masked model by the window): what chooses how variants are scored, without any variant; with --features by kind
        of gene
sisters what species of one held-out genus differ by, against what they do not: a test of the score without a label
auroc   pathogenic against benign human variants beside phyloP100 and the order-11 Markov model, bootstrap intervals,
        and never-seen against seen transitions (gnomAD), which need no clinical label
sample  generated mitogenomes: open reading frames of the 13 proteins in order, GC, nearest training genome

The split is the recipe's: same function, same seed. The labels are read here and nowhere else.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
import math
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nexvar import NexVar
from nexvar.evals import metrics
from nexvar.inference import score
from nexvar.runs import jobs
from nexvar.train import data
from nexvar.train.markov import CODE, Markov
from nexvar.train.recipe import read

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes" / "nexvar_mito.toml"
RCRS = ROOT / "src" / "nexvar" / "data" / "chrM_rCRS.fa"
GENES = ("CDS", "tRNA", "rRNA")
KINDS = (*GENES, "D-loop")
TRANSITION = np.zeros(256, dtype=np.uint8)
TRANSITION[list(b"ACGT")] = list(b"GTAC")
LABELLED = ROOT / "src" / "nexvar" / "data" / "mtdna_labelled.vcf"


def open_split(genomes: Path, cache: Path) -> tuple[data.Store, data.Split]:
    d = read(RECIPE).data
    store = data.build_store([genomes], cache)
    parts = data.split(store.records, by=d.holdout_by, count=d.holdout, seed=d.holdout_seed, exclude=d.exclude)
    return store, parts


# -- bits per base


def model_bits(model: NexVar, letters: np.ndarray, window: int) -> tuple[float, int]:
    """(bits, bases) of one genome: windows side by side, every A, C, G, T but a window's first base."""
    total, count = 0.0, 0
    for start in range(0, len(letters) - 1, window):
        piece = letters[start : start + window]
        ids = torch.from_numpy(piece.astype(np.int64))[None]
        with torch.inference_mode():
            logp = model.model(ids).logits[0, :-1].float().log_softmax(-1)
        asked = torch.from_numpy(data.IS_BASE[piece[1:]])
        total -= float(logp.gather(1, ids[0, 1:, None])[:, 0][asked].sum()) / math.log(2)
        count += int(asked.sum())
    return total, count


def bits(options: argparse.Namespace, cache: Path) -> None:
    store, parts = open_split(options.genomes, cache)
    clades = {"all": "", "mammals": "Mammalia", "birds": "Dinosauria", "fish": "Actinopterygii", "frogs": "Batrachia"}
    members = {n: [not c or c in r.groups() for r in parts.held_out] for n, c in clades.items()}
    held = [data.UPPER[store.sequence(r)] for r in parts.held_out]
    print(f"{len(parts.train)} genomes to train on, {len(parts.held_out)} held out (whole genera), "
          f"{len(parts.excluded)} Homo in neither")  # fmt: skip
    print("bits per base".ljust(24) + "".join(f"{n} ({sum(m)})".rjust(16) for n, m in members.items()))

    def row(name: str, measure: Callable[[np.ndarray], tuple[float, int]], genomes: list[np.ndarray]) -> None:
        pairs = np.array([measure(g) for g in genomes])
        sums = [pairs[np.array(m)].sum(0) for m in members.values()]
        print(name.ljust(24) + "".join(f"{b / n:.3f}".rjust(16) for b, n in sums), flush=True)

    model = NexVar(options.model)
    for window in options.windows:
        row(f"model, {window:,} bases", lambda g, w=window: model_bits(model, g, w), held)  # type: ignore[misc]
    widest = options.windows[-1]
    row("model, other strand", lambda g: model_bits(model, g, widest), [data.COMPLEMENT[g[::-1]] for g in held])
    if options.features:
        bits_by_kind(model, store, [r for r in parts.held_out if "Mammalia" in r.groups()], options.features, 1024)
    top = Markov(12).fit((data.UPPER[store.sequence(r)] for r in parts.train), circular=True)
    for order in (6, 8, 11, 12):
        lower = Markov(order)
        lower.counts = top.levels()[order]
        for pseudo in options.pseudo:
            lower.pseudo = pseudo
            row(f"Markov {order}, a = {pseudo:g}", lambda g, m=lower: m.bits([g]), held)  # type: ignore[misc]


def kinds(features: Path, records: list[data.Record]) -> dict[str, np.ndarray]:
    """Record -> the kind of each base (length,): 0 none, else 1 + its place in KINDS."""
    found = {r.name: np.zeros(r.length, dtype=np.int8) for r in records}
    for row in annotation(features, found, KINDS):
        for start, end in re.findall(r"<?(\d+)\.\.>?(\d+)", row["location"]):
            found[row["species"]][int(start) - 1 : int(end)] = 1 + KINDS.index(row["type"])
    return found


def annotation(features: Path, records: Container[str], types: Container[str]) -> Iterator[dict[str, str]]:
    """The rows of a TSV(.gz) of species, type, location, gene, product that are of these records and types."""
    with (gzip.open if features.suffix == ".gz" else open)(features, "rt") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["species"] in records and row["type"] in types:
                yield row


Gene = tuple[int, int, bool]  # start, end (0-based half-open) and whether it lies on the other strand


def in_one_piece(location: str) -> Gene | None:
    """The place of a feature that is whole; None for one in parts or cut off."""
    found = re.fullmatch(r"(complement\()?(\d+)\.\.(\d+)\)?", location)
    return (int(found[2]) - 1, int(found[3]), bool(found[1])) if found else None


def bits_by_kind(model: NexVar, store: data.Store, records: list[data.Record], features: Path, window: int) -> None:
    """Both strands; the first quarter of a window only gives context."""
    sums, counts, skip = np.zeros(len(KINDS) + 1), np.zeros(len(KINDS) + 1), window // 4
    every = kinds(features, records)
    for record in records:
        letters, kind = data.UPPER[store.sequence(record)], every[record.name]
        for text, of in ((letters, kind), (data.COMPLEMENT[letters[::-1]], kind[::-1])):
            starts = range(0, len(text) - window, window - skip)
            ids = torch.from_numpy(np.stack([text[s : s + window] for s in starts]).astype(np.int64))
            with torch.inference_mode():
                logp = model.model(ids).logits[:, :-1].float().log_softmax(-1)
            nll = -logp.gather(2, ids[:, 1:, None])[..., 0].numpy()[:, skip - 1 :] / math.log(2)
            shown, at = ids.numpy()[:, skip:], np.stack([of[s + skip : s + window] for s in starts])
            for k in range(len(sums)):
                asked = (at == k) & data.IS_BASE[shown]
                sums[k] += nll[asked].sum()
                counts[k] += asked.sum()
    for k, name in enumerate(("between genes", *KINDS)):
        print(f"  {name:20}{counts[k]:12,.0f} bases{sums[k] / max(counts[k], 1):8.3f}")


# -- a base given all others


def rest(options: argparse.Namespace, cache: Path) -> None:
    """A causal model: the four bases at a site compete by the likelihoods of the sequences they make. A masked one: the
    site is hidden. Mean of both strands, both ways."""
    store, parts = open_split(options.genomes, cache)
    model = NexVar(options.model)
    mammals = [r for r in parts.held_out if "Mammalia" in r.groups()]
    places = {"all": sites(parts.held_out, options.count), "mammals": sites(mammals, options.count)}
    if options.features:
        of = kinds(options.features, mammals)
        for kind in GENES:
            only = {name: marks == 1 + KINDS.index(kind) for name, marks in of.items()}
            places[f"mammals, {kind}"] = sites(mammals, options.count, only)
    if model.card.objective == "masked":
        windows = (256, 512, 1024, 2048, 4096)
        print("bits of a base given its sides; columns: window")
        print("held out".ljust(28) + "".join(f"{w:8}" for w in windows))
        for name, chosen in places.items():
            lost = [hidden_bits(model, data.UPPER[store.sequence(r)], at, windows) for r, at in chosen]
            print(name.ljust(28) + "".join(f"{b:8.4f}" for b in np.nanmean(lost, axis=0)), flush=True)
        return
    spans = (0, 8, 16, 32, 64, 128, 255)
    print("bits of a base given its sides; columns: bases counted behind it")
    print("held out, bases before".ljust(28) + "".join(f"{s:8}" for s in spans))
    for name, chosen in places.items():
        for left in options.before:
            lost = [lost_bits(model, data.UPPER[store.sequence(r)], at, left, spans) for r, at in chosen]
            print(f"{name}, {left}".ljust(28) + "".join(f"{b:8.4f}" for b in np.nanmean(lost, axis=0)), flush=True)


def sites(
    records: list[data.Record], count: int, only: dict[str, np.ndarray] | None = None
) -> list[tuple[data.Record, int]]:
    """``count`` places, always the same: a record, then any base of it, or any of those that ``only`` marks."""
    rng, chosen = np.random.default_rng(0), list[tuple[data.Record, int]]()
    while len(chosen) < count:
        record, share = records[rng.integers(len(records))], rng.random()
        free = np.flatnonzero(only[record.name]) if only else np.arange(record.length)
        if len(free):
            chosen.append((record, int(free[int(share * len(free))])))
    return chosen


def alleles(model: NexVar, genome: np.ndarray, at: int, left: int, right: int) -> np.ndarray:
    """(4, right + 1): log p of A, C, G, T at ``at`` and of 0 .. right bases behind it, mean of both strands."""
    forward = np.take(genome, np.arange(at - left, at + right + 1), mode="wrap")
    reverse = data.COMPLEMENT[np.take(genome, np.arange(at - right, at + left + 1), mode="wrap")[::-1]]
    rows = np.stack([forward] * 4 + [reverse] * 4)
    rows[:4, left], rows[4:, left] = list(b"ACGT"), list(b"TGCA")
    ids = torch.from_numpy(rows.astype(np.int64))
    with torch.inference_mode():
        logp = model.model(ids).logits[:, left - 1 : -1].float().log_softmax(-1)
    behind = logp.gather(2, ids[:, left:, None])[..., 0].double().cumsum(1)
    return ((behind[:4] + behind[4:]) / 2).numpy()


def lost_bits(model: NexVar, genome: np.ndarray, at: int, left: int, spans: tuple[int, ...]) -> list[float]:
    """-log2 p(the base at ``at``) for each span; NaN where it is no base."""
    if not data.IS_BASE[genome[at]]:
        return [math.nan] * len(spans)
    each = alleles(model, genome, at, left, max(spans))[:, list(spans)]
    shares = np.logaddexp.reduce(each, axis=0) - each[b"ACGT".index(genome[at])]
    return (shares / math.log(2)).tolist()


def hidden_bits(model: NexVar, genome: np.ndarray, at: int, windows: tuple[int, ...]) -> list[float]:
    """-log2 p(the base at ``at``) when it alone is hidden, for each window around it; NaN where it is no base."""
    if not data.IS_BASE[genome[at]]:
        return [math.nan] * len(windows)
    of, mask = model.tokenizer.base_ids(), model.tokenizer.mask_id
    assert of is not None and mask is not None
    genome, lost = np.where(data.IS_BASE[genome], genome, ord("N")).astype(np.uint8), list[float]()
    for window in windows:
        middle, places = window // 2, np.arange(window)
        forward = np.take(genome, at - middle + places, mode="wrap")
        both = [forward, data.COMPLEMENT[np.take(genome, at + middle - places, mode="wrap")]]
        ids = torch.tensor([model.tokenizer.encode(t.tobytes().decode(), special=False).ids for t in both])
        ids[:, middle] = mask
        with torch.inference_mode():
            logits = model.model(ids).logits[:, middle].float()
        either = [logits[i, [of[b] for b in order]].log_softmax(0) for i, order in enumerate(("ACGT", "TGCA"))]
        choices = ((either[0] + either[1]) / 2).log_softmax(0)[b"ACGT".index(genome[at])]
        lost.append(-float(choices) / math.log(2))
    return lost


# -- what sister species differ by


def sisters(options: argparse.Namespace, cache: Path) -> None:
    """Transitions that tell two species of one held-out genus apart were tolerated; most others of the same genes are
    not. AUROC of the score in one species' genome, with its 95 % interval."""
    store, parts = open_split(options.genomes, cache)
    model, spans = NexVar(options.model), (0, 8, 16, 32, 64, 128)
    genomes = {r.name: data.UPPER[store.sequence(r)] for r in parts.held_out}
    genera: dict[str, list[str]] = {}
    for record in parts.held_out:
        genera.setdefault(record.genus, []).append(record.name)
    print("AUROC, tolerated transitions against others; columns: bases counted behind a site")
    print(" " * 24 + "".join(f"{span}".ljust(22) for span in spans))
    for kind in GENES:
        tolerated, others = differences(genomes, genera, genes_of(options.features, genomes, kind))
        rng = np.random.default_rng(0)
        chosen = [[of[i] for i in rng.permutation(len(of))[:n]]
                  for of, n in ((tolerated, options.count), (others, 2 * options.count))]  # fmt: skip
        losses = np.array([loss(model, genomes[name], at, spans) for name, at in chosen[0] + chosen[1]])
        labels = np.array([0] * len(chosen[0]) + [1] * len(chosen[1]))
        cells = [str(metrics.bootstrap(labels, column, ("auroc",))["auroc"]).ljust(22) for column in losses.T]
        print(f"{kind} ({len(chosen[0])}, {len(chosen[1])})".ljust(24) + "".join(cells), flush=True)


def genes_of(features: Path, genomes: dict[str, np.ndarray], kind: str) -> dict[str, dict[str, Gene]]:
    """Record -> product -> its place, if it is there once and in one piece."""
    found: dict[str, dict[str, list[Gene]]] = {name: {} for name in genomes}
    for row in annotation(features, genomes, (kind,)):
        if place := in_one_piece(row["location"]):
            found[row["species"]].setdefault(row["product"] or row["gene"], []).append(place)
    return {name: {gene: at[0] for gene, at in genes.items() if len(at) == 1} for name, genes in found.items()}


def differences(
    genomes: dict[str, np.ndarray], genera: dict[str, list[str]], genes: dict[str, dict[str, Gene]]
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Sites (record, position) where a sister has the transition, and those where all sisters have the same base:
    genes of one length that differ by at most 12 %."""
    tolerated, same = set[tuple[str, int]](), set[tuple[str, int]]()
    for names in genera.values():
        for name, sister in itertools.permutations(names, 2):
            for gene in sorted(genes[name].keys() & genes[sister].keys()):
                (start, end, strand), (start2, end2, strand2) = genes[name][gene], genes[sister][gene]
                if end - start != end2 - start2 or strand != strand2:
                    continue
                mine, other = genomes[name][start:end], genomes[sister][start2:end2]
                differ = mine != other
                if differ.mean() > 0.12 or not (data.IS_BASE[mine] & data.IS_BASE[other]).all():
                    continue
                tolerated |= {(name, start + int(i)) for i in np.flatnonzero(TRANSITION[mine] == other)}
                same |= {(name, start + int(i)) for i in np.flatnonzero(~differ)}
    with_any = {name for name, _ in tolerated}
    return sorted(tolerated), sorted(site for site in same - tolerated if site[0] in with_any)


def loss(model: NexVar, genome: np.ndarray, at: int, spans: tuple[int, ...]) -> np.ndarray:
    """log p(the base) - log p(its transition), for each span; 512 bases before it."""
    each = alleles(model, genome, at, 512, max(spans))[:, list(spans)]
    base = genome[at]
    return each[b"ACGT".index(base)] - each[b"ACGT".index(TRANSITION[base])]


# -- variants


def model_scores(variants: list[tuple[int, str, str]], options: argparse.Namespace) -> np.ndarray:
    """Alt against ref, both strands averaged, through the public scoring path."""
    readouts = None if options.readout is None else (options.readout,)
    how = score.Options(window=options.window, readouts=readouts, span=options.span)
    with tempfile.TemporaryDirectory() as folder:
        vcf, out = Path(folder) / "in.vcf", Path(folder) / "out.tsv"
        lines = [f"chrM\t{p}\t.\t{r}\t{a}\t.\t.\t.\n" for p, r, a in variants]
        vcf.write_text("##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + "".join(lines))
        jobs.score_file(vcf, RCRS, [out], model=options.model, options=how)
        with out.open() as file:
            rows = {(int(r["POS"]), r["REF"], r["ALT"]): r["LLR"] for r in csv.DictReader(file, delimiter="\t")}
    return np.array([np.nan if rows[v] == "NA" else float(rows[v]) for v in variants])


def markov_scores(strands: tuple[Markov, Markov], genome: str, variants: list[tuple[int, str, str]]) -> np.ndarray:
    """The same quantity under one Markov model per strand; only order + 1 predictions a strand differ."""
    reach, letters = 2 * strands[0].order + 2, np.frombuffer(genome.encode(), dtype=np.uint8)
    index = np.array([b"ACGT".find(bytes([i])) for i in range(256)]).clip(0)

    def log2p(window: np.ndarray) -> float:
        both = (window, data.COMPLEMENT[window[::-1]])
        rows = np.arange(len(window))
        return sum(float(m.log2_probabilities(s)[rows, index[s]].sum()) for m, s in zip(strands, both, strict=True))

    scores = []
    for pos, _, alt in variants:
        window = np.take(letters, np.arange(pos - 1 - reach, pos + reach), mode="wrap")
        changed = window.copy()
        changed[reach] = ord(alt)
        scores.append(log2p(changed) - log2p(window))
    return np.array(scores)


def table(rows: list[tuple[str, np.ndarray, dict[str, np.ndarray]]]) -> None:
    """Groups x predictors: AUROC [95 % interval]; a higher predictor means worse."""
    print("AUROC".ljust(26) + "class 1  class 0  " + "".join(name.ljust(24) for name in rows[0][2]))
    for group, labels, predictors in rows:
        cells = []
        for values in predictors.values():
            ok = np.isfinite(values)
            try:
                cells.append(str(metrics.bootstrap(labels[ok], values[ok], ("auroc",))["auroc"]))
            except metrics.TooFew:
                cells.append("too few")
        counts = f"{int(labels.sum()):7,}  {int((labels == 0).sum()):7,}  "
        print(group.ljust(26) + counts + "".join(c.ljust(24) for c in cells), flush=True)


def auroc(options: argparse.Namespace, cache: Path) -> None:
    store, parts = open_split(options.genomes, cache)
    opener = gzip.open if options.snvs.suffix == ".gz" else open
    with opener(options.snvs, "rt") as file:
        facts = {(int(r["pos"]), r["ref"], r["alt"]): r for r in csv.DictReader(file, delimiter="\t")}
    lines = [x.split("\t") for x in LABELLED.read_text().splitlines() if not x.startswith("#")]
    labelled = [(int(x[1]), x[3], x[4]) for x in lines]
    info = [dict(pair.split("=") for pair in x[7].split(";")) for x in lines]
    labels = np.array([int(i["LABEL"]) for i in info])
    genome = "".join(RCRS.read_text().split("\n")[1:]).upper()
    seen = [data.UPPER[store.sequence(r)] for r in (*parts.train, *parts.held_out)]
    strands = (
        Markov(11, pseudo=options.pseudo[-1]).fit(seen, circular=True),
        Markov(11, pseudo=options.pseudo[-1]).fit((data.COMPLEMENT[g[::-1]] for g in seen), circular=True),
    )

    def predictors(variants: list[tuple[int, str, str]]) -> dict[str, np.ndarray]:
        phylop = np.array([float(facts[v]["phyloP100"] or "nan") if v in facts else np.nan for v in variants])
        return {
            "nexvar_mito": -model_scores(variants, options),
            "phyloP100": phylop,
            "Markov 11": -markov_scores(strands, genome, variants),
        }

    start = time.time()
    scored = predictors(labelled)
    print(f"{len(labelled)} labelled variants, {time.time() - start:.0f} s")
    groups = {
        "all": np.ones(len(labels), dtype=bool),
        **{r: np.array([i["REGION"] == r for i in info]) for r in ("protein", "tRNA", "rRNA")},
        "missense": np.array([i["CSQ"] == "missense" for i in info]),
    }
    table([(name, labels[rows], {k: v[rows] for k, v in scored.items()}) for name, rows in groups.items()])
    if not options.seen:
        return
    transitions = [v for v, row in facts.items() if row["type"] == "ts"][:: options.every]
    print(f"\n{len(transitions)} transitions, every {options.every} of those in the table")
    never = np.array(
        [int(facts[v]["gnomad_AC_hom"] or 0) + int(facts[v]["gnomad_AC_het"] or 0) == 0 for v in transitions]
    )
    scored = predictors(transitions)
    regions = np.array([facts[v]["region"] for v in transitions])
    consequences = np.array([facts[v]["consequence"] for v in transitions])
    groups = {r: regions == r for r in ("protein", "rRNA", "tRNA", "control")} | {
        "missense": consequences == "missense"
    }
    print("never-seen (class 1) against seen in gnomAD, transitions")
    table([(name, never[rows].astype(int), {k: v[rows] for k, v in scored.items()}) for name, rows in groups.items()])
    missense = np.isin(consequences, ("missense", "synonymous"))
    stop = np.isin(consequences, ("stop_gained", "synonymous"))
    table([
        (name, (consequences[rows] != "synonymous").astype(int), {k: v[rows] for k, v in scored.items()})
        for name, rows in (("missense / synonymous", missense), ("stop / synonymous", stop))
    ])  # fmt: skip


# -- generation

PROTEINS = ("ND1", "ND2", "COX1", "COX2", "ATP8", "ATP6", "COX3", "ND3", "ND4L", "ND4", "ND5", "ND6", "CYTB")
_CODE = "FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIMMTTTTNNKKSS**VVVVAAAADDEEGGGG"  # vertebrate mitochondrial, TCAG order


def translate(dna: str) -> str:
    index = {b: i for i, b in enumerate("TCAG")}
    codons = (dna[i : i + 3] for i in range(0, len(dna) - 2, 3))
    return "".join(
        _CODE[16 * index[c[0]] + 4 * index[c[1]] + index[c[2]]] if set(c) <= set("TCAG") else "X" for c in codons
    )


def kmers(text: str, k: int) -> set[str]:
    return {text[i : i + k] for i in range(len(text) - k + 1)}


def open_frames(dna: str, least: int = 50) -> list[tuple[int, str, int]]:
    """(start on the forward strand, protein, strand) of every stop-free stretch of at least ``least`` codons."""
    frames = []
    reverse = dna[::-1].translate(str.maketrans("ACGT", "TGCA"))
    for strand, text in ((1, dna), (-1, reverse)):
        for frame in range(3):
            at = frame
            for protein in translate(text[frame:]).split("*"):
                if len(protein) >= least:
                    frames.append((at if strand == 1 else len(dna) - at - 3 * len(protein), protein, strand))
                at += 3 * (len(protein) + 1)
    return frames


@dataclass(frozen=True)
class Profile:
    """A protein as the 3-mers of amino acids that a tenth of its known versions share."""

    words: set[str]
    length: int
    least: float  # half of what a known version has, in the middle


def profiles(store: data.Store, records: list[data.Record], features: Path) -> dict[str, Profile]:
    """From the annotated proteins of ``records``."""
    wanted = {r.name: r for r in records}
    proteins: dict[str, list[str]] = {gene: [] for gene in PROTEINS}
    for row in annotation(features, wanted, ("CDS",)):
        place = in_one_piece(row["location"])
        if row["gene"] in proteins and place:
            start, end, other_strand = place
            dna = store.sequence(wanted[row["species"]])[start:end]
            dna = data.COMPLEMENT[dna[::-1]] if other_strand else dna
            proteins[row["gene"]].append(translate(dna.tobytes().decode().upper()))
    result = {}
    for gene, known in proteins.items():
        count = Counter(word for protein in known for word in kmers(protein, 3))
        words = {word for word, n in count.items() if n >= 0.1 * len(known)}
        typical = float(np.median([len(kmers(protein, 3) & words) for protein in known]))
        result[gene] = Profile(words, int(np.median([len(p) for p in known])), 0.5 * typical)
    return result


def proteins_found(dna: str, known: dict[str, Profile]) -> dict[str, float]:
    """Gene -> middle of the stretch, as long as the gene and inside one open frame, that is most like its profile."""
    found: dict[str, tuple[float, float]] = {}
    for start, protein, strand in open_frames(dna):
        for gene, profile in known.items():
            hits = np.array([protein[i : i + 3] in profile.words for i in range(len(protein) - 2)], dtype=float)
            sums = np.convolve(hits, np.ones(min(profile.length, len(hits))), mode="valid")
            best = int(sums.argmax())
            alike = len(kmers(protein[best : best + profile.length], 3) & profile.words)  # different ones: no FFFFFF
            if alike >= max(profile.least, found.get(gene, (0.0, 0.0))[0] + 1):
                middle = 3 * (best + min(profile.length, len(hits)) / 2)
                found[gene] = (float(alike), start + middle if strand == 1 else start + 3 * len(protein) - middle)
    return {gene: place for gene, (_, place) in found.items()}


def in_order(found: dict[str, float]) -> int:
    """The most proteins that can be read off a genome in their order (the longest increasing run, gaps allowed)."""
    ranks = [PROTEINS.index(gene) for gene, _ in sorted(found.items(), key=lambda item: item[1])]
    longest: list[int] = []
    for i, rank in enumerate(ranks):
        longest.append(1 + max((longest[j] for j in range(i) if ranks[j] < rank), default=0))
    return max(longest, default=0)


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


def sample(options: argparse.Namespace, cache: Path) -> None:
    store, parts = open_split(options.genomes, cache)
    reference = profiles(store, parts.train[::10], options.features)
    held = [store.sequence(r).tobytes().decode().upper() for r in parts.held_out]
    # A genome begins at tRNA-Phe: prompt with the first bases of held-out genomes, which no training step saw.
    prompts = [p for p in (h[: options.prompt] for h in held) if set(p) <= set("ACGT")]
    made = made_genomes(options, prompts)

    def row(name: str, genomes: list[str]) -> None:
        found = [proteins_found(g, reference) for g in genomes]
        gc = [(g.count("G") + g.count("C")) / len(g) for g in genomes]
        print(f"{name:28}{len(genomes):4} genomes, GC {np.mean(gc):.3f} +- {np.std(gc):.3f}; proteins found: median "
              f"{np.median([len(f) for f in found]):.0f} of 13, in order {np.median([in_order(f) for f in found]):.0f} "
              f"(most {max(in_order(f) for f in found)}); all 13 in order: "
              f"{sum(in_order(f) == len(PROTEINS) for f in found)}", flush=True)  # fmt: skip
        if name == "made":
            print("  " + ", ".join(f"{gene} {sum(gene in f for f in found)}" for gene in PROTEINS))

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


class Nearest:
    """Which of many genomes shares the most 16-mers with another: an index of every 16-mer (32 bits), sorted."""

    def __init__(self, genomes: list[np.ndarray]) -> None:
        words = [np.unique(self.words(g)) for g in genomes]
        owner = np.repeat(np.arange(len(words), dtype=np.uint16), [len(w) for w in words])
        self.all = np.concatenate(words)
        order = self.all.argsort(kind="stable")
        self.all, self.owner = self.all[order], owner[order]

    @staticmethod
    def words(letters: np.ndarray) -> np.ndarray:
        """Every stretch of 16 letters A, C, G, T as a number, 2 bits a letter."""
        code = CODE[letters]
        count = len(code) - 15
        word, known = np.zeros(count, dtype=np.uint32), np.ones(count, dtype=bool)
        for i in range(16):
            part = code[i : i + count]
            word, known = word * np.uint32(4) + (part & 3), known & (part < 4)
        return word[known]

    def share(self, letters: np.ndarray) -> float:
        """The share of this genome's 16-mers that its nearest neighbour has, too."""
        mine = np.unique(self.words(letters))
        first, last = (np.searchsorted(self.all, mine, side) for side in ("left", "right"))
        hits = np.concatenate([self.owner[a:b] for a, b in zip(first, last, strict=True)])
        return float(np.bincount(hits, minlength=1).max()) / len(mine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("bits", "rest", "sisters", "auroc", "sample"))
    parser.add_argument("--genomes", type=Path, required=True)
    parser.add_argument("--snvs", type=Path)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--model", default="nexvar_mito")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "nexvar_mito_store")
    parser.add_argument("--windows", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--before", type=int, nargs="+", default=[256, 512, 1024], help="rest: bases before a site")
    parser.add_argument("--window", type=int, default=None)
    parser.add_argument("--readout")
    parser.add_argument("--span", type=int)
    parser.add_argument("--pseudo", type=float, nargs="+", default=[2.0, 8.0, 16.0])
    parser.add_argument("--seen", action="store_true", help="also score every transition of the table")
    parser.add_argument("--every", type=int, default=1, help="score every n-th of them")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--length", type=int, default=16_500)
    parser.add_argument("--prompt", type=int, default=100)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--made", type=Path, help="FASTA that keeps the generated genomes")
    options = parser.parse_args()
    if options.what in ("sample", "sisters") and options.features is None:
        sys.exit(f"{options.what} needs --features")
    if options.what == "auroc" and options.snvs is None:
        sys.exit("auroc needs --snvs")
    verbs = {"bits": bits, "rest": rest, "sisters": sisters, "auroc": auroc, "sample": sample}
    verbs[options.what](options, options.cache)


if __name__ == "__main__":
    main()

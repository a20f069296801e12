"""Every codon of a coding sequence changed to each of the 63 others, residue by residue.

    transcript ── codons ── 63 changes each, as variants ── nexvar score's engine ── by residue and amino acid

Of each of the 19 other amino acids (and of a stop) the *best* codon change counts: the one that the model finds
likeliest, whatever it takes, one base or three; beside it the best that one base makes. On the genome a codon that an
intron divides is changed with the intron between (where windows are long enough); ``spliced`` reads the spliced
transcript instead.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nexvar.errors import NexVarError
from nexvar.evals.genes.genes import ACROSS, gene_of, transcripts_by_name
from nexvar.evals.genes.table_run import Rows, write_rows
from nexvar.genome.annotation import read_annotation
from nexvar.genome.genetic_codes import AMINO_ACIDS, CODONS, STOP, GeneticCode, genetic_code
from nexvar.genome.reference import Fasta
from nexvar.genome.transcripts import Transcript
from nexvar.runs.job import InputFiles, ScoreJob
from nexvar.runs.rows import ScoreSummary
from nexvar.runs.score_run import score_file
from nexvar.runs.writers import read_rows

COLUMNS = (
    "residue", "codon", "amino_acid", "alternative", "kind", "best_codon", "bases", "score", "snv_codon", "snv_score",
    "codons",
)  # fmt: skip
COMPLEMENT = str.maketrans("ACGT", "TGCA")
ENDINGS = (".tsv", ".png")


@dataclass(frozen=True)
class Coding:
    """A coding sequence on a contig: ``cds`` 5' to 3', and the 0-based place of each of its bases there.

    contig: its name, in ``fasta``. notes: what a person should know of it.
    """

    name: str
    fasta: Fasta
    contig: str
    strand: str
    cds: str
    places: list[int]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """Of the residue (from 1) the codon ``wild`` to ``codon``, and the variant as text, 1-based, on the plus strand."""

    residue: int
    wild: str
    codon: str
    variant: str

    @property
    def bases(self) -> int:
        return sum(a != b for a, b in zip(self.wild, self.codon, strict=True))


def find_coding(fasta: Fasta, annotation: str | Path, name: str, code: GeneticCode) -> tuple[Coding, Transcript]:
    """The coding sequence of a transcript or gene, by name or ID; NexVarError where there is none."""
    features = read_annotation(annotation, fasta)
    transcript = transcripts_by_name(features).get(name)
    if transcript is None:
        near = [other for other in features.nearest(name) if other != name]
        fix = f"did you mean {', '.join(near)}?" if near else "a name or ID whose CDS lies in the file and in the FASTA"
        raise NexVarError(f"no coding transcript {name[:60]!r}", where=annotation, fix=fix)
    gene = gene_of(transcript)
    if gene.trouble(fasta, code) == ACROSS:
        raise NexVarError(f"{name[:60]} lies {ACROSS}", where=annotation, fix="turn FASTA and annotation elsewhere")
    low, high = fasta.span(gene.contig, gene.cds[0][0], gene.cds[-1][1])
    if not low <= gene.cds[0][0] < gene.cds[-1][1] <= high:
        what = f"{name[:60]} is outside of the FASTA, which has {fasta.extent(gene.contig)}"
        raise NexVarError(what, where=annotation, fix="give the contig with all of the gene")
    cds = gene.coding_sequence(fasta)
    places = [place for piece in gene.cds for place in range(*piece)]
    places = places[::-1] if gene.strand == "-" else places
    notes = []
    if transcript.feature.start < low or transcript.feature.end > high:
        notes.append(f"{name}: it reaches beyond the FASTA; only coding bases that are there are read")
    if transcript.phase:
        notes.append(f"{name}: its first {transcript.phase} bases are of a codon that is not there")
        cds, places = cds[transcript.phase :], places[transcript.phase :]
    if rest := len(cds) % 3:
        notes.append(f"{name}: CDS not a multiple of three: the last {rest} bases are left out")
    if cds[:3] not in code.starts:
        notes.append(f"{name}: start codon missing: {cds[:3]} is none of code {code.number}; it is residue 1")
    if other := sum(not set(cds[i : i + 3]) <= set("ACGT") for i in range(0, len(cds) - 2, 3)):
        notes.append(f"{name}: no rows for codons with other letters than A, C, G, T: {other} of them")
    protein = code.translate(cds)
    if STOP in protein[:-1]:
        count, first = protein[:-1].count(STOP), protein.index(STOP) + 1
        what = f"stop codons inside by code {code.number}: {count}, the first is residue {first}"
        notes.append(f"{name}: {what}: another --code, or a selenocysteine?")
    return Coding(name, fasta, gene.contig, gene.strand, cds, places, tuple(notes)), transcript


def spliced(coding: Coding, transcript: Transcript, folder: Path) -> Coding:
    """The same on the spliced transcript, whose bases are written to a FASTA in ``folder``."""
    path = folder / "spliced.fa"
    path.write_text(f">transcript\n{transcript.spliced(coding.fasta)}\n", encoding="utf-8")
    exonic = [place for piece in transcript.exons for place in range(*piece)]
    exonic = exonic[::-1] if coding.strand == "-" else exonic
    index = {place: i for i, place in enumerate(exonic)}
    try:
        places = [index[place] for place in coding.places]
    except KeyError:
        fix = "mend the annotation, or leave --spliced out"
        raise NexVarError(f"coding bases of {coding.name} outside of its exons", where="--spliced", fix=fix) from None
    return Coding(coding.name, Fasta(path), "transcript", "+", coding.cds, places, coding.notes)


def changes(coding: Coding, residues: tuple[int, int] | None = None) -> Iterator[Change]:
    """All 63 of each codon. residues: first and last, from 1. Codons with other letters than A, C, G, T have none."""
    first, last = residues or (1, len(coding.cds) // 3)
    for residue in range(first, min(last, len(coding.cds) // 3) + 1):
        at = 3 * (residue - 1)
        wild, places = coding.cds[at : at + 3], coding.places[at : at + 3]
        if set(wild) <= set("ACGT"):
            for codon in CODONS:
                if codon != wild:
                    yield Change(residue, wild, codon, _variant(coding, wild, codon, places))


def _variant(coding: Coding, wild: str, codon: str, places: Sequence[int]) -> str:
    """The whole codon where it lies in one piece; else from the first changed base to the last."""
    whole = max(places) - min(places) == 2
    new = {place: b for place, a, b in zip(places, wild, codon, strict=True) if whole or a != b}
    start, end = min(new), max(new) + 1
    ref = coding.fasta.fetch(coding.contig, start, end)
    letters = list(ref)
    for place, base in new.items():
        letters[place - start] = base.translate(COMPLEMENT) if coding.strand == "-" else base
    return f"{coding.contig}:{start + 1}{ref}>{''.join(letters)}"


def by_residue(found: Sequence[tuple[Change, float | None]], code: GeneticCode) -> Rows:
    """A row for each residue and amino acid (and stop), the best change of each; the wild type's own: synonymous."""
    groups: dict[tuple[int, str, str], dict[str, list[tuple[Change, float]]]] = {}
    for change, score in found:
        of_residue = groups.setdefault((change.residue, change.wild, code.translate(change.wild)), {})
        changed = of_residue.setdefault(code.translate(change.codon), [])
        if score is not None:
            changed.append((change, score))
    rows = []
    for (residue, wild, amino_acid), of_residue in groups.items():
        for alternative in AMINO_ACIDS:
            scored = of_residue.get(alternative, [])
            row: dict[str, Any] = dict.fromkeys(COLUMNS)
            row |= {"residue": residue, "codon": wild, "amino_acid": amino_acid, "alternative": alternative,
                    "kind": kind_of(amino_acid, alternative), "codons": len(scored)}  # fmt: skip
            best = max(scored, key=lambda each: each[1], default=None)
            snv = max((each for each in scored if each[0].bases == 1), key=lambda each: each[1], default=None)
            if best:
                row |= {"best_codon": best[0].codon, "bases": best[0].bases, "score": best[1]}
            if snv:
                row |= {"snv_codon": snv[0].codon, "snv_score": snv[1]}
            rows.append(row)
    return rows


def kind_of(amino_acid: str, alternative: str) -> str:
    if amino_acid == alternative:
        return "synonymous"
    return "stop_gained" if alternative == STOP else "stop_lost" if amino_acid == STOP else "missense"


def saturate_cds(
    fasta_path: str | Path,
    annotation: str | Path,
    name: str,
    outputs: Sequence[str | Path],
    make_job: Callable[[InputFiles, Path], ScoreJob],
    *,
    on_transcript: bool = False,
    residues: str | None = None,
    code: int = 1,
    circular: tuple[str, ...] = (),
) -> tuple[ScoreSummary, list[str]]:
    """The table (.tsv) and the map (.png) of a coding sequence; what became of the alleles, and lines for people.

    residues: only these, such as "1-100". make_job(files, output): the scoring job of these variants; it goes on where
    it was stopped. The alleles' own scores stay beside the first output
    until all outputs are there.
    """
    targets = [check_target(path) for path in outputs]
    if not targets:
        raise NexVarError("no output", where="-o", fix="name a .tsv, a .png, or both")
    table, chosen = genetic_code(code), None if residues is None else parse_residues(residues)
    coding, transcript = find_coding(Fasta(fasta_path), annotation, name, table)
    with tempfile.TemporaryDirectory() as folder:
        read = spliced(coding, transcript, Path(folder)) if on_transcript else coding
        all_changes = sorted(changes(read, chosen), key=lambda change: _place(change.variant))
        if not all_changes:
            what = f"no codon in {residues}" if residues else "no whole codon"
            raise NexVarError(what, where="--residues" if residues else annotation,
                              fix=f"{name} has {len(read.cds) // 3:,} residues")  # fmt: skip
        files = InputFiles(read.fasta.path, [each.variant for each in all_changes],
                           circular=() if on_transcript else circular)  # fmt: skip
        alleles = Path(f"{targets[0]}.alleles.parquet")
        summary = score_file(make_job(files, alleles))
    scores = [row.llr for row in read_rows(alleles)]
    found = sorted(zip(all_changes, scores, strict=True), key=lambda each: each[0].residue)
    rows = by_residue(found, table)
    for path in targets:
        if path.suffix == ".tsv":
            write_rows(path, COLUMNS, rows)
        else:
            from nexvar.evals.genes.codon_map import draw

            draw(rows, path, title=f"{name}, {'spliced transcript' if on_transcript else coding.contig}")
    alleles.unlink()
    return summary, [*coding.notes, *_means(rows)]


def parse_residues(text: str) -> tuple[int, int]:
    """ "1-100" -> (1, 100); "7" -> (7, 7)."""
    first, _, last = text.partition("-")
    if not (re.fullmatch("[0-9]{1,6}(-[0-9]{1,6})?", text) and 1 <= int(first) <= int(last or first)):
        raise NexVarError(f"residues {text[:40]!r}", where="--residues", fix="first-last, from 1, such as 1-100")
    return int(first), int(last or first)


def check_target(path: str | Path) -> Path:
    """NexVarError unless it is a .tsv or .png, and can be drawn."""
    target = Path(path)
    if target.suffix not in ENDINGS:
        raise NexVarError(f"no format for the ending of {target.name!r}", where=target, fix="with --cds: .tsv, .png")
    if target.suffix == ".png" and find_spec("matplotlib") is None:
        raise NexVarError("matplotlib is not installed", where=target, fix="pip install 'nexvar[genes]'")
    return target


def _place(variant: str) -> int:
    return int("".join(c for c in variant.rpartition(":")[2] if c.isdigit()))


def _means(rows: Rows) -> list[str]:
    """The mean of the best changes, and of the best single-base changes, by kind."""
    said = []
    for kind in ("synonymous", "missense", "stop_gained", "stop_lost"):
        of_kind = [row for row in rows if row["kind"] == kind]
        means = []
        for column in ("score", "snv_score"):
            values = [row[column] for row in of_kind if row[column] is not None and not math.isnan(row[column])]
            means.append(f"{sum(values) / len(values):.4g} (n = {len(values):,})" if values else "none")
        said.append(f"{kind}: mean of the best codon change {means[0]}, of the best single-base change {means[1]}")
    return said

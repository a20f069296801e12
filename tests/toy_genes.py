"""A small genome with genes on both strands, one of them spliced; as a table, GFF3 and BED12."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from nexvar.genome.reference import reverse_complement
from toy_genome import random_bases, write_fasta

SENSE = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT" if a + b + c not in ("TAA", "TAG", "TGA")]
INTRON = "GT" + "ACTGAC" * 5 + "AG"


def coding(codons: int, seed: int) -> str:
    """ATG, sense codons, TAA."""
    return "ATG" + "".join(random.Random(seed).choices(SENSE, k=codons - 2)) + "TAA"


@dataclass(frozen=True)
class ToyGene:
    name: str
    strand: str
    cds: str  # 5' to 3'
    pieces: list[tuple[int, int]]  # 0-based half-open, plus strand
    essential: int


class ToyGenes:
    """``count`` genes of 12 to 20 codons, every second on the minus strand, every third with an intron."""

    def __init__(self, folder: Path, count: int = 6) -> None:
        bases, self.genes = random_bases(150, 1), []
        for i in range(count):
            cds, strand = coding(12 + i % 9, i), "+-"[i % 2]
            cut = 17 if i % 3 == 0 else len(cds)
            text = cds[:cut] + (INTRON + cds[cut:] if cut < len(cds) else "")
            start, end = len(bases), len(bases) + len(text)
            spans = [(0, cut), (cut + len(INTRON), len(text))] if cut < len(cds) else [(0, len(text))]
            if strand == "-":
                text, spans = reverse_complement(text), [(len(text) - b, len(text) - a) for a, b in reversed(spans)]
            self.genes.append(ToyGene(f"g{i}", strand, cds, [(start + a, start + b) for a, b in spans], i // 2 % 2))
            bases += text + random_bases(150, 100 + i)
            assert end + 150 == len(bases)
        self.folder, self.bases = folder, bases
        self.fasta = write_fasta(folder / "genome.fa", chr1=bases)

    def table(self, name: str = "genes.tsv", places: bool = True) -> Path:
        head = "contig\tstart\tend\tstrand\tgene\tlocus_tag\tessential\texons\n"
        rows = [
            f"chr1\t{g.pieces[0][0]}\t{g.pieces[-1][1]}\t{g.strand}\t{g.name}\tb{i}\t{g.essential}\t"
            f"{';'.join(f'{a}-{b}' for a, b in g.pieces)}\n" for i, g in enumerate(self.genes)
        ]  # fmt: skip
        lines = [head, *rows]
        if not places:
            lines = ["\t".join(line.split("\t")[4:7]) + "\n" for line in lines]
        return self._write(name, "".join(lines))

    def gff3(self) -> Path:
        lines = ["##gff-version 3\n"]
        for g in self.genes:
            low, high = g.pieces[0][0] + 1, g.pieces[-1][1]
            lines.append(f"chr1\t.\tgene\t{low}\t{high}\t.\t{g.strand}\t.\tID=gene:{g.name};Name={g.name}\n")
            lines.append(f"chr1\t.\tmRNA\t{low}\t{high}\t.\t{g.strand}\t.\tID=t{g.name};Parent=gene:{g.name}\n")
            for a, b in g.pieces:
                for kind, phase in (("exon", "."), ("CDS", "0")):
                    lines.append(f"chr1\t.\t{kind}\t{a + 1}\t{b}\t.\t{g.strand}\t{phase}\tParent=t{g.name}\n")
        return self._write("genes.gff3", "".join(lines))

    def bed(self) -> Path:
        rows = []
        for g in self.genes:
            low, high = g.pieces[0][0], g.pieces[-1][1]
            sizes, starts = (",".join(map(str, v)) for v in zip(*((b - a, a - low) for a, b in g.pieces), strict=True))
            fields = ("chr1", low, high, g.name, 0, g.strand, low, high, 0, len(g.pieces), sizes, starts)
            rows.append("\t".join(map(str, fields)) + "\n")
        return self._write("genes.bed", "".join(rows))

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

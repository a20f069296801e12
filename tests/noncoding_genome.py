"""A genome of two contigs with one gene on each strand, and labelled variants on it."""

from __future__ import annotations

from pathlib import Path

from toy_genome import other_bases, random_bases, write_fasta, write_vcf

CHR1, CHR2 = random_bases(30_000, seed=3), random_bases(4000, seed=4)
# exons (1-based, inclusive) and coding parts of a gene on the plus strand; its mirror image is on the minus strand
EXONS, CODING = ((5001, 5200), (6001, 6200), (7001, 7300)), ((5101, 5200), (6001, 6200), (7001, 7100))
MIRROR = 30_001  # pos -> MIRROR - pos


def gene(name: str, strand: str, kind: str) -> str:
    def mirrored(span: tuple[int, int]) -> tuple[int, int]:
        return span if strand == "+" else (MIRROR - span[1], MIRROR - span[0])

    def line(feature: str, span: tuple[int, int], gff: str, phase: str = ".") -> str:
        start, end = mirrored(span)
        gtf = f'gene_id "{name}"; ' + ("" if feature == "gene" else f'transcript_id "t{name}"; tag "MANE_Select";')
        return f"chr1\tX\t{feature}\t{start}\t{end}\t.\t{strand}\t{phase}\t{gff if kind == 'gff3' else gtf}\n"

    whole = (EXONS[0][0], EXONS[-1][1])
    text = line("gene", whole, f"ID={name}")
    text += line("transcript", whole, f"ID=t{name};Parent={name};tag=MANE_Select")
    text += "".join(line("exon", span, f"Parent=t{name}") for span in EXONS)
    text += "".join(line("CDS", span, f"Parent=t{name}", "0") for span in CODING)
    if kind == "gtf":  # as GENCODE has it: one word for both ends
        text += line("UTR", (5001, 5100), "") + line("UTR", (7101, 7300), "")
    else:
        text += line("five_prime_UTR", (5001, 5100), f"Parent=t{name}")
        text += line("three_prime_UTR", (7101, 7300), f"Parent=t{name}")
    return text


def toy_files(folder: Path) -> Path:
    """genome.fa, genes.gff3, genes.gtf and ccre.bed in ``folder``."""
    write_fasta(folder / "genome.fa", chr1=CHR1, chr2=CHR2)
    for kind in ("gff3", "gtf"):
        (folder / f"genes.{kind}").write_text(gene("A", "+", kind) + gene("B", "-", kind))
    (folder / "ccre.bed").write_text(
        "chr1\t12000\t12100\tE1\tE2\tdELS,CTCF-bound\nchr1\t12200\t12300\tE1\tE2\tpELS\nchr9\t1\t9\tE1\tE2\tdELS\n"
    )
    return folder


def snv_line(pos: int, info: str, alt: str | None = None, filter: str = "PASS") -> str:
    """A record of chromosome "1", as ClinVar writes it; ``pos`` 1-based."""
    ref = CHR1[pos - 1]
    return f"1\t{pos}\t.\t{ref}\t{alt or other_bases(ref)[0]}\t.\t{filter}\t{info}\n"


COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def _keys(*names: str) -> str:
    lines = (f'##INFO=<ID={name},Number=.,Type=String,Description="x">\n' for name in names)
    return "##fileformat=VCFv4.2\n" + "".join(lines) + COLUMNS


def clinvar(folder: Path, *rows: tuple[int, str, str, str]) -> Path:
    """(1-based position, significance, consequence, review status), the first other base as ALT."""
    lines = [snv_line(pos, f"CLNREVSTAT={review};CLNSIG={sig};GENEINFO=G{pos}:1;MC=SO:1|{mc}", filter=".")
             for pos, sig, mc, review in rows]  # fmt: skip
    return write_vcf(folder / "clinvar.vcf", lines, _keys("CLNSIG", "CLNREVSTAT", "MC", "GENEINFO"))


def gnomad(
    folder: Path, *rows: tuple[int, str], failed: tuple[int, ...] = (), alts: dict[int, str] | None = None
) -> Path:
    """(1-based position, frequency). failed: positions that do not pass the filters."""
    lines = [snv_line(pos, f"AC=1;AF={af}", (alts or {}).get(pos), "AC0" if pos in failed else "PASS")
             for pos, af in rows]  # fmt: skip
    return write_vcf(folder / "gnomad.vcf", lines, _keys("AC", "AF"))


def labelled_vcf(folder: Path, *rows: tuple[int, str, str, int], info: str = "") -> Path:
    """(1-based position, REF, ALT, label). info: more of every record."""
    lines = [f"1\t{pos}\t.\t{ref}\t{alt}\t.\t.\tLABEL={label}{info}\n" for pos, ref, alt, label in rows]
    return write_vcf(folder / "labelled.vcf", lines, _keys("LABEL", "GENE", "REGION"))

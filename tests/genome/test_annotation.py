"""Annotations: what is read from GFF3, GTF and BED12, found by place and by name, and what is refused."""

from __future__ import annotations

import random
from contextlib import suppress
from importlib.resources import files
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edits import edit
from malformed.case import bgzip, gz
from nexvar.errors import NexVarError
from nexvar.genome.annotation import read_annotation
from nexvar.genome.reference import Fasta, reverse_complement
from nexvar.genome.vcf import read_vcf
from toy_genome import random_bases, write_fasta

BASES = random_bases(1000, seed=4)
DATA = files("nexvar") / "data"

# One gene on each strand: exons 101-200, 301-400, 501-600; coding from 151 to 550, the stop codon included.
GFF3 = "##gff-version 3\n"
for _name, _strand in (("ALPHA", "+"), ("BETA", "-")):
    _phases = ("0", "1", "0") if _strand == "+" else ("0", "2", "0")
    _gene = f"ID=gene:{_name}.3;Name={_name};Alias=old{_name};description=a 100%25 toy"
    _transcript = f"ID=t:{_name};Parent=gene:{_name}.3;Name={_name}-201;tag=basic,MANE_Select"
    GFF3 += f"1\tx\tgene\t101\t600\t.\t{_strand}\t.\t{_gene}\n"
    GFF3 += f"1\tx\tmRNA\t101\t600\t.\t{_strand}\t.\t{_transcript}\n"
    for _low, _high in ((101, 200), (301, 400), (501, 600)):
        GFF3 += f"1\tx\texon\t{_low}\t{_high}\t.\t{_strand}\t.\tParent=t:{_name}\n"
    for (_low, _high), _phase in zip(((151, 200), (301, 400), (501, 550)), _phases, strict=True):
        GFF3 += f"1\tx\tCDS\t{_low}\t{_high}\t.\t{_strand}\t{_phase}\tID=cds:{_name};Parent=t:{_name}\n"


def _gtf(line: str) -> str:
    """A line of the toy's GFF3 as GENCODE's GTF has it: the stop codon is not coding, both UTRs are UTR."""
    *fields, attributes = line.split("\t")
    name = "ALPHA" if "ALPHA" in attributes else "BETA"
    gene = f'gene_id "gene:{name}.3"; gene_name "{name}";'
    of = f'{gene} transcript_id "t:{name}"; transcript_name "{name}-201"; tag "basic"; tag "MANE_Select";'
    if fields[2] == "CDS":
        if fields[6] == "+" and fields[4] == "550":
            fields[4] = "547"
        if fields[6] == "-" and fields[3] == "151":
            fields[3] = "154"
    fields[2] = "transcript" if fields[2] == "mRNA" else fields[2]
    return "\t".join([*fields, gene if fields[2] == "gene" else of]) + "\n"


GTF = "".join(map(_gtf, GFF3.splitlines()[1:]))
for _name, _strand, _stop in (("ALPHA", "+", (548, 550)), ("BETA", "-", (151, 153))):
    of = f'gene_id "gene:{_name}.3"; gene_name "{_name}"; transcript_id "t:{_name}"; transcript_name "{_name}-201";'
    for kind, (low, high) in (("stop_codon", _stop), ("UTR", (101, 150)), ("UTR", (551, 600))):
        GTF += f"1\tx\t{kind}\t{low}\t{high}\t.\t{_strand}\t.\t{of}\n"
BED = "".join(
    f"1\t100\t600\t{name}\t0\t{strand}\t150\t550\t0\t3\t100,100,100,\t0,200,400,\n"
    for name, strand in (("ALPHA", "+"), ("BETA", "-"))
)


@pytest.fixture(scope="module")
def fasta(tmp_path_factory):
    return Fasta(write_fasta(tmp_path_factory.mktemp("annotation") / "x.fa", chr1=BASES, chr2=BASES[:500]))


@pytest.fixture
def read(tmp_path, fasta):
    def _read(text: str | bytes, name: str = "x.gff3", genome: Fasta = fasta, **options):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_annotation(tmp_path / name, genome, **options)

    return _read


# -- the same gene in three formats


@pytest.mark.parametrize("text", [GFF3, GTF, BED], ids=["gff3", "gtf", "bed12"])
def test_structure_is_the_same_in_every_format(read, fasta, text):
    plus, minus = read(text).transcripts("chr1", 0, 1000)
    for t in (plus, minus):
        assert t.exons == ((100, 200), (300, 400), (500, 600))
        assert t.introns == ((200, 300), (400, 500))
        assert t.cds == ((150, 200), (300, 400), (500, 550))
    assert (plus.utr5, plus.utr3) == (((100, 150),), ((550, 600),))
    assert (minus.utr5, minus.utr3) == (((550, 600),), ((100, 150),))
    coding = BASES[150:200] + BASES[300:400] + BASES[500:550]
    assert plus.coding_sequence(fasta) == coding
    assert minus.coding_sequence(fasta) == reverse_complement(coding)
    assert plus.spliced(fasta) == BASES[100:200] + BASES[300:400] + BASES[500:600]


@pytest.mark.parametrize("text", [GFF3, GTF, BED], ids=["gff3", "gtf", "bed12"])
def test_utrs_have_their_class_in_every_format(read, text):
    annotation = read(text)
    assert annotation.spans("1", "five_prime_UTR").tolist() == [[100, 150], [550, 600]]
    assert annotation.spans("1", "three_prime_UTR").tolist() == [[100, 150], [550, 600]]
    assert annotation.spans("1", "UTR").tolist() == []


def test_gtf_without_lines_of_genes_and_transcripts(read):
    parts = "".join(line + "\n" for line in GTF.splitlines() if line.split("\t")[2] in ("exon", "CDS", "stop_codon"))
    annotation = read(parts)
    assert [(f.kind, f.name, f.start, f.end) for f in annotation.search("alpha")] == [("gene", "ALPHA", 100, 600)]
    assert [t.feature.name for t in annotation.transcripts("1", 0, 1000)] == ["ALPHA-201", "BETA-201"]
    assert annotation.transcript("t:ALPHA").cds == read(GTF).transcript("t:ALPHA").cds


def test_a_first_phase_is_left_out(read, fasta):
    text = GFF3.replace("151\t200\t.\t+\t0", "151\t200\t.\t+\t2").replace("501\t550\t.\t-\t0", "501\t550\t.\t-\t1")
    plus, minus = read(text).transcripts("1", 0, 1000)
    coding = BASES[150:200] + BASES[300:400] + BASES[500:550]
    assert plus.coding_sequence(fasta) == coding[2:]
    assert minus.coding_sequence(fasta) == reverse_complement(coding)[1:]


@pytest.mark.parametrize("pack", [bgzip, gz])
def test_compressed(read, pack):
    assert len(read(pack(GFF3.encode()), "x.gff3.gz")) == len(read(GFF3))


def test_what_is_kept_on_disk_is_what_was_read(read, tmp_path):
    first, second = (read(GTF, cache=tmp_path) for _ in range(2))
    kept = list(tmp_path.glob("features-*.parquet"))
    assert len(kept) == 1
    assert first.features("1", 0, 1000) == second.features("1", 0, 1000)
    kept[0].write_bytes(b"PAR1 damaged")
    assert read(GTF, cache=tmp_path).features("1", 0, 1000) == first.features("1", 0, 1000)
    assert read(GTF.replace("ALPHA", "GAMMA"), cache=tmp_path).search("gamma")


# -- by place

placed = st.lists(st.tuples(st.sampled_from(("1", "chr2")), st.integers(0, 480), st.integers(1, 20)), min_size=1)


@settings(max_examples=60, deadline=None)
@given(placed, st.integers(0, 500), st.integers(1, 60))
def test_overlaps_are_those_of_every_single_comparison(tmp_path_factory, rows, start, size):
    folder = tmp_path_factory.mktemp("overlap")
    fasta = Fasta(write_fasta(folder / "x.fa", chr1=BASES, chr2=BASES[:500]))
    (folder / "x.bed").write_text("".join(f"{c}\t{low}\t{low + n}\tr{i}\n" for i, (c, low, n) in enumerate(rows)))
    annotation = read_annotation(folder / "x.bed", fasta)
    for contig, same in (("chr1", "1"), ("chr2", "chr2")):
        found = sorted(f.name for f in annotation.features(contig, start, start + size))
        expected = [i for i, (c, low, n) in enumerate(rows) if c == same and low < start + size and low + n > start]
        assert found == sorted(f"r{i}" for i in expected)
    assert annotation.features("chr9", 0, 10) == []


def test_contigs_have_the_fastas_names_and_answer_to_others(read):
    annotation = read(GFF3 + "7\tx\tgene\t1\t9\t.\t+\t.\tID=g7\n")
    assert {f.contig for f in annotation.features("1", 0, 1000)} == {"chr1"}
    assert "1 features on contigs that x.fa does not have" in annotation.notes[0]


def test_a_slice_of_a_chromosome(read, tmp_path):
    part = Fasta(write_fasta(tmp_path / "part.fa", **{"chr1:251-450": BASES[250:450]}))
    annotation = read(GFF3, genome=part)
    assert annotation.spans("chr1", "exon").tolist() == [[300, 400], [300, 400]]
    assert [f.name for f in annotation.search("beta")] == ["BETA"]


def test_nothing_of_the_file_may_be_left(read, tmp_path):
    part = Fasta(write_fasta(tmp_path / "part.fa", **{"chr1:901-1000": BASES[900:]}))
    annotation = read(GFF3, genome=part)
    assert len(annotation) == 0 and annotation.search("ALPHA") == annotation.transcripts("1", 0, 1000) == []
    assert annotation.spans("chr1", "exon").shape == (0, 2) and annotation.nearest("ALPHA") == []


# -- rings

RING = "##gff-version 3\nchr2\tx\tregion\t1\t500\t.\t.\t.\tID=chr2;Is_circular=true\n"


@pytest.mark.parametrize("strand", "+-")
def test_a_gene_across_the_origin_in_two_lines_or_one(read, fasta, strand):
    two = "".join(
        f"chr2\tx\tCDS\t{low}\t{high}\t.\t{strand}\t0\tID=orf;Name=orf\n" for low, high in ((462, 500), (1, 21))
    )
    one = f"chr2\tx\tCDS\t462\t521\t.\t{strand}\t0\tID=orf;Name=orf\n"
    sense = BASES[461:500] + BASES[:21]
    for text in (two, one):
        annotation = read(RING + text)
        assert [(f.start, f.end) for f in annotation.find("orf")] == [(0, 21), (461, 500)]
        assert annotation.transcript("orf").coding_sequence(fasta) == (
            sense if strand == "+" else reverse_complement(sense)
        )
        assert len(annotation.transcripts("chr2", 0, 500)) == 1
        assert [f.name for f in annotation.features("chr2", 5, 6)] == ["orf"]  # the ring's own line is none


# -- by name


def test_search_takes_whole_names_first_then_beginnings_then_texts(read):
    names = ["TP53BP1", "TP53", "ATP5", "XTP53", "tp53rk"]
    lines = [f"chr1\tx\tgene\t{9 * i + 1}\t{9 * i + 5}\t.\t+\t.\tID=g{i};Name={n}\n" for i, n in enumerate(names)]
    lines.append("chr1\tx\tgene\t90\t99\t.\t+\t.\tID=g9;Name=MDM2;description=binds TP53 [Source:HGNC]\n")
    annotation = read("##gff-version 3\n" + "".join(lines))
    assert [f.name for f in annotation.search("tp53")] == ["TP53", "tp53rk", "TP53BP1", "XTP53", "MDM2"]
    assert [f.name for f in annotation.search("TP53", limit=2)] == ["TP53", "tp53rk"]
    assert annotation.search("tp53\t") == annotation.search(" TP53 ")
    assert annotation.search("") == annotation.search("a\tb") == []
    assert annotation.nearest("TPP53")[0] == "TP53"
    assert annotation.nearest("qqqqqqqq") == []


@pytest.mark.parametrize("text", ["ALPHA", "alpha", "gene:ALPHA.3", "gene:ALPHA", "ALPHA.3", "oldalpha"])
def test_a_gene_is_found_by_symbol_id_and_alias(read, text):
    assert [(f.kind, f.name, f.strand) for f in read(GFF3).search(text)] == [("gene", "ALPHA", "+")]


def test_transcripts_are_found_by_their_whole_name_and_tell_their_tags(read):
    for text in (GFF3, GTF):
        (found,) = read(text).search("alpha-201")
        assert (found.id, found.tags) == ("t:ALPHA", "basic,MANE_Select")
    assert read(GFF3).search("ALPHA")[0].description == "a 100% toy"


# -- what is not right

LAST = GFF3.count("\n") + 1
BAD = {
    "columns": ("chr1\tx\tgene\t1\t9\n", 1, "is not GFF3, GTF or BED"),
    "later_columns": (GFF3 + "chr1\tx\tgene\t1\t9\n", LAST, "5 columns, not 9"),
    "blanks": ("chr1 x gene 1 9 . + . ID=a\n", 1, "separate columns by tabs"),
    "start_text": (GFF3 + "chr1\tx\tgene\tten\t9\t.\t+\t.\tID=a\n", LAST, "start 'ten'"),
    "start_superscript": (GFF3 + "chr1\tx\tgene\t\u00b2\t9\t.\t+\t.\tID=a\n", LAST, "start '\u00b2'"),
    "start_underscore": (GFF3 + "chr1\tx\tgene\t1_0\t99\t.\t+\t.\tID=a\n", LAST, "start '1_0'"),
    "start_0": (GFF3 + "chr1\tx\tgene\t0\t9\t.\t+\t.\tID=a\n", LAST, "start '0'"),
    "backwards": (GFF3 + "chr1\tx\tgene\t9\t1\t.\t+\t.\tID=a\n", LAST, "start '9', end '1'"),
    "huge": (GFF3 + "chr1\tx\tgene\t1\t99999999999\t.\t+\t.\tID=a\n", LAST, "end '99999999999'"),
    "strand": (GFF3 + "chr1\tx\tgene\t1\t9\t.\tplus\t.\tID=a\n", LAST, "strand 'plus'"),
    "phase": (GFF3 + "chr1\tx\tCDS\t1\t9\t.\t+\t3\tID=a\n", LAST, "phase '3'"),
    "no_contig": (GFF3 + "\tx\tgene\t1\t9\t.\t+\t.\tID=a\n", LAST, "no contig"),
    "attributes": (GFF3 + "chr1\tx\tgene\t1\t9\t.\t+\t.\tALPHA\n", LAST, "attributes 'ALPHA'"),
    "attributes_of_a_part": (GFF3 + "chr1\tx\texon\t1\t9\t.\t+\t.\tALPHA\n", LAST, "attributes 'ALPHA'"),
    "gtf_without_gene": ('chr1\tx\texon\t1\t9\t.\t+\t.\ttranscript_id "a";\n', 1, "no gene_id"),
    "gtf_attributes": (GTF + 'chr1\tx\tgene\t1\t9\t.\t+\t.\tgene_id "a\n', GTF.count("\n") + 1, "attributes 'gene_id"),
    "beyond_the_end": (GFF3 + "chr1\tx\tgene\t991\t1001\t.\t+\t.\tID=a\n", LAST, "ends at 1,001, chr1 has 1,000"),
    "bed_blocks": (BED.replace("0,200,400,", "0,200,"), 1, "3 blocks, 3 sizes, 2 starts"),
    "bed_block_beyond": (BED.replace("0,200,400,", "0,200,500,"), 1, "beyond the end 600"),
    "bed_backwards": ("chr1\t9\t5\ta\n", 1, "start 9, end 5"),
    "binary": (b"chr1\tx\tgene\t1\t9\t.\t+\t.\tID=\0\n", 1, "NUL"),
    "cut": (gz(GFF3.encode() * 50)[:-20], None, "ends too early"),
    "fasta": (">chr1\nACGT\n", 1, "is not GFF3"),
    "empty": (b"", 1, "empty"),
    "only_comments": ("##gff-version 3\n#nothing\n", 1, "no features"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_with_its_place(read, tmp_path, name):
    text, line, says = BAD[name]
    with pytest.raises(NexVarError) as caught:
        read(text)
    message = str(caught.value)
    assert says in message and "\n" not in message
    assert message.startswith(f"{tmp_path / 'x.gff3'}:{'' if line is None else f'{line}: '}")


@pytest.mark.parametrize("text", [RING + GFF3, GTF, BED], ids=["gff3", "gtf", "bed12"])
def test_damage_is_told_or_harmless(read, fasta, text):
    rng = random.Random(5)
    for _ in range(60):
        data = bytearray(text.encode())
        edit(data, rng)
        with suppress(NexVarError):
            annotation = read(bytes(data))
            for transcript in annotation.transcripts("1", 0, 1000):
                transcript.coding_sequence(fasta)
            assert annotation.count("1", 0, 1000) == len(annotation.features("1", 0, 1000))


def test_another_assembly_is_told(read):
    with pytest.raises(NexVarError, match="chr1 has 2,000 bases in its header, 1,000 in x.fa"):
        read("##gff-version 3\n##sequence-region chr1 1 2000\n" + GFF3)
    with pytest.raises(NexVarError, match=r"none of its contigs \(chr9\) is in x.fa"):
        read(GFF3.replace("1\tx", "chr9\tx"))


# -- the human mitochondrion

AMINO = "FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIMMTTTTNNKKSS**VVVVAAAADDEEGGGG"  # vertebrate mitochondrial code, NCBI 2
CODONS = dict(zip(map("".join, product("TCAG", repeat=3)), AMINO, strict=True))
INCOMPLETE = {"MT-ND1", "MT-ND2", "MT-CO3", "MT-ND3", "MT-ND4", "MT-CYB"}


@pytest.fixture(scope="module")
def mito():
    fasta = Fasta(str(DATA / "chrM_rCRS.fa"))
    return fasta, read_annotation(str(DATA / "chrM.gff3"), fasta)


def test_every_mitochondrial_gene_is_translated_to_its_end(mito):
    fasta, annotation = mito
    genes = [t for t in annotation.transcripts("MT", 0, 16569) if t.cds]
    assert len(genes) == 13
    for gene in genes:
        sequence = gene.coding_sequence(fasta)
        whole = len(sequence) - len(sequence) % 3
        protein = "".join(CODONS[sequence[i : i + 3]] for i in range(0, whole, 3))
        assert sequence[:3] in ("ATG", "ATA", "ATT", "ATC", "GTG"), gene.feature.name
        assert "*" not in protein[:-1], gene.feature.name
        if gene.feature.name in INCOMPLETE:
            assert protein[-1] != "*" and sequence[whole:] in ("T", "TA"), gene.feature.name
        else:
            assert protein[-1] == "*" and whole == len(sequence), gene.feature.name


def test_labelled_variants_lie_in_genes_of_their_region(mito):
    _, annotation = mito
    kinds = {"protein": "CDS", "tRNA": "tRNA", "rRNA": "rRNA", "control": "D_loop"}
    seen = dict.fromkeys([*kinds, "intergenic"], 0)
    for record in read_vcf(str(DATA / "mtdna_labelled.vcf")):
        region = dict(item.split("=") for item in record.info.split(";"))["REGION"]
        found = {f.kind for f in annotation.features("chrM", record.pos0, record.pos0 + 1)}
        assert (kinds[region] in found) if region in kinds else not found & set(kinds.values()), record
        seen[region] += 1
    assert min(seen[region] for region in ("protein", "tRNA", "rRNA")) > 20


def test_mitochondrial_genes_by_name_strand_and_origin(mito):
    _, annotation = mito
    assert annotation.circular == {"chrM"}
    (nd6,) = annotation.search("nd6")
    assert (nd6.name, nd6.strand, nd6.start, nd6.end) == ("MT-ND6", "-", 14148, 14673)
    minus = {f.name for f in annotation.features("chrM", 0, 16569) if f.kind == "gene" and f.strand == "-"}
    assert minus == {f"MT-{n}" for n in ("TQ", "TA", "TN", "TC", "TY", "TS1", "ND6", "TE", "TP")}
    assert [(f.start, f.end) for f in annotation.search("control region")] == [(0, 576), (16023, 16569)]
    genes = [f for f in annotation.features("chrM", 0, 16569) if f.kind == "gene"]
    assert len(genes) == 37 and all(annotation.search(f.name)[0] == f for f in genes)
    assert annotation.search("COX1")[0].name == "MT-CO1"

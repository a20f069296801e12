"""The reference genome: sequence from every kind of file, names, circles, and what must be refused."""

from __future__ import annotations

import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate

import pysam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edits import edit
from malformed import FASTA_CASES, SYNONYM_CASES
from malformed.case import bgzip, gz
from malformed.fasta_cases import FAI
from malformed.fasta_cases import GOOD as WITH_FAI
from nexvar.errors import NexVarError
from nexvar.genome import bytesource
from nexvar.genome import fasta as fasta_module
from nexvar.genome.names import read_synonyms
from nexvar.genome.reference import Fasta, Interval, Variant, reverse_complement

RNG = random.Random(3)
SEQUENCES = {
    "chr1": "".join(RNG.choices("ACGTacgtN", k=70_001)),
    "chrM": "".join(RNG.choices("ACGT", k=997)),
    "tiny": "R",
}


def layout(sequences: dict[str, str], width: int = 60, newline: str = "\n", end: str = "\n") -> bytes:
    parts = []
    for name, sequence in sequences.items():
        lines = [sequence[i : i + width] for i in range(0, len(sequence), width)]
        parts.append(newline.join([f">{name} some text", *lines]))
    return (newline.join(parts) + end).encode()


def ragged(sequences: dict[str, str]) -> bytes:
    """Lines of every length, blank lines, LF and CRLF mixed."""
    rng, out = random.Random(5), []
    for name, sequence in sequences.items():
        out.append(f">{name}\r\n")
        at = 0
        while at < len(sequence):
            n = rng.choice([1, 7, 60, 300])
            out.append(sequence[at : at + n] + rng.choice(["\n", "\r\n", "\n\n"]))
            at += n
    return "".join(out).encode()


def with_blanks(sequences: dict[str, str]) -> bytes:
    """Blanks and tabs at the ends of lines, as editors and word processors leave them."""
    rng = random.Random(6)
    lines = layout(sequences).split(b"\n")
    return b"".join(line + rng.choice([b"", b" ", b"\t ", b"   "]) + rng.choice([b"\n", b"\r\n"]) for line in lines)


LAYOUTS = {
    "blanks_at_line_ends.fa": with_blanks(SEQUENCES),
    "blanks_bgzip.fa.gz": bgzip(with_blanks(SEQUENCES), block=997),
    "lines_of_60.fa": layout(SEQUENCES),
    "one_line.fa": layout(SEQUENCES, width=10**9),
    "no_final_newline.fa": layout(SEQUENCES, end=""),
    "crlf.fa": layout(SEQUENCES, newline="\r\n"),
    "crlf_no_final_newline.fa": layout(SEQUENCES, newline="\r\n", end="\r"),
    "blank_lines_between.fa": layout(SEQUENCES).replace(b">", b"\n\n>"),
    "ragged.fa": ragged(SEQUENCES),
    "plain_gzip.fa.gz": gz(layout(SEQUENCES)),
    "bgzip.fa.gz": bgzip(layout(SEQUENCES)),
    "bgzip_small_blocks.fa.gz": bgzip(layout(SEQUENCES, newline="\r\n"), block=101),
    "bgzip_ragged.fa.bgz": bgzip(ragged(SEQUENCES), block=5000),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_sequence(name, tmp_path, monkeypatch):
    monkeypatch.setattr(fasta_module, "CHUNK", 1 << 15)  # so that records span several reads
    path = tmp_path / name
    path.write_bytes(LAYOUTS[name])
    genome = Fasta(path)
    assert genome.contigs == {n: len(s) for n, s in SEQUENCES.items()}
    rng = random.Random(7)
    for contig, sequence in SEQUENCES.items():
        size = len(sequence)
        spans = [(0, size), (0, 0), (0, 1), (size - 1, size)]
        spans += [tuple(sorted((rng.randrange(size + 1), rng.randrange(size + 1)))) for _ in range(40)]
        for start, end in spans:
            assert genome.fetch(contig, start, end, upper=False) == sequence[start:end]
            assert genome.fetch(contig, start, end) == sequence[start:end].upper()


def test_chunk_borders_do_not_matter(tmp_path, monkeypatch):
    """Headers, \\r\\n and blank lines at every possible place of a read border."""
    sequences = {f"c{i}": "ACGTN"[: 1 + i % 5] * (1 + i % 7) for i in range(40)}
    path = tmp_path / "x.fa"
    for data in (layout(sequences, 4, "\r\n"), ragged(sequences), with_blanks(sequences)):
        path.write_bytes(data)
        for size in range(2, 40):
            monkeypatch.setattr(fasta_module, "CHUNK", size)
            monkeypatch.setattr(fasta_module, "FIRST_CHUNK", size)
            monkeypatch.setattr(fasta_module, "STEP", 3)
            genome = Fasta(path)
            assert {n: genome.fetch(n, 0, k) for n, k in genome.contigs.items()} == sequences


def test_it_agrees_with_samtools(tmp_path):
    path = tmp_path / "x.fa.gz"
    path.write_bytes(LAYOUTS["bgzip.fa.gz"])
    pysam.faidx(str(path))
    with pysam.FastaFile(str(path)) as other:
        ours = Fasta(path)  # and its .fai is accepted
        for start in range(0, 69_000, 997):
            assert ours.fetch("chr1", start, start + 500, upper=False) == other.fetch("chr1", start, start + 500)


def test_a_genome_travels_to_another_process(tmp_path):
    for name in ("lines_of_60.fa", "bgzip.fa.gz", "plain_gzip.fa.gz"):
        (tmp_path / name).write_bytes(LAYOUTS[name])
        genome = Fasta(tmp_path / name)
        genome.fetch("chr1", 0, 10)
        copy = pickle.loads(pickle.dumps(genome))
        assert copy.fetch("chr1", 500, 600) == SEQUENCES["chr1"][500:600].upper()


@pytest.mark.parametrize("name", FASTA_CASES)
def test_malformed_fasta_is_refused_in_one_line(name, tmp_path, monkeypatch):
    path = FASTA_CASES[name].write(tmp_path, name)
    with pytest.raises(NexVarError) as caught:
        Fasta(path)
    FASTA_CASES[name].check(str(caught.value), path)
    if name.startswith("fai_"):  # the way of big files finds it too
        monkeypatch.setattr(fasta_module, "TRUST_FAI_ABOVE", 0)
        with pytest.raises(NexVarError):
            Fasta(path)


def test_a_path_that_is_no_file(tmp_path):
    for path, says in ((tmp_path, "directory"), (tmp_path / "none.fa", "no such file"), ("/dev/null", "regular")):
        with pytest.raises(NexVarError, match=says):
            Fasta(path)
    with pytest.raises(NexVarError, match="NUL"):
        Fasta("a\0b")


def test_several_threads_read_one_bgzip(tmp_path):
    sequence = "".join(random.Random(1).choices("ACGT", k=200_000))
    (tmp_path / "g.fa.gz").write_bytes(bgzip(layout({"chr1": sequence}), block=1000))  # more blocks than are kept
    fasta = Fasta(tmp_path / "g.fa.gz")

    def wrong(seed: int) -> int:
        draw = random.Random(seed)
        starts = [draw.randrange(199_000) for _ in range(300)]
        return sum(fasta.fetch("chr1", at, at + 900) != sequence[at : at + 900] for at in starts)

    with ThreadPoolExecutor(4) as threads:
        assert not any(threads.map(wrong, range(8)))


def test_plain_gzip_that_is_too_big_names_bgzip(tmp_path, monkeypatch):
    monkeypatch.setattr(bytesource, "MAX_PLAIN_GZIP", 1000)
    path = tmp_path / "x.fa.gz"
    path.write_bytes(gz(layout(SEQUENCES)))
    with pytest.raises(NexVarError, match="bgzip"):
        Fasta(path)


@pytest.mark.parametrize("name", ["lines_of_60.fa", "crlf.fa", "bgzip.fa.gz", "no_final_newline.fa", "one_line.fa"])
def test_a_good_index_of_a_big_file_is_used_without_scanning(name, tmp_path, monkeypatch):
    path = tmp_path / name
    path.write_bytes(LAYOUTS[name])
    pysam.faidx(str(path))
    monkeypatch.setattr(fasta_module, "TRUST_FAI_ABOVE", 0)
    monkeypatch.setattr(fasta_module, "scan", None)
    genome = Fasta(path)
    for contig, sequence in SEQUENCES.items():
        assert genome.fetch(contig, 0, len(sequence), upper=False) == sequence
        middle = len(sequence) // 3
        assert genome.fetch(contig, middle, middle + 100 if len(sequence) > 200 else middle + 1, upper=False)


@pytest.mark.parametrize("trust", [True, False])
@pytest.mark.parametrize("width", [1, 10, 60, 10**6])
@pytest.mark.parametrize("newline", ["\n", "\r\n", " \n", " \t\r\n"])
def test_what_samtools_indexes_fits_and_no_other_line_does(width, newline, trust, tmp_path, monkeypatch):
    if trust:
        monkeypatch.setattr(fasta_module, "TRUST_FAI_ABOVE", 0)
    sequences = {"a": "ACGT" * 30 + "A", "b": "C", "c": "GATTACA" * 10}
    for end in (newline, ""):
        path = tmp_path / "x.fa"
        path.write_bytes(layout(sequences, width, newline, end))
        pysam.faidx(str(path))
        genome = Fasta(path)
        assert {n: genome.fetch(n, 0, k) for n, k in genome.contigs.items()} == sequences
        fai = (tmp_path / "x.fa.fai").read_text()
        first, *rest = fai.splitlines()
        name, length, start, bases, bytes_ = first.split("\t")
        for changed in ((length, start, int(bases) + 1, int(bytes_) + 1), (length, start, bases, int(bytes_) + 1),
                        (int(length) + 1, start, bases, bytes_), (length, int(start) + 1, bases, bytes_)):  # fmt: skip
            line = "\t".join(map(str, (name, *changed)))
            (tmp_path / "x.fa.fai").write_text("\n".join([line, *rest]) + "\n")
            with pytest.raises(NexVarError, match=r"stale|not a \.fai line"):
                Fasta(path)


def test_an_index_gone_stale_never_yields_wrong_sequence(tmp_path, monkeypatch):
    """Whatever is done to a FASTA after it was indexed: the right bases, or an error."""
    monkeypatch.setattr(fasta_module, "TRUST_FAI_ABOVE", 0)
    original = {f"chr{i}": "".join(random.Random(i).choices("ACGT", k=300 + 17 * i)) for i in range(4)}
    old, path = tmp_path / "old.fa", tmp_path / "x.fa"
    old.write_bytes(layout(original))
    pysam.faidx(str(old))
    fai = (tmp_path / "old.fa.fai").read_bytes()
    changes = [
        layout({f"{n}x": s for n, s in original.items()}),
        layout(dict(reversed(original.items()))),
        layout({n: s for n, s in original.items() if n != "chr2"}),
        layout(original | {"chr1": original["chr1"][:-1]}),
        layout(original | {"chr1": "T" + original["chr1"]}),
        layout(original, width=50),
        layout(original, newline="\r\n"),
        layout(original)[:-100],
        layout(original).replace(b" some text", b"", 1),
        layout(original | {"chr9": "ACGT"}),
    ]
    for data in changes:
        path.write_bytes(data)
        (tmp_path / "x.fa.fai").write_bytes(fai)
        with pytest.raises(NexVarError, match="stale"):
            Fasta(path)


def test_a_file_that_shrinks_while_open_is_noticed(tmp_path):
    path = tmp_path / "x.fa"
    path.write_bytes(layout(SEQUENCES))
    genome = Fasta(path)
    path.write_bytes(layout(SEQUENCES)[:1000])
    with pytest.raises(NexVarError, match="not where the index says"):
        genome.fetch("chr1", 50_000, 50_100)


def test_a_fai_is_not_written_beside_the_file(tmp_path):
    (tmp_path / "x.fa").write_bytes(layout(SEQUENCES))
    Fasta(tmp_path / "x.fa")
    assert [p.name for p in tmp_path.iterdir()] == ["x.fa"]


# -- names --


def genome_with(tmp_path, *names: str, **options) -> Fasta:
    path = tmp_path / "names.fa"
    path.write_text("".join(f">{name}\nACGTACGTAC\n" for name in names))
    return Fasta(path, **options)


@pytest.mark.parametrize(
    ("has", "asked", "contig", "rule"),
    [
        ("chr17", "chr17", "chr17", "exact"),
        ("chr17", "17", "chr17", "chr prefix added"),
        ("17", "chr17", "17", "chr prefix removed"),
        ("HLA-A*01:01", "HLA-A*01:01", "HLA-A*01:01", "exact"),
    ],
)
def test_names_are_resolved_and_the_rule_is_told(has, asked, contig, rule, tmp_path):
    genome = genome_with(tmp_path, "other", has)
    assert genome.resolve(asked) == (contig, rule)


@pytest.mark.parametrize("asked", ["chr9", "9", "", "chr", "NC_000017.9", "NC_000099.1", "chr1 ", "CHR17"])
def test_unknown_names_are_unknown(asked, tmp_path):
    assert genome_with(tmp_path, "chr17", "chrM").resolve(asked) is None


def test_synonyms_work_in_both_directions(tmp_path):
    table = tmp_path / "synonyms.tsv"
    table.write_text("# RefSeq\tUCSC\nNC_1\tchr1\nchrTwo\tNC_2\n")
    genome = genome_with(tmp_path, "chr1", "chrTwo", "17", synonyms=table)
    assert genome.resolve("NC_1") == ("chr1", "synonym table")
    assert genome.resolve("NC_2") == ("chrTwo", "synonym table")
    assert genome_with(tmp_path, "17", synonyms={"seventeen": "chr17"}).resolve("seventeen").contig == "17"


@pytest.mark.parametrize("name", SYNONYM_CASES)
def test_malformed_synonym_tables_are_refused(name, tmp_path):
    path = SYNONYM_CASES[name].write(tmp_path, name)
    with pytest.raises(NexVarError) as caught:
        read_synonyms(path)
    SYNONYM_CASES[name].check(str(caught.value), path)


# -- coordinates --


def test_circular_contigs_wrap(tmp_path):
    path = tmp_path / "m.fa"
    path.write_bytes(layout(SEQUENCES))
    genome, whole = Fasta(path, circular=["chrM"]), SEQUENCES["chrM"]
    assert genome.fetch("chrM", 990, 1005) == whole[990:] + whole[:8]
    assert genome.fetch("chrM", -7, 3) == whole[-7:] + whole[:3]
    assert genome.fetch("chrM", 400, 400 + 997) == whole[400:] + whole[:400]
    with pytest.raises(NexVarError, match="one turn"):
        genome.fetch("chrM", 0, 998)
    with pytest.raises(NexVarError, match="outside"):
        genome.fetch("chr1", -1, 5)
    with pytest.raises(NexVarError, match="circular contig"):
        Fasta(path, circular=["plasmid"])


def test_a_region_record_answers_in_chromosome_coordinates(tmp_path):
    path = tmp_path / "slice.fa"
    path.write_text(">chr17:101-110 hg19\nACGTTGCAAC\n>chr5:1-3\nACGTA\n>x:1-4\nACGT\n>x:5-8\nACGT\n")
    genome = Fasta(path)
    assert genome.resolve("17") == ("chr17", "chr prefix added, region chr17:101-110")
    assert genome.span("chr17") == (100, 110)
    assert genome.fetch("chr17", 100, 104) == "ACGT"
    assert genome.resolve("chr5") is None  # its length is not what its name says
    assert genome.resolve("x:1-4") == ("x:1-4", "exact")
    with pytest.raises(NexVarError, match="outside"):
        genome.fetch("chr17", 99, 104)


def test_of_several_slices_the_one_that_holds_the_interval_answers(tmp_path):
    whole = random.Random(8).choices("ACGT", k=1000)
    pieces = [(100, 200), (150, 400), (600, 700)]
    path = tmp_path / "slices.fa"
    path.write_text("".join(f">chr17:{a + 1}-{b}\n{''.join(whole[a:b])}\n" for a, b in pieces) + ">chr1\nACGT\n")
    genome = Fasta(path)
    assert genome.resolve("17") == ("chr17", "chr prefix added, 3 regions")
    assert genome.spans("chr17") == pieces
    assert (genome.span("chr17", 190, 195), genome.span("chr17", 110, 120)) == ((150, 400), (100, 200))
    assert genome.span("chr17", 650, 651) == (600, 700)
    assert genome.span("chr17", 160, 170) == (100, 200)  # of two, the one with more room around it
    for start in range(100, 700):
        for end in (start + 1, start + 30, start + 120):
            inside = any(a <= start and end <= b for a, b in pieces)
            if inside:
                assert genome.fetch("chr17", start, end) == "".join(whole[start:end])
            else:
                with pytest.raises(NexVarError, match="outside of 101-200, 151-400, 601-700"):
                    genome.fetch("chr17", start, end)
    with pytest.raises(NexVarError, match="3 pieces"):
        genome.span("chr17")
    assert b"".join(genome.pieces("chr17")).decode() == "".join("".join(whole[a:b]) for a, b in pieces)
    with pytest.raises(NexVarError, match="circular"):
        genome.set_circular("chr17")


def test_interval_and_variant():
    assert (str(Interval("chr1", 0, 10)), len(Interval("chr1", 0, 10))) == ("chr1:1-10", 10)
    assert str(Variant("chr1", 9, "A", ("C", "G"))) == "chr1:10A>C,G"
    for start, end in ((5, 5), (6, 5), (-1, 5)):
        with pytest.raises(NexVarError, match="interval"):
            Interval("chr1", start, end)


@given(st.text("ACGTNRYSWKMBDHVacgtnryswkmbdhv"))
def test_reverse_complement_is_an_involution(sequence):
    twice = reverse_complement(reverse_complement(sequence))
    assert twice == sequence
    sets = {"R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC", "B": "CGT", "D": "AGT", "H": "ACT",
            "V": "ACG", "N": "ACGT", **{b: b for b in "ACGT"}}  # fmt: skip
    pair = dict(zip("ACGT", "TGCA", strict=True))
    for a, b in zip(sequence.upper(), reverse_complement(sequence).upper()[::-1], strict=True):
        assert {pair[x] for x in sets[a]} == set(sets[b])


# -- fuzz --


@given(st.integers(0, 2**32).map(random.Random), st.sampled_from([".fa", ".fa.gz"]), st.booleans())
def test_random_edits_give_sequence_or_one_error(tmp_path, rng, ending, trust):
    """2,000 edits of a valid file and its index: success or NexVarError, nothing else; what is read are letters."""
    path = tmp_path / f"fuzz{ending}"
    for _ in range(80):
        data = bytearray(WITH_FAI if ending == ".fa" else bgzip(WITH_FAI, 20))
        fai = bytearray(FAI)
        for target in rng.choice(((data,), (fai,), (data, fai))):
            edit(target, rng)
        path.write_bytes(data)
        (tmp_path / f"fuzz{ending}.fai").write_bytes(fai)
        with pytest.MonkeyPatch.context() as patch:
            if trust:
                patch.setattr(fasta_module, "TRUST_FAI_ABOVE", 0)
            try:
                genome = Fasta(path)
                for contig, size in genome.contigs.items():
                    read = genome.fetch(contig, 0, size)
                    assert len(read) == size
                    assert set(read) <= set("ACGTNRYSWKMBDHV")
            except NexVarError as error:
                assert "\n" not in str(error)


def test_the_scan_counts_lines_right(tmp_path):
    """The line in the message is the line of the bad letter, wherever it stands."""
    lines = [">c", *["ACGTACGT"] * 3000, ">d", *["ACGT"] * 3000]
    starts = list(accumulate((len(line) + 1 for line in lines), initial=0))
    good = bytearray("\n".join(lines).encode())
    for line in (2, 5, 2500, 2999, 3003, 5999):
        data = bytearray(good)
        data[starts[line - 1] + 1 : starts[line - 1] + 2] = b"#"
        (tmp_path / "x.fa").write_bytes(data)
        with pytest.raises(NexVarError, match=f"x.fa:{line}: "):
            Fasta(tmp_path / "x.fa")


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_pieces_are_the_whole_contig_in_upper_case(tmp_path, ending):
    (tmp_path / "ref.fa").write_bytes(f">a{ending}acgt{ending}NN{ending}>chr2:11-16{ending}ACGTac{ending}".encode())
    fasta = Fasta(tmp_path / "ref.fa")
    assert b"".join(fasta.pieces("a")) == b"ACGTNN"
    assert b"".join(fasta.pieces("chr2")) == b"ACGTAC"

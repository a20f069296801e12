"""Windows: the invariants of the coordinate arithmetic, and a status for whatever has no window."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nexvar.errors import NexVarError
from nexvar.genome.reference import Fasta, Variant, reverse_complement
from nexvar.genome.windows import Status, Windows, allele_windows, join_edits, make_windows
from toy_genome import random_bases, write_fasta

CONTIG = random_bases(200, seed=11)
WITH_N = CONTIG[:50].lower() + "N" + CONTIG[51:60] + "R" + CONTIG[61:]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("windows") / "x.fa"
    return write_fasta(path, chr1=CONTIG, ring=CONTIG, chrN=WITH_N, **{"chr9:1001-1200": CONTIG})


@pytest.fixture(scope="module")
def genome(path):
    return Fasta(path, circular=["ring"])


def bases(size):
    return st.text("ACGT", min_size=1, max_size=size)


@st.composite
def alleles(draw, longest=30):
    """(pos, ref, alt, window) on a contig of 200."""
    window = draw(st.sampled_from([2, 3, 16, 17, 64, 100, 199, 200, 201, 500]))
    pos = draw(st.integers(0, len(CONTIG) - 1))
    ref = CONTIG[pos : pos + draw(st.integers(1, longest))]
    alt = draw(bases(longest))
    return pos, ref, alt, window


@given(alleles())
@example((0, CONTIG[0], "TTTTTTTT", 16))
@example((199, CONTIG[199], CONTIG[199] + "ACGT", 64))
@example((190, CONTIG[190:200], CONTIG[190], 64))
@example((180, CONTIG[180:200], CONTIG[180], 500))
def test_the_windows_are_cut_from_the_genome_and_the_edited_genome(genome, drawn):
    pos, ref, alt, window = drawn
    w = allele_windows(genome, "chr1", pos, ref, alt, window)
    if ref == alt:
        assert w.status is Status.SAME_AS_REF
        return
    if max(len(ref), len(alt)) > window // 2:
        assert w.status is Status.TOO_LONG
        return
    if w.status is Status.TOO_LONG:  # only where the contig itself is too short
        assert len(CONTIG) < window or len(CONTIG) + len(alt) - len(ref) < window
        return
    edited = CONTIG[:pos] + alt + CONTIG[pos + len(ref) :]
    size = min(window, len(CONTIG), len(edited))
    assert len(w.ref_seq) == len(w.alt_seq) == size == w.end - w.start
    # the reference window is a piece of the contig, the alternative window a piece of the edited contig
    assert CONTIG[w.start : w.end] == w.ref_seq
    assert edited[w.alt_start : w.alt_start + size] == w.alt_seq
    # both hold their allele, where they say
    assert w.ref_seq[slice(*w.ref_site)] == ref
    assert w.alt_seq[slice(*w.alt_site)] == alt
    assert w.start + w.ref_site[0] == w.alt_start + w.alt_site[0] == pos
    # [p - window/2, p + window/2), shifted where the contig ends; and EDGE says so, of either strand
    wanted, deleted = pos - window // 2, max(0, len(ref) - len(alt))
    inside = wanted - deleted >= 0 and wanted + window + deleted <= len(CONTIG) and size == window
    assert w.status is (Status.OK if inside else Status.EDGE)
    if size == window:
        assert w.start == min(max(wanted, 0), len(CONTIG) - window)
    if len(ref) == len(alt):
        assert w.start == w.alt_start
        assert w.ref_site == w.alt_site
    elif wanted >= 0 and wanted + window + max(0, len(ref) - len(alt)) <= len(CONTIG):
        assert w.start == w.alt_start, "away from the contig's end only the right edge moves"


@given(alleles(), st.integers(0, 199))
def test_a_circle_has_no_beginning(genome, path, drawn, turn):
    """Rotating a circular contig rotates coordinates and changes no window."""
    pos, ref, alt, window = drawn
    rotated_path = write_fasta(path.with_name(f"rotated{turn}.fa"), ring=CONTIG[turn:] + CONTIG[:turn])
    rotated = Fasta(rotated_path, circular=["ring"])
    a = allele_windows(genome, "ring", pos, ref, alt, window)
    b = allele_windows(rotated, "ring", (pos - turn) % 200, ref, alt, window)
    assert (a.status, a.ref_seq, a.alt_seq, a.ref_site, a.alt_site) == (
        b.status, b.ref_seq, b.alt_seq, b.ref_site, b.alt_site
    )  # fmt: skip
    if a.status.scored:
        assert a.status is Status.OK
        assert b.start == (a.start - turn) % 200
        assert a.ref_seq == ((CONTIG * 3)[a.start : a.start + len(a.ref_seq)])
        if window <= 200 and len(ref) == len(alt):
            assert a.ref_site[0] == window // 2
        edited = CONTIG[:pos] + alt + CONTIG[pos + len(ref) :]
        assert a.alt_seq in edited * 3
        assert len(a.alt_seq) == len(a.ref_seq) == min(window, 200, len(edited))


def test_the_published_definition(genome):
    """seq[p-4096:p+4096] with p 0-based, in small: window 16 around p = 100."""
    w = allele_windows(genome, "chr1", 100, CONTIG[100], "A" if CONTIG[100] != "A" else "C", 16)
    assert w.ref_seq == CONTIG[92:108]
    assert w.ref_site == (8, 9)
    assert (w.start, w.end, w.status, w.rule) == (92, 108, Status.OK, "exact")


def test_left_puts_the_site_elsewhere(genome):
    """Protocols whose site is not at window // 2 (PlantCAD: base 255 of 512)."""
    w = allele_windows(genome, "chr1", 100, CONTIG[100], "A" if CONTIG[100] != "A" else "C", 16, left=7)
    assert (w.start, w.ref_site) == (93, (7, 8))
    for window, left in ((1, None), (0, None), (16, 16), (16, -1)):
        with pytest.raises(NexVarError, match="window"):
            allele_windows(genome, "chr1", 100, "A", "C", window, left=left)


@given(alleles())
def test_the_other_strand(genome, drawn):
    pos, ref, alt, window = drawn
    w = allele_windows(genome, "chr1", pos, ref, alt, window)
    r = w.reverse()
    assert r.reverse() == w
    if len(ref) == len(alt):
        assert r.alt_seq == reverse_complement(w.alt_seq)
    if w.status.scored:
        assert r.ref_seq[slice(*r.ref_site)] == reverse_complement(ref)
        assert r.alt_seq[slice(*r.alt_site)] == reverse_complement(alt)


@st.composite
def placed(draw):
    """(pos, ref, alt, window, left) of alleles that fit, on a contig of 200, which is longer than the window."""
    window = draw(st.integers(8, 150))
    pos = draw(st.integers(0, len(CONTIG) - 1))
    ref = CONTIG[pos : pos + draw(st.integers(1, min(window // 2, 50)))]
    alt = draw(bases(min(window // 2, 50)))
    return pos, ref, alt, window, draw(st.integers(0, window - 1))


@given(placed())
@example((100, CONTIG[100], "TTTT", 8, 7))
@example((0, CONTIG[:4], "T", 8, 4))
@example((196, CONTIG[196:], "T", 8, 0))
@example((30, CONTIG[30], "TTTT", 8, 0))
@pytest.mark.parametrize("contig", ["chr1", "ring"])
def test_the_windows_of_the_other_strand_are_those_of_the_reverse_complement(genome, path, contig, drawn):
    """With the reference window in the same place, whatever edge moves for the alternative."""
    pos, ref, alt, window, left = drawn
    turned_path = path.with_name("turned.fa")
    if not turned_path.exists():
        write_fasta(turned_path, chr1=reverse_complement(CONTIG), ring=reverse_complement(CONTIG))
    turned = Fasta(turned_path, circular=["ring"])
    w = allele_windows(genome, contig, pos, ref, alt, window, left=left)
    other = allele_windows(
        turned, contig, len(CONTIG) - pos - len(ref), reverse_complement(ref), reverse_complement(alt), window,
        left=max(0, window - left - len(ref)),
    )  # fmt: skip
    assert w.status.scored or ref == alt
    assert w.status is other.status
    for one, two in ((w.reverse(), other), (w, other.reverse())):
        assert (one.ref_seq, one.ref_site) == (two.ref_seq, two.ref_site)
        assert (one.alt_seq, one.alt_site) == (two.alt_seq, two.alt_site)


@st.composite
def anchored(draw):
    """(pos, ref, alt, window, left, stride), on a contig of 200, which may be shorter than the window."""
    pos, ref, alt, window = draw(alleles())
    left = draw(st.integers(0, window - 1))
    return pos, ref, alt, window, left, draw(st.integers(1, window - left))


@given(anchored())
@example((5, CONTIG[5:8], CONTIG[7], 500, 1, 400))
@example((9, CONTIG[9:12], "TT", 201, 11, 34))
@pytest.mark.parametrize("contig", ["chr1", "ring"])
def test_each_strand_has_its_own_anchors_and_they_are_those_of_the_reverse_complement(genome, path, contig, drawn):
    pos, ref, alt, window, left, stride = drawn
    turned_path = path.with_name("anchored.fa")
    if not turned_path.exists():
        write_fasta(turned_path, chr1=reverse_complement(CONTIG), ring=reverse_complement(CONTIG))
    w = allele_windows(genome, contig, pos, ref, alt, window, left=left, stride=stride)
    other = allele_windows(
        Fasta(turned_path, circular=["ring"]), contig, len(CONTIG) - pos - len(ref), reverse_complement(ref),
        reverse_complement(alt), window, left=left, stride=stride,
    )  # fmt: skip
    assert w.status is other.status
    for one, two in ((w, other.reverse()), (w.reverse(), other)):
        assert (one.ref_seq, one.ref_site) == (two.ref_seq, two.ref_site)
        assert (one.alt_seq, one.alt_site) == (two.alt_seq, two.alt_site)
    fits = left + len(ref) + stride <= window <= len(CONTIG) - 30
    if w.status is Status.OK and fits:
        assert w.start % stride == 0 and left <= w.ref_site[0] < left + stride


def test_a_circle_that_is_shorter_than_the_window_has_anchors_of_its_own(genome):
    """200 bases, windows of 400 with 100 before the allele and a stride of 80: as 200, 50 and 40."""
    starts = []
    for pos, base in enumerate(CONTIG):
        alt = "A" if base != "A" else "C"
        starts.append(allele_windows(genome, "ring", pos, base, alt, 400, left=100, stride=80).start)
    assert starts == [(pos - 50) % 200 // 40 * 40 for pos in range(200)]


@given(placed())
@example((100, CONTIG[100], "TTTT", 8, 7))
def test_a_circle_is_a_line_where_no_end_is_near(genome, path, drawn):
    """Also where the alternative does not fit behind ``left`` bases: both shift, neither refuses."""
    pos, ref, alt, window, left = drawn
    long_path = path.with_name("long.fa")
    if not long_path.exists():
        write_fasta(long_path, chr1=CONTIG * 3)
    line = allele_windows(Fasta(long_path), "chr1", pos + 200, ref, alt, window, left=left)
    circle = allele_windows(genome, "ring", pos, ref, alt, window, left=left)
    assert line.status is circle.status
    for one, two in ((line, circle), (line.reverse(), circle.reverse())):
        assert (one.ref_seq, one.alt_seq, one.ref_site, one.alt_site) == (
            two.ref_seq, two.alt_seq, two.ref_site, two.alt_site
        )  # fmt: skip


def test_the_far_edge_of_an_indel_moves_on_either_strand(genome):
    """Both alleles are read behind the same bases."""
    for alt in (CONTIG[100], CONTIG[100:104] + "GG"):
        w = allele_windows(genome, "chr1", 100, CONTIG[100:104], alt, 32)
        for strand in (w, w.reverse()):
            before = strand.ref_site[0]
            assert before == strand.alt_site[0] and strand.ref_seq[:before] == strand.alt_seq[:before]


@pytest.mark.parametrize("end", [0, 199])
def test_indels_at_the_contigs_ends(genome, end):
    """The left edge moves on the right end; nothing is padded, both windows stay 32 long."""
    ref = CONTIG[end]
    w = allele_windows(genome, "chr1", end, ref, ref + "GG", 32)
    assert w.status is Status.EDGE
    assert (w.start, w.alt_start) == ((0, 0) if end == 0 else (168, 170))
    assert w.alt_seq == (ref + "GG" + CONTIG[1:30] if end == 0 else CONTIG[170:] + "GG")
    start = max(0, end - 3)
    ref = CONTIG[start : start + 4]
    w = allele_windows(genome, "chr1", start, ref, ref[0], 32)
    assert w.alt_seq == (CONTIG[0] + CONTIG[4:35] if end == 0 else CONTIG[165:197])


@pytest.mark.parametrize(
    ("chrom", "pos", "ref", "alt", "status"),
    [
        ("chr1", 100, "REF", "*", Status.STAR),
        ("chr1", 100, "REF", ".", Status.MISSING_ALT),
        ("chr1", 100, "REF", "<INS>", Status.SYMBOLIC),
        ("chr1", 100, "REF", "<NON_REF>", Status.SYMBOLIC),
        ("chr1", 100, "REF", "<DEL>", Status.SYMBOLIC),  # without END
        ("chr1", 100, "REF", "G]chr1:5]", Status.SYMBOLIC),
        ("chr1", 100, "REF", ".A", Status.SYMBOLIC),
        ("chr2", 100, "A", "C", Status.UNKNOWN_CONTIG),
        ("chr1", 200, "A", "C", Status.OUT_OF_RANGE),
        ("chr1", 10**12, "A", "C", Status.OUT_OF_RANGE),
        ("chr1", -1, "A", "C", Status.OUT_OF_RANGE),
        ("chr1", 199, CONTIG[199] + "A", "C", Status.OUT_OF_RANGE),
        ("chr1", 100, "REF", "N", Status.N_AT_SITE),
        ("chr1", 100, "REF", "R", Status.N_AT_SITE),
        ("chr1", 100, "N", "A", Status.N_AT_SITE),
        ("chrN", 50, "A", "C", Status.N_AT_SITE),
        ("chrN", 60, "A", "C", Status.N_AT_SITE),
        ("chrN", 49, WITH_N[49].upper() + "N", "C", Status.N_AT_SITE),
        ("chr1", 100, "MISMATCH", "A", Status.REF_MISMATCH),
        ("chr1", 100, "REF", "REF", Status.SAME_AS_REF),
        ("chr1", 100, "REF", "ref", Status.SAME_AS_REF),
        ("chr1", 100, "REF", "A" * 33, Status.TOO_LONG),
        ("chr1", 100, CONTIG[100:133], "A", Status.TOO_LONG),
    ],
)
def test_what_has_no_window_has_a_status(genome, chrom, pos, ref, alt, status):
    here = CONTIG[100]
    other = "C" if here != "C" else "G"
    ref = {"REF": here, "MISMATCH": other}.get(ref, ref)
    alt = {"REF": here, "ref": here.lower()}.get(alt, alt)
    w = allele_windows(genome, chrom, pos, ref, alt, 64)
    assert (w.status, w.ref_seq, w.n_fraction) == (status, "", 0.0)
    assert not w.status.scored
    if status is Status.REF_MISMATCH:
        assert here in w.detail


def test_soft_masked_reference_and_lower_case_alleles_are_upper_case(genome):
    alt = "A" if WITH_N[30].upper() != "A" else "C"
    w = allele_windows(genome, "chrN", 30, WITH_N[30], alt.lower(), 64)
    assert w.status is Status.EDGE
    assert w.ref_seq == WITH_N[:64].upper()
    assert w.alt_seq[30] == alt
    assert w.n_fraction == 2 / 64


def test_region_records_end_where_they_end(genome):
    """A FASTA that holds chr9:1001-1200 only: windows shift at its ends, positions are the chromosome's."""
    alt = "A" if CONTIG[5] != "A" else "C"
    w = allele_windows(genome, "9", 1005, CONTIG[5], alt, 64)
    assert (w.status, w.start, w.ref_seq, w.ref_site) == (Status.EDGE, 1000, CONTIG[:64], (5, 6))
    assert allele_windows(genome, "chr9", 999, "A", "C", 64).status is Status.OUT_OF_RANGE
    assert allele_windows(genome, "chr9", 1200, "A", "C", 64).status is Status.OUT_OF_RANGE


@pytest.mark.parametrize("kind", ["DEL", "DUP", "INV", "DUP:TANDEM", "del"])
def test_symbolic_events_are_made_explicit(genome, kind):
    """POS is the base before the event, END its last base (1-based)."""
    pos, end = 99, 110
    event = CONTIG[pos + 1 : end]
    w = allele_windows(genome, "chr1", pos, CONTIG[pos], f"<{kind}>", 64, end=end)
    middle = {"DEL": "", "DUP": event * 2, "INV": reverse_complement(event)}[kind.split(":")[0].upper()]
    edited = CONTIG[: pos + 1] + middle + CONTIG[end:]
    assert w.status is Status.OK
    assert w.alt_seq == edited[w.alt_start : w.alt_start + 64]
    assert allele_windows(genome, "chr1", pos, CONTIG[pos], f"<{kind}>", 64, end=201).status is Status.OUT_OF_RANGE
    assert allele_windows(genome, "chr1", pos, CONTIG[pos], f"<{kind}>", 16, end=end).status is Status.TOO_LONG
    wrong = "A" if CONTIG[pos] != "A" else "C"
    assert allele_windows(genome, "chr1", pos, wrong, f"<{kind}>", 64, end=end).status is Status.REF_MISMATCH


def test_one_window_per_alt_in_order(genome):
    here = CONTIG[100]
    alts = (*(b for b in "ACGT" if b != here), "*", f"{here}TT")
    found = make_windows(genome, Variant("chr1", 100, here, alts), 32)
    assert [w.status for w in found] == [Status.OK] * 3 + [Status.STAR, Status.OK]
    assert len({w.ref_seq for w in found if w.status.scored}) == 1


@given(st.lists(st.tuples(st.integers(0, 190), st.integers(1, 5), bases(5)), min_size=1, max_size=6))
def test_a_haplotype_is_all_its_edits_at_once(genome, drawn):
    edits, at, edited = [], 0, CONTIG
    for pos, length, alt in sorted(drawn):
        if pos >= at:
            edits.append((pos, CONTIG[pos : pos + length], alt))
            at = pos + length
    for pos, ref, alt in reversed(edits):
        edited = edited[:pos] + alt + edited[pos + len(ref) :]
    joined = join_edits(genome, "chr1", reversed(edits))
    assert CONTIG[joined.pos0 : joined.pos0 + len(joined.ref)] == joined.ref
    assert CONTIG[: joined.pos0] + joined.alts[0] + CONTIG[joined.pos0 + len(joined.ref) :] == edited


def test_edits_that_cannot_be_joined(genome):
    with pytest.raises(NexVarError, match="overlap"):
        join_edits(genome, "chr1", [(5, CONTIG[5:8], "A"), (7, CONTIG[7], "A")])
    with pytest.raises(NexVarError, match="assembly"):
        join_edits(genome, "chr1", [(5, "A" if CONTIG[5] != "A" else "C", "G")])
    for chrom, edits in (("chr2", [(5, "A", "C")]), ("chr1", []), ("chr1", [(199, CONTIG[199] + "A", "C")])):
        with pytest.raises(NexVarError):
            join_edits(genome, chrom, edits)


@given(st.integers(-10, 300), st.text("ACGTNRacgt", min_size=1, max_size=40),
       st.sampled_from(["chr1", "1", "ring", "chrN", "chr9", "x"]),
       st.one_of(st.text("ACGTNacgt", min_size=1, max_size=60), st.sampled_from(["<DEL>", "<DUP>", "<INV>", "*", "."])),
       st.integers(2, 300), st.one_of(st.none(), st.integers(-5, 400)))  # fmt: skip
def test_no_variant_raises(genome, pos, ref, chrom, alt, window, end):
    w = allele_windows(genome, chrom, pos, ref, alt, window, end=end)
    assert isinstance(w, Windows)
    assert len(w.ref_seq) == len(w.alt_seq)
    assert bool(w.ref_seq) == w.status.scored
    assert 0 <= w.n_fraction <= 1


def test_a_large_allele_costs_nothing(genome):
    assert allele_windows(genome, "chr1", 100, CONTIG[100], "A" * 10_000_000, 64).status is Status.TOO_LONG
    assert allele_windows(genome, "chr1", 100, CONTIG[100], "<DEL>", 64, end=10**10).status is Status.OUT_OF_RANGE

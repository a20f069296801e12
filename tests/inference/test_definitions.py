"""Every readout is its definition, on both strands; and a variant reads the same on either strand of a genome."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import slow_readouts as slow
from nexvar.errors import NexVarError
from nexvar.evals import demo
from nexvar.genome.reference import Fasta, Variant, reverse_complement
from nexvar.genome.windows import allele_windows
from nexvar.inference import scorers
from nexvar.inference.core.batching import Tally
from nexvar.inference.core.likelihood import FORWARD_TOKENS
from nexvar.inference.options import Options
from nexvar.inference.score import score_alleles
from nexvar.runs.rows import score_variants
from nexvar.tokenizers import ByteTokenizer, CharacterTokenizer, KmerTokenizer, Ntv3Tokenizer, OneHotTokenizer
from nexvar.weights.load import load
from tiny import tiny_loaded
from tiny_masked import tiny_masked

# a repeat of one base, one of three, and a palindrome, where alleles can stand in several places
GENOME = (
    "".join(random.Random(3).choices("ACGT", k=60))
    + "AAAAAAAAGATTACAGATCGATC"
    + "CAGCAGCAGCAGCAGT"
    + "".join(random.Random(4).choices("ACGT", k=61))
)
SIZE = len(GENOME)
CAUSAL, BEGINS = tiny_loaded(), tiny_loaded(bos_id=0)
BASES, KMERS = tiny_masked(), tiny_masked("kmer")
TOKENIZERS = {"base": BASES, "kmer": KMERS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("genomes")
    (path / "ref.fa").write_text(f">chr1\n{GENOME}\n>ring\n{GENOME}\n")
    turned = reverse_complement(GENOME)
    (path / "turned.fa").write_text(f">chr1\n{turned}\n>ring\n{turned}\n")
    return path


def bpe():
    pytest.importorskip("tokenizers")
    return TOKENIZERS.setdefault("bpe", tiny_masked("bpe"))


@st.composite
def variants(draw):
    """(pos, ref, alt, window, left): SNVs, MNVs, insertions, deletions, copies of what is there; also at the ends."""
    window = draw(st.integers(24, 90))
    pos = draw(st.one_of(st.integers(0, SIZE - 1), st.integers(0, 3), st.integers(SIZE - 4, SIZE - 1)))
    ref = GENOME[pos : pos + draw(st.integers(1, 12))]
    kind = draw(st.sampled_from(["any", "same length", "copy", "first base"]))
    if kind == "same length":
        alt = draw(st.text("ACGT", min_size=len(ref), max_size=len(ref)))
    elif kind == "copy":
        alt = ref + ref[-draw(st.integers(1, len(ref))) :]
    elif kind == "first base":
        alt = ref[0]
    else:
        alt = draw(st.text("ACGT", min_size=1, max_size=12))
    alt = alt[:12]
    if alt == ref:
        alt = ("C" if ref[0] != "C" else "G") + ref[1:]
    return pos, ref, alt, window, draw(st.integers(0, window - 1))


def score(loaded, path, contig, pos, ref, alt, window, left, **options):
    """({readout: (forward, reverse)}, windows) of one allele."""
    fasta = Fasta(path, circular=["ring"])
    settings = Options(window=window, left=left, **options).resolve(loaded)
    ((_, (found,)),) = score_alleles(loaded, [(None, Variant(contig, pos, ref, (alt,)))], fasta, settings, Tally())
    assert found.windows.status.scored
    return found.values, allele_windows(fasta, contig, pos, ref, alt, window, left=left)


def close(found, expected, scale=1.0):
    assert found == pytest.approx(expected, abs=2e-4 * scale, rel=2e-4)


BESIDE_A_REPEAT = (59, GENOME[59], GENOME[59] + "A", 64, 32)  # another A of eight, put before them
SHORTER_REPEAT = (83, "CAGC", "C", 64, 32)
AT_THE_END = (SIZE - 4, GENOME[-4:], GENOME[-4], 40, 20)
AT_THE_BEGINNING = (0, GENOME[:4], GENOME[0], 40, 20)


# -- definitions ----------------------------------------------------------------------------------------------------


@given(variants(), st.integers(0, 40), st.sampled_from([("site",), scorers.LIKELIHOOD]), st.booleans(), st.booleans())
@example(BESIDE_A_REPEAT, 0, ("site",), True, False)
@example(SHORTER_REPEAT, 0, ("site",), True, False)
@example(AT_THE_END, 5, ("site",), True, False)
@example(AT_THE_BEGINNING, 5, ("site",), True, False)
@example((70, GENOME[70], "ACGTACGT", 24, 0), 3, ("site",), True, False)
def test_a_readout_of_a_causal_model_is_its_definition(folder, drawn, span, readouts, share, begins):
    loaded = BEGINS if begins else CAUSAL
    values, w = score(loaded, folder / "ref.fa", "chr1", *drawn, readouts=readouts, span=span, share=share)
    for strand, windows in enumerate((w, w.reverse())):
        expected = slow.causal(loaded, windows, span, (0,) if begins else ())
        for name in readouts:
            close(values[name][strand], expected[name])


@given(variants(), st.integers(0, 9))
@example(BESIDE_A_REPEAT, 0)
@example(SHORTER_REPEAT, 2)
@example((60, GENOME[60:72], "C" + GENOME[61:71] + "C", 64, 32), 0)
@pytest.mark.parametrize("tokenizer", ["base", "kmer", "bpe"])
def test_a_readout_of_a_masked_model_is_its_definition(folder, tokenizer, drawn, span):
    loaded = bpe() if tokenizer == "bpe" else TOKENIZERS[tokenizer]
    values, w = score(loaded, folder / "ref.fa", "chr1", *drawn, readouts=scorers.MASKED, span=span)
    for strand, windows in enumerate((w, w.reverse())):
        expected = slow.masked(loaded, windows, span)
        for name in scorers.MASKED:
            close(values[name][strand], expected[name])


@given(variants(), st.sampled_from(["mean", "max", "last", "site", "site+3", "site+200", "flat"]))
@example(AT_THE_END, "site+200")
@example(AT_THE_BEGINNING, "site+200")
@pytest.mark.parametrize("tokenizer", ["base", "kmer", "bpe"])
def test_a_distance_is_its_definition(folder, tokenizer, drawn, pool):
    loaded = bpe() if tokenizer == "bpe" else TOKENIZERS[tokenizer]
    try:
        values, w = score(loaded, folder / "ref.fa", "chr1", *drawn, readouts=scorers.EMBEDDING, pool=pool)
    except NexVarError as error:
        assert pool == "flat" and "cannot be compared flat" in str(error)
        return
    for strand, windows in enumerate((w, w.reverse())):
        for name, value in slow.distances(loaded, windows, pool).items():
            close(values[name][strand], value)


# -- the reverse complement -----------------------------------------------------------------------------------------


@given(variants(), st.sampled_from(["chr1", "ring"]), st.integers(0, 20), st.sampled_from(["mean", "site", "site+6"]))
@example(BESIDE_A_REPEAT, "chr1", 0, "mean")
@example(SHORTER_REPEAT, "ring", 20, "site")
@example(AT_THE_END, "chr1", 3, "site+6")
@example(AT_THE_BEGINNING, "chr1", 3, "site+6")
@pytest.mark.parametrize("model", ["causal", "base", "kmer", "bpe"])
def test_a_variant_of_the_reverse_complement_has_the_strands_swapped(folder, model, drawn, contig, span, pool):
    """Every readout, with the reference window in the same place: behind ``left`` bases of the one strand are
    ``window - left - len(REF)`` of the other."""
    loaded = CAUSAL if model == "causal" else bpe() if model == "bpe" else TOKENIZERS[model]
    ratios = scorers.LIKELIHOOD if model == "causal" else scorers.MASKED
    pos, ref, alt, window, left = drawn
    options = dict(readouts=(*ratios, *scorers.EMBEDDING), span=span, pool=pool)
    values, _ = score(loaded, folder / "ref.fa", contig, pos, ref, alt, window, left, **options)
    other, _ = score(
        loaded, folder / "turned.fa", contig, SIZE - pos - len(ref), reverse_complement(ref), reverse_complement(alt),
        window, max(0, window - left - len(ref)), **options,
    )  # fmt: skip
    for name, (forward, reverse) in values.items():
        close(other[name], (reverse, forward))


# -- what the definitions were made for -----------------------------------------------------------------------------


def test_no_length_of_an_allele_is_favoured_by_counting(folder):
    """Of a model to which every base is as likely as any other, each indel scores 0."""
    loaded = tiny_loaded()
    for parameter in loaded.module.parameters():
        parameter.data.zero_()
    for ref, alt in ((GENOME[70:78], GENOME[70]), (GENOME[70], GENOME[70] + "GGGTTT")):
        values, _ = score(loaded, folder / "ref.fa", "chr1", 70, ref, alt, 64, 32, readouts=("site",), span=5)
        close(values["site"], (0.0, 0.0))


@pytest.mark.parametrize("loaded", [CAUSAL, BASES], ids=["site", "pll"])
def test_where_in_a_repeat_a_file_puts_an_indel_does_not_matter(folder, loaded):
    """The same haplotype, one A fewer of eight, in the same window."""
    readout = "site" if loaded is CAUSAL else "pll"
    first, *others = (
        score(loaded, folder / "ref.fa", "chr1", pos, GENOME[pos : pos + 2], GENOME[pos], 64, 32 + pos - 60,
              readouts=(readout,), span=4)[0][readout]
        for pos in range(60, 66)
    )  # fmt: skip
    for value in others:
        close(value, first)


@pytest.mark.parametrize("readout", ["site", "llr"])
def test_an_indel_shares_its_beginning_on_both_strands(folder, readout):
    fasta, tally = Fasta(folder / "ref.fa"), Tally()
    settings = Options(window=150, left=75, readouts=(readout,), span=4 if readout == "site" else None).resolve(CAUSAL)
    insertion = Variant("chr1", 80, GENOME[80], (GENOME[80] + "TTG", GENOME[80] + "TT"))
    list(score_alleles(CAUSAL, [(None, insertion)], fasta, settings, tally))
    # forward the windows differ from base 76 on, in reverse from base 74
    rest = [3 * 74, 3 * 76] if readout == "llr" else [2 * 7 + 6, 2 * 7 + 6]
    assert tally.computed <= 76 + rest[0] + 74 + rest[1] + FORWARD_TOKENS


def test_two_phased_snvs_mask_two_tokens(folder, tmp_path):
    """What stands unchanged between them is context."""
    other = {"A": "C", "C": "A", "G": "T", "T": "G"}
    a, b = 60, 100
    alt = other[GENOME[a]] + GENOME[a + 1 : b] + other[GENOME[b]]
    values, w = score(BASES, folder / "ref.fa", "chr1", a, GENOME[a : b + 1], alt, 90, 30, readouts=("masked_llr",))
    tokens = BASES.module.tokens
    close(values["masked_llr"][0], slow.masked(BASES, w)["masked_llr"])
    assert BASES.module.tokens > tokens
    ref_ids = BASES.tokenizer.encode(w.ref_seq).ids
    side, _, aligned = scorers.masked.tokens_to_mask(BASES, w)
    assert aligned and side.changed == [30, 70] and side.ids == ref_ids


@pytest.mark.parametrize("span", [0, 8])
def test_the_site_of_an_snv_is_its_base_and_the_span_behind_it(folder, span):
    alt = "C" if GENOME[70] != "C" else "G"
    values, w = score(CAUSAL, folder / "ref.fa", "chr1", 70, GENOME[70], alt, 64, 32, readouts=("site",), span=span)
    assert slow.compared(w, 0, span) == ((32, 33 + span),) * 2
    close(values["site"][0], slow.causal(CAUSAL, w, span)["site"])


@pytest.mark.parametrize("variant", ["chrM:5001A>AACGTTGCAC", "chrM:3501ATCT>A", "chrM:66GGG>G", "chrM:16569G>GAC"])
def test_indels_of_the_built_in_model_are_read_behind_the_same_bases(variant):
    """A copied allele, and a lost codon: what stands before them is no part of either score."""
    loaded = load("nexvar_mito", device="cpu")
    genome = Path(demo.__file__).parents[1] / "data" / "chrM_rCRS.fa"
    (row,) = score_variants(loaded, [variant], genome, Options(window=1024))
    pos, alleles = re.match(r"chrM:([0-9]+)(.*)", variant).groups()
    fasta = Fasta(genome, circular=["chrM"])
    w = allele_windows(fasta, "chrM", int(pos) - 1, *alleles.split(">"), 1024, stride=256)
    for windows, value in ((w, row.llr_fwd), (w.reverse(), row.llr_rev)):
        before = windows.ref_site[0]
        assert windows.ref_seq[:before] == windows.alt_seq[:before]
        assert value == pytest.approx(slow.causal(loaded, windows, loaded.card.span)["site"], abs=2e-3)


@pytest.mark.parametrize(
    "tokenizer",
    [KmerTokenizer(), KmerTokenizer(3, "v1"), Ntv3Tokenizer(), OneHotTokenizer(), ByteTokenizer(),
     *(CharacterTokenizer(kind) for kind in CharacterTokenizer.KINDS), "bpe"],
    ids=lambda tokenizer: tokenizer if tokenizer == "bpe" else type(tokenizer).__name__,
)  # fmt: skip
def test_no_special_token_is_pooled_over_or_masked(tokenizer):
    """However far beyond a window's ends ``site+N`` reaches."""
    tokenizer = bpe().tokenizer if tokenizer == "bpe" else tokenizer
    encoded = tokenizer.encode(GENOME, special=True)
    over = encoded.tokens_over(0, 10 * SIZE)
    assert over == [i for i, id_ in enumerate(encoded.ids) if id_ not in tokenizer.special_ids]
    assert {base for i in over for base in range(*encoded.spans[i])} == set(range(SIZE))

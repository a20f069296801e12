"""Every preset gives the number of its definition, computed one window at a time and without our scorers."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from nexvar import cli
from nexvar.errors import NexVarError
from nexvar.genome.reference import Fasta, reverse_complement
from nexvar.inference.options import Options
from nexvar.inference.scorers import protocols
from nexvar.runs.rows import score_variants
from nexvar.tokenizers import CharacterTokenizer
from tiny import tiny_loaded
from tiny_masked import tiny_masked
from toy_genome import random_bases, write_fasta

SIZE, POS = 140_000, 70_003
GENOME = random_bases(SIZE, seed=5)
REF = GENOME[POS]
ALT = "A" if REF != "A" else "G"
VARIANT = f"chr1:{POS + 1}{REF}>{ALT}"
CAUSAL = tiny_loaded(context=200_000)
HYENA = replace(tiny_loaded(context=1000), tokenizer=CharacterTokenizer("hyenadna"))  # [SEP] behind a sequence
CADUCEUS = replace(tiny_masked(), tokenizer=CharacterTokenizer("caduceus"))
CADUCEUS.module.embed = torch.nn.Embedding(12, 8)
CADUCEUS.module.head = torch.nn.Linear(8, 12)
EVO1 = tiny_loaded(context=200_000, bos_id=0)
MASKED = tiny_masked()
KMERS = tiny_masked("kmer")


@pytest.fixture(scope="module")
def fasta(tmp_path_factory):
    return Fasta(write_fasta(tmp_path_factory.mktemp("genome") / "ref.fa", chr1=GENOME))


def row_of(loaded, fasta, **options):
    (row,) = score_variants(loaded, [VARIANT], fasta, Options(**options))
    return row


# -- the slow way ---------------------------------------------------------------------------------------------------


def windows(size: int, left: int):
    """(reference, alternative, index of the site) on the forward and on the reverse strand."""
    ref = GENOME[POS - left : POS - left + size]
    alt = ref[:left] + ALT + ref[left + 1 :]
    return [(ref, alt, left), (reverse_complement(ref), reverse_complement(alt), size - 1 - left)]


@torch.no_grad()
def log_probs(loaded, sequence, begin=(), only=None):
    """log p of every predicted token, given those before."""
    ids = [*begin, *sequence.encode()]
    logits = loaded.module(torch.tensor([ids])).logits[0].double()
    if only:
        columns = {base: i for i, base in enumerate(only)}
        of = logits[:, list(only)].log_softmax(-1)
        return [float(of[t - 1, columns[ids[t]]]) for t in range(1, len(ids))]
    of = logits.log_softmax(-1)
    return [float(of[t - 1, ids[t]]) for t in range(1, len(ids))]


def mean_ll(loaded, size, begin=()):
    values = []
    for ref, alt, _ in windows(size, size // 2):
        one, two = log_probs(loaded, alt, begin), log_probs(loaded, ref, begin)
        values.append(sum(one) / len(one) - sum(two) / len(two))
    return values


def sum_ll(loaded, size, only=None):
    return [
        sum(log_probs(loaded, alt, only=only)) - sum(log_probs(loaded, ref, only=only))
        for ref, alt, _ in windows(size, size // 2)
    ]


@torch.no_grad()
def masked_base(size, left, mask=True):
    ids = MASKED.tokenizer.ids
    values = []
    for ref, alt, site in windows(size, left):
        row = [ids[base] for base in ref]
        if mask:
            row[site] = ids["<mask>"]
        logits = MASKED.module(torch.tensor([row])).logits[0, site].double().log_softmax(-1)
        values.append(float(logits[ids[alt[site]]] - logits[ids[ref[site]]]))
    return values


@torch.no_grad()
def central_kmer():
    ids = KMERS.tokenizer.ids
    values = []
    for ref, alt, _ in windows(5994, 2997):
        kmers = [[s[i : i + 6] for i in range(0, 5994, 6)] for s in (ref, alt)]
        row = [ids["<cls>"], *(ids[k] for k in kmers[0])]
        row[1 + 499] = ids["<mask>"]
        logits = KMERS.module(torch.tensor([row])).logits[0, 500].double().log_softmax(-1)
        values.append(float(logits[ids[kmers[1][499]]] - logits[ids[kmers[0][499]]]))
    return values


@torch.no_grad()
def hidden(loaded, sequence):
    ids = torch.tensor([loaded.tokenizer.encode(sequence, special=False).ids])
    return loaded.module(ids, taps=(loaded.module.last_hidden,)).taps[loaded.module.last_hidden][0].double()


def distances(loaded, size, left, pooled):
    """{name: [forward, reverse]}; pooled: (hidden states, site) -> a vector."""
    distances = {"cosine": [], "l1": [], "l2": [], "dot": []}
    for ref, alt, site in windows(size, left):
        a, b = pooled(hidden(loaded, ref), site), pooled(hidden(loaded, alt), site)
        distances["cosine"].append(float(1 - (a @ b) / (a.norm() * b.norm())))
        distances["l1"].append(float((a - b).abs().sum()))
        distances["l2"].append(float((a - b).norm()))
        distances["dot"].append(float(a @ b))
    return distances


def mean_over_all(h, site):
    return h.mean(0)


# DART-Eval at af2a86d, task_2_5_single/evaluators.py, in its own order of computation: logits to a cross entropy, sums
# over the tokens from ``start`` to ``end``, which leave special tokens out.


@torch.no_grad()
def cross_entropy(loaded, tokens_in, tokens_out):
    """model_fwd: (L,) log-likelihoods of tokens_out; those of a causal model are shifted by one, the first is 0."""
    logits = loaded.module(torch.tensor([tokens_in])).logits.double().swapaxes(1, 2)
    if loaded.card.objective == "masked":
        return -F.cross_entropy(logits, torch.tensor([tokens_out]), reduction="none")[0]
    lls = torch.zeros(len(tokens_out), dtype=torch.float64)
    lls[1:] = -F.cross_entropy(logits[:, :, :-1], torch.tensor([tokens_out[1:]]), reduction="none")[0]
    return lls


def clipped(loaded, tokens):
    """start and end of what counts: NT has [CLS] and no end, the others no start and [SEP] at the end."""
    ids = loaded.tokenizer
    start = 1 if tokens[0] == getattr(ids, "cls_id", None) else 0
    return start, len(tokens) - (1 if tokens[-1] == getattr(ids, "ids", {}).get("[SEP]") else 0)


def dart_single_token(loaded):
    """VariantSingleTokenLikelihoodEvaluator: one masked input for both alleles."""
    (ref, alt, _), _ = windows(2114, 1057)
    one, two = (loaded.tokenizer.encode(s, special=True).ids for s in (ref, alt))
    mask = loaded.tokenizer.mask_id
    masked = [mask if a != b else a for a, b in zip(one, two, strict=True)]
    start, end = clipped(loaded, one)
    scores = [cross_entropy(loaded, masked, tokens)[start:end].sum() for tokens in (one, two)]
    return [float(scores[1] - scores[0]), 0.0]


def dart_whole(loaded, size, left):
    """ZeroShotVariantEvaluator: every token masked in turn (MaskedZeroShotScore), or nothing (CausalZeroShotScore)."""
    (ref, alt, _), _ = windows(size, left)
    scores = []
    for sequence in (ref, alt):
        tokens = loaded.tokenizer.encode(sequence, special=True).ids
        start, end = clipped(loaded, tokens)
        if loaded.card.objective == "causal":
            scores.append(cross_entropy(loaded, tokens, tokens)[start:end].sum())
            continue
        lls = torch.zeros(len(tokens), dtype=torch.float64)
        for i in range(len(tokens)):
            given = [*tokens[:i], loaded.tokenizer.mask_id, *tokens[i + 1 :]]
            lls[i] = cross_entropy(loaded, given, tokens)[i] * (start <= i < end)
        scores.append(lls.sum())
    return [float(scores[1] - scores[0]), 0.0]


@torch.no_grad()
def hyena_sums():
    """TraitGym's run_vep_llr_hyenadna.py: the loss over all tokens that the tokenizer gives, [SEP] among them."""
    values = []
    for ref, alt, _ in windows(1000, 500):
        sums = [
            -F.cross_entropy(HYENA.module(ids[None]).logits[0, :-1].double(), ids[1:], reduction="sum")
            for ids in (torch.tensor(HYENA.tokenizer.encode(s, special=True).ids) for s in (ref, alt))
        ]
        values.append(float(sums[1] - sums[0]))
    return values


def slow() -> dict[str, tuple[object, dict[str, list[float]], bool]]:
    """name -> model, {column: [forward, reverse]}, whether both strands count."""
    flat = distances(CAUSAL, 8192, 4096, lambda h, site: h.flatten())
    mean = distances(MASKED, 5994, 2997, mean_over_all)
    near = distances(MASKED, 131_072, 65_536, lambda h, site: h[site - 768 : site + 769].mean(0))
    card = distances(MASKED, 8192, 4096, mean_over_all)
    return {
        "evo2-brca1": (CAUSAL, {"LLR": mean_ll(CAUSAL, 8192)}, False),
        "evo2-vep": (CAUSAL, {"LLR": mean_ll(CAUSAL, 8192)}, True),
        "evo1": (EVO1, {"LLR": mean_ll(EVO1, 8192, begin=[0])}, False),
        "traitgym": (
            CAUSAL,
            {"LLR": mean_ll(CAUSAL, 8192), "L2": flat["l2"], "DOT": flat["dot"], "COSINE": flat["cosine"]},
            True,
        ),
        "traitgym-hyenadna": (HYENA, {"LLR": hyena_sums()}, True),
        "bolinas": (CAUSAL, {"LLR": sum_ll(CAUSAL, 8192, only=b"ACGT")}, False),
        "gpn": (MASKED, {"LLR": masked_base(8192, 4096)}, True),
        "nt-kmer": (KMERS, {"LLR": central_kmer()}, True),
        "nt-embedding": (MASKED, {name.upper(): values for name, values in mean.items()}, False),
        "plantcad": (MASKED, {"LLR": masked_base(512, 255)}, False),
        "plantcad2": (MASKED, {"LLR": masked_base(8192, 4095)}, False),
        "caduceus-vep": (MASKED, {"COSINE": near["cosine"], "L2": near["l2"]}, True),
        "noncoding-benchmark": (MASKED, {"COSINE": distances(MASKED, 1024, 512, mean_over_all)["cosine"]}, False),
        "dart-eval": (CADUCEUS, {"LLR": dart_single_token(CADUCEUS)}, False),
        "bend": (MASKED, {"COSINE": distances(MASKED, 513, 256, lambda h, site: h[site])["cosine"]}, False),
        "bend-causal": (CAUSAL, {"COSINE": distances(CAUSAL, 513, 512, lambda h, site: h[-1])["cosine"]}, False),
        "aido-diff": (MASKED, {"LLR": masked_base(8192, 4096, mask=False)}, False),
        "aido-distance": (MASKED, {"L1": card["l1"], "L2": card["l2"]}, False),
    }


@pytest.fixture(scope="module")
def expected():
    return slow()


@pytest.mark.parametrize("name", [name for name in protocols.PROTOCOLS if name != "dart-eval-pll"])
def test_a_preset_is_its_definition(name, fasta, expected):
    loaded, columns, both = expected[name]
    row = row_of(loaded, fasta, protocol=name)
    assert str(row.status) == "OK"
    columns_of_row = {"LLR": (row.llr, row.llr_fwd, row.llr_rev)} if row.llr is not None else {}
    for column in row.extra:
        if not column.endswith(("_FWD", "_REV")):
            columns_of_row[column] = tuple(row.extra[f"{column}{end}"] for end in ("", "_FWD", "_REV"))
    assert set(columns_of_row) == set(columns)
    for column, (forward, reverse) in columns.items():
        scale = max(abs(forward), 1e-3)
        mean, fwd, rev = columns_of_row[column]
        assert fwd == pytest.approx(forward, abs=2e-4 * scale)
        assert mean == pytest.approx((forward + reverse) / 2 if both else forward, abs=2e-4 * scale)
        assert rev == (pytest.approx(reverse, abs=2e-4 * max(abs(reverse), 1e-3)) if both else None)


@pytest.mark.parametrize("loaded", [MASKED, CADUCEUS, KMERS, replace(HYENA, card=CAUSAL.card)],
                         ids=["bases", "caduceus", "6-mers", "hyenadna"])  # fmt: skip
def test_dart_eval_masks_the_token_that_differs(loaded, fasta):
    """Causal models, too: they see what precedes the mask, so that the rest is the same for both alleles."""
    row = row_of(loaded, fasta, protocol="dart-eval")
    assert row.llr_fwd == pytest.approx(dart_single_token(loaded)[0], abs=2e-4)
    assert (row.window_start, row.window_end) == (POS - 1057, POS + 1057)


@pytest.mark.parametrize("loaded", [MASKED, CADUCEUS, KMERS, HYENA], ids=["bases", "caduceus", "6-mers", "hyenadna"])
def test_the_other_evaluator_of_dart_eval_masks_every_token_in_turn(loaded, fasta):
    row = row_of(loaded, fasta, protocol="dart-eval-pll", window=200, left=100)
    assert row.llr_fwd == pytest.approx(dart_whole(loaded, 200, 100)[0], abs=5e-4)
    assert Options(protocol="dart-eval-pll").resolve(MASKED).settings()["span"] == "2114"


def test_a_causal_model_follows_the_noncoding_benchmark_by_likelihood(fasta):
    row = row_of(CAUSAL, fasta, protocol="noncoding-benchmark")
    assert row.llr == pytest.approx(sum_ll(CAUSAL, 1024)[0], abs=2e-5)


def test_what_is_given_overrides_the_preset(fasta):
    row = row_of(CAUSAL, fasta, protocol="evo2-brca1", window=100, strand="both")
    assert (row.window_start, row.window_end) == (POS - 50, POS + 50)
    assert row.llr_rev is not None
    shifted = row_of(MASKED, fasta, protocol="plantcad", window=64, left=10)
    assert shifted.window_start == POS - 10 and shifted.llr_fwd == pytest.approx(masked_base(64, 10)[0], abs=1e-5)


@pytest.mark.parametrize(
    ("loaded", "options", "says"),
    [
        (CAUSAL, {"protocol": "gpn"}, "gpn is for masked models, and tiny is a causal one"),
        (MASKED, {"protocol": "evo2-brca1"}, "evo2-brca1 is for causal models"),
        (CAUSAL, {"protocol": "evo1"}, "tiny has no begin token"),
        (tiny_masked(context=1000), {"protocol": "caduceus-vep"}, "window of 131,072 bases, but the context"),
        (MASKED, {"protocol": "plantcad", "window": 256}, "puts the variant behind 255 of 512"),
        (tiny_masked(context=1000), {"protocol": "dart-eval-pll"}, "window of 2,114 bases, but the context"),
        (CAUSAL, {"left": 8192}, "8192 bases before the variant in a window of 8,192"),
        (CAUSAL, {"pool": "cls"}, "tiny has no <cls> token"),
        (CAUSAL, {"pool": "site-3"}, "no pooling 'site-3'"),
        (CAUSAL, {"readouts": ("llr", "llr")}, "the same readout twice"),
        (CAUSAL, {"readouts": ("pll",)}, "has no 'pll'"),
        (CAUSAL, {"readouts": ("",)}, "no readout ''"),
    ],
)
def test_what_a_model_cannot_do_is_one_line(loaded, options, says, fasta):
    with pytest.raises(NexVarError) as error:
        row_of(loaded, fasta, **options)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("options", [{"protocol": "evo3"}, {"windowing": "round"}, {"left": -1}, {"span": -1},
                                     {"left": 3, "windowing": "tiled"}])  # fmt: skip
def test_bad_options_are_refused_at_once(options):
    with pytest.raises(NexVarError):
        Options(**options)


def test_the_command_lists_every_protocol(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["nexvar", "protocols"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out = capsys.readouterr().out
    assert not stopped.value.code
    assert all(f"{name}: " in out for name in protocols.PROTOCOLS)


def test_the_header_holds_what_was_resolved():
    settings = Options(protocol="caduceus-vep").resolve(MASKED).settings()
    assert settings == {
        "protocol": "caduceus-vep", "layer": "last hidden", "pool": "site+768", "special tokens": "no"
    }  # fmt: skip
    assert Options(protocol="plantcad").resolve(MASKED).settings() == {"protocol": "plantcad", "left": "255"}

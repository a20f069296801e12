"""Published ways to score variants, by name: ``--protocol evo2-brca1`` sets window, placement, readouts and the rest.

A protocol fixes what its source fixes and leaves the rest (``None``) to the model's card; an option given explicitly
overrides it. What a source does after the scores (taking absolute values, training a classifier) is not part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nexvar.cards import Card
from nexvar.errors import NexVarError


@dataclass(frozen=True)
class Chosen:
    """What a protocol says for one model; None: nothing. All but ``special`` is the user's too (options.py)."""

    window: int | None = None
    left: int | None = None
    readouts: tuple[str, ...] | None = None
    strand: str | None = None
    begin: bool | None = None
    pool: str | None = None
    span: int | None = None
    special: bool | None = None


@dataclass(frozen=True)
class Protocol:
    """One published protocol.

    readouts: by the model's objective; an objective that is missing cannot follow the protocol. window: bases; None
    is the model's default. whole_context: the window is the model's context. left: bases before the variant; None is
    half the window. begin: whether a begin token stands before the window; None as the model's card says. pool: of
    the embedding readouts. span: of ``pll`` and ``site``. special: by the model's objective, whether the tokenizer's
    special tokens stand around a window; without an entry as the model's card says. source: where it is from.
    """

    name: str
    what: str
    source: str
    readouts: dict[str, tuple[str, ...]]
    window: int | None = None
    whole_context: bool = False
    left: int | None = None
    strand: str = "forward"
    begin: bool | None = None
    pool: str | None = None
    span: int | None = None
    special: Mapping[str, bool] = field(default_factory=dict)

    def chosen(self, card: Card) -> Chosen:
        """What it says for this model; NexVarError for a model it is not for."""
        if card.objective not in self.readouts:
            others = [p.name for p in PROTOCOLS.values() if card.objective in p.readouts]
            raise NexVarError(
                f"{self.name} is for {' and '.join(self.readouts)} models, and {card.name} is a {card.objective} one",
                where="--protocol",
                fix=f"one of {', '.join(others)}",
            )
        return Chosen(
            window=card.context if self.whole_context else self.window,
            left=self.left,
            readouts=self.readouts[card.objective],
            strand=self.strand,
            begin=self.begin,
            pool=self.pool,
            span=self.span,
            special=self.special.get(card.objective),
        )

    def line(self) -> str:
        """What it fixes, for people."""
        window = "the model's context" if self.whole_context else f"{self.window:,} bp" if self.window else "any window"
        where = f", {self.left} bases before the variant" if self.left is not None else ""
        ways = dict.fromkeys(",".join(names) for names in self.readouts.values())
        pool = f", pool {self.pool}" if self.pool else ""
        begin = {None: "", True: ", begin token", False: ", no begin token"}[self.begin]
        special = "".join(f", special tokens for {name} models" for name, wanted in self.special.items() if wanted)
        strand = "both strands" if self.strand == "both" else "forward strand"
        return f"{window}{where}, {strand}, {' or '.join(ways)}{pool}{begin}{special}"


WHOLE = 1_000_000  # a span beyond every window
_EMBEDDING = ("cosine", "l1", "l2", "dot")

PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        Protocol("evo2-brca1", "Evo 2's BRCA1 notebook: mean log-likelihood difference, variant at index 4,096",
                 "Brixi et al.; ArcInstitute/evo2 notebooks/brca1", {"causal": ("llr",)},
                 window=8192, begin=False),
        Protocol("evo2-vep", "the same averaged over both strands; indels in windows of one length, right edge moved",
                 "ArcInstitute/evo2 average_reverse_complement, issue 206", {"causal": ("llr",)},
                 window=8192, strand="both", begin=False),
        Protocol("evo1", "Evo 1's scoring: mean log-likelihood difference behind a begin token",
                 "evo-design/evo scoring.py", {"causal": ("llr",)}, window=8192, begin=True),
        Protocol("traitgym", "TraitGym with Evo 2: mean log-likelihood difference, and distances between all positions",
                 "songlab-cal/TraitGym run_vep_evo2.py", {"causal": ("llr", "l2", "dot", "cosine")},
                 strand="both", begin=False, pool="flat"),
        Protocol("traitgym-hyenadna", "TraitGym with HyenaDNA: summed log-likelihood difference, longest window",
                 "songlab-cal/TraitGym run_vep_llr_hyenadna.py", {"causal": ("llr_sum",)},
                 whole_context=True, strand="both", special={"causal": True}),
        Protocol("bolinas", "bolinas: summed difference of log p under the softmax over A, C, G, T",
                 "bolinas-dna scoring.py", {"causal": ("llr_acgt_sum",)}, window=8192),
        Protocol("gpn", "GPN: the site masked, log p(alt) - log p(ref), mean of both strands",
                 "Benegas et al. 2023; songlab-cal/gpn ss/run_vep.py", {"masked": ("masked_llr",)}, strand="both"),
        Protocol("nt-kmer", "TraitGym with Nucleotide Transformer: the central 6-mer masked",
                 "songlab-cal/TraitGym run_vep_llr_nucleotide_transformer.py", {"masked": ("masked_llr",)},
                 window=5994, strand="both"),
        Protocol("nt-embedding", "Nucleotide Transformer: distances of mean-pooled embeddings of 6 kb",
                 "Dalla-Torre et al. 2024", {"masked": _EMBEDDING}, window=5994, pool="mean"),
        Protocol("plantcad", "PlantCaduceus: site 255 of 512 masked, log p(alt) - log p(ref)",
                 "Zhai et al.; PlantCaduceus zero_shot_score.py", {"masked": ("masked_llr",)}, window=512, left=255),
        Protocol("plantcad2", "PlantCAD2: site 4,095 of 8,192 masked", "PlantCaduceus zero_shot_score.py",
                 {"masked": ("masked_llr",)}, window=8192, left=4095),
        Protocol("caduceus-vep", "Caduceus: distance of the mean embeddings within 768 bases of the variant, on which"
                 " the paper trains an SVM", "Schiff et al. 2024; kuleshov-group/caduceus vep_embeddings.py",
                 {"masked": ("cosine", "l2"), "causal": ("cosine", "l2")},
                 window=131_072, strand="both", pool="site+768", special={"masked": False, "causal": False}),
        Protocol("noncoding-benchmark", "the noncoding benchmark: cosine of mean-pooled last hidden states, or for"
                 " causal models the log-likelihood ratio", "Hollis36/genomic-fm-noncoding-benchmark src/models",
                 {"masked": ("cosine",), "causal": ("llr_sum",)}, window=1024, pool="mean", begin=False,
                 special={"masked": True, "causal": True}),
        Protocol("dart-eval", "DART-Eval: the differing token masked for both alleles; causal models see what precedes",
                 "Patel et al. 2024; kundajelab/DART-Eval evaluators.py, VariantSingleTokenLikelihoodEvaluator",
                 {"masked": ("masked_llr",), "causal": ("site",)}, window=2114, begin=False,
                 special={"masked": True}),
        Protocol("dart-eval-pll", "DART-Eval's other evaluator: all tokens of the window, each masked in turn, or its"
                 " likelihood, of each allele",
                 "Patel et al. 2024; kundajelab/DART-Eval evaluators.py, ZeroShotVariantEvaluator",
                 {"masked": ("pll",), "causal": ("llr_sum",)}, window=2114, begin=False, span=WHOLE,
                 special={"masked": True, "causal": False}),
        Protocol("bend", "BEND: cosine distance of the embedding at the variant, 256 bases on each side",
                 "Marin et al. 2024; BEND predict_variant_effects.py", {"masked": ("cosine",)},
                 window=513, pool="site"),
        Protocol("bend-causal", "BEND for causal models: 512 bases before the variant, the embedding of its base",
                 "Marin et al. 2024; BEND run_variant_effects.sh", {"causal": ("cosine",)},
                 window=513, left=512, pool="last"),
        Protocol("aido-diff", "AIDO.DNA, Diff: log p(alt) - log p(ref) at the unmasked site",
                 "genbio-ai/ModelGenerator tasks.py", {"masked": ("unmasked_llr",)}),
        Protocol("aido-distance", "AIDO.DNA, Distance: L1 and L2 of mean-pooled embeddings",
                 "genbio-ai/ModelGenerator tasks.py", {"masked": ("l1", "l2")}, pool="mean"),
    )
}  # fmt: skip


def get(name: str) -> Protocol:
    """The protocol of this name; NexVarError with the names there are."""
    if name not in PROTOCOLS:
        raise NexVarError(f"no protocol {name!r}", where="--protocol", fix=f"one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]

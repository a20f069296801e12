"""The readouts by name, and the settings they share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nexvar.errors import NexVarError
from nexvar.inference.core.readout import DISTANCES
from nexvar.inference.core.sequences import begin_ids, token_ids
from nexvar.weights.load import Loaded

LIKELIHOOD = ("llr", "llr_sum", "llr_acgt", "llr_acgt_sum", "site")
MASKED = ("masked_llr", "unmasked_llr", "pll")
EMBEDDING = DISTANCES
READOUTS = (*LIKELIHOOD, *MASKED, *EMBEDDING)
ONE_PASS = ("site", "unmasked_llr")  # a pass of the reference serves every allele of one token in the window
DESCRIPTIONS = {
    "llr": "log-likelihood per base of the alternative window minus that of the reference window",
    "llr_sum": "log-likelihood of the alternative window minus that of the reference window, summed",
    "llr_acgt": "llr with the softmax over the four nucleotides",
    "llr_acgt_sum": "llr_sum with the softmax over the four nucleotides",
    "site": "log p of the bases from the variant on in the alternative window - log p of as many in the reference"
    " window, given the bases before them",
    "masked_llr": "log p(alternative) - log p(reference) at the masked tokens that differ",
    "unmasked_llr": "log p(alternative) - log p(reference) at the tokens that differ, none of them masked",
    "pll": "pseudo-log-likelihood of the bases from the variant on in the alternative window minus that of as many in"
    " the reference window, one token masked at a time",
    "cosine": "1 - cosine of the pooled embeddings of the two windows",
    "l1": "L1 distance of the pooled embeddings of the two windows",
    "l2": "L2 distance of the pooled embeddings of the two windows",
    "dot": "inner product of the pooled embeddings of the two windows",
}
POOLS = "mean, max, last, cls, site, site+N (the allele and N bases on each side), flat"

Values = dict[str, float]  # readout -> value


@dataclass(frozen=True)
class ReadoutSettings:
    """Which readouts, and what they share.

    layer: a tap for the embeddings (default: the last hidden state). pool: one of ``POOLS``; "flat" compares all
    positions as one vector. begin: tokens before a sequence; None: the card's. span: bases that count beside those
    of the alleles (stretch.py): on each side of them for ``pll``, behind them for ``site``. special: whether the
    tokenizer's special tokens stand around a sequence; None: as the card says.
    """

    names: tuple[str, ...]
    batch_tokens: int
    share: bool = True
    layer: str | None = None
    pool: str = "mean"
    begin: tuple[int, ...] | None = None
    span: int = 0
    special: bool | None = None


def check_readouts(readouts: Sequence[str], loaded: Loaded) -> None:
    """NexVarError for a readout that does not exist or that this model cannot give."""
    for name in readouts:
        if name not in READOUTS:
            raise NexVarError(f"no readout {name!r}", where="--readout", fix=f"one of {', '.join(READOUTS)}")
        wrong = {"causal": MASKED, "masked": LIKELIHOOD}[loaded.card.objective]
        if name in wrong:
            right = [r for r in READOUTS if r not in wrong]
            raise NexVarError(
                f"{loaded.card.name} is a {loaded.card.objective} model and has no {name!r}",
                where="--readout",
                fix=f"one of {', '.join(right)}",
            )
        if name not in EMBEDDING:
            loaded.need_head(f"the readout {name}")
    if len(set(readouts)) < len(readouts):
        raise NexVarError(f"the same readout twice: {','.join(readouts)}", where="--readout", fix="name each once")


def check_pool(method: str, loaded: Loaded) -> None:
    """NexVarError for a pooling that does not exist or that this model's tokens do not have."""
    if method not in ("mean", "max", "last", "cls", "site", "flat") and not re.fullmatch(r"site\+[0-9]{1,7}", method):
        raise NexVarError(f"no pooling {method!r}", where="--pool", fix=f"one of {POOLS}")
    if method == "cls" and (getattr(loaded.tokenizer, "cls_id", None) is None or not loaded.card.special_tokens):
        raise NexVarError(f"{loaded.card.name} has no <cls> token", where="--pool", fix="mean or site")


def tokens(loaded: Loaded, sequence: str, begin: Sequence[int] | None = None) -> list[int]:
    """The ids this model is scored on: with the begin or the special tokens that its official scoring has.

    begin: other tokens in front than the card's.
    """
    ids = token_ids(loaded.tokenizer, sequence, special=loaded.card.special_tokens)
    return [*(begin_ids(loaded) if begin is None else begin), *ids]


def begin_tokens(loaded: Loaded, settings: ReadoutSettings) -> tuple[int, ...]:
    """What stands before a sequence: ``settings.begin``, or what the card says."""
    return begin_ids(loaded) if settings.begin is None else settings.begin

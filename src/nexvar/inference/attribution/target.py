"""What is explained: a number that is read off a model's output for one sequence.

    likelihood()            causal: log p of every token given those before it; masked: of every token, masked in turn
    base(pos0, "G")         log-odds of one base at its place, log p / (1 - p) over A, C, G and T
    variant(pos0, "G")      causal: log-likelihood with the alternative - with the reference; masked: log p(alternative)
                            - log p(reference) at the masked place (``masked_llr``)
    track(loaded, "name")   the sum of one predicted track over the bases that it covers (NTv3)

A fine-tuned head is one, too: ``nexvar.train.Predictor(folder).target("promoter")``. All logarithms are natural.

The tokens whose probability is asked are those of the sequence that is explained, whatever the model reads in its
place: an attribution says how what the model *reads* changes what it says of *this* sequence.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.inference.attribution.reading import BASES, Reading
from nexvar.inference.core.readout import next_token_log_probs
from nexvar.inference.track_model import FACTS
from nexvar.models import Output
from nexvar.tokenizers import KmerTokenizer
from nexvar.weights.load import Loaded

Read = Callable[[Output], Tensor]  # of one row, whose tensors have no batch axis -> a scalar


@dataclass(frozen=True)
class View:
    """One forward of a target. put: token -> the id that stands there instead of the sequence's own (a mask, an
    allele): nothing at such a place is explained. weight: of its number in the target's."""

    read: Read
    put: Mapping[int, int] = field(default_factory=dict)
    weight: float = 1.0


@dataclass(frozen=True)
class Target:
    """name: for people. views: of a sequence, the forwards whose weighted numbers add up to the target's. taps, logits,
    given: what a forward is asked for. llr: single substitutions change it as ``nexvar saturate`` says. site: the
    0-based base that the target itself puts or asks for: what stands there changes nothing."""

    name: str
    views: Callable[[Reading], list[View]]
    taps: tuple[str, ...] = ()
    logits: bool = True
    given: Mapping[str, Any] = field(default_factory=dict)
    llr: bool = False
    site: int | None = None


# -- likelihoods


def likelihood() -> Target:
    """Of the whole sequence: see above."""
    return Target("log-likelihood", lambda reading: _likelihood(reading, reading.ids_T), llr=True)


def _likelihood(reading: Reading, ids_T: np.ndarray, weight: float = 1.0) -> list[View]:
    """The views of the log-likelihood of ``ids_T``, which stand in place of the reading's own."""
    loaded = reading.loaded
    loaded.need_head("an attribution of likelihoods")
    changed = {int(t): int(ids_T[t]) for t in np.flatnonzero(ids_T != reading.ids_T)}
    if loaded.module.causal:
        return [View(partial(_sum_of_next, _tensor(loaded, ids_T)), changed, weight)]
    mask = _mask_id(loaded)
    return [
        View(partial(_log_prob, int(t), int(ids_T[t])), {**changed, int(t): mask}, weight)
        for t in np.flatnonzero(reading.is_base_T)
    ]


def _sum_of_next(ids_T: Tensor, output: Output) -> Tensor:
    assert output.logits is not None
    return next_token_log_probs(output.logits[None, :-1], ids_T[None, 1:]).sum()


def _log_prob(at: int, token: int, output: Output) -> Tensor:
    assert output.logits is not None
    return output.logits[at].float().log_softmax(-1)[token]


def _tensor(loaded: Loaded, ids_T: np.ndarray) -> Tensor:
    return torch.as_tensor(ids_T, device=loaded.device)


def _mask_id(loaded: Loaded) -> int:
    if loaded.tokenizer.mask_id is None:
        raise NexVarError(f"the tokenizer of {loaded.card.name} has no mask token", where="target", fix="another model")
    return loaded.tokenizer.mask_id


def variant(pos0: int, alt: str) -> Target:
    """The LLR of a single-base substitution. pos0: 0-based, in the sequence that is explained."""
    pos0 = arguments.whole(pos0, "pos0", 0)
    arguments.one_of(alt, "base", tuple(BASES))

    def views(reading: Reading) -> list[View]:
        _token(reading, pos0)
        if alt == reading.text[pos0]:
            what = f"{reading.text[pos0]} to {alt!r} at position {pos0 + 1:,} is no substitution"
            raise NexVarError(what, where="target", fix="another base of A, C, G, T")
        changed = reading.with_base(pos0, alt)
        if changed.spans_T != reading.spans_T:
            what = f"{reading.loaded.card.name} cuts the alternative into other tokens"
            raise NexVarError(what, where="target", fix="a model with a token a base")
        if reading.loaded.module.causal:
            of_alt = _likelihood(reading, changed.ids_T)
            (of_ref,) = _likelihood(reading, reading.ids_T, -1.0)
            # the reference stands at the site whatever is read there, as the alternative does
            return [*of_alt, View(of_ref.read, {t: int(reading.ids_T[t]) for t in of_alt[0].put}, -1.0)]
        reading.loaded.need_head("an attribution of likelihoods")
        tokens = np.flatnonzero(changed.ids_T != reading.ids_T)
        put = {int(t): _mask_id(reading.loaded) for t in tokens}
        return [
            View(partial(_log_prob, int(t), int(ids_T[t])), put, weight)
            for ids_T, weight in ((changed.ids_T, 1.0), (reading.ids_T, -1.0))
            for t in tokens
        ]

    return Target(f"LLR of {alt} at {pos0 + 1}", views, site=pos0)


def _token(reading: Reading, pos0: int) -> int:
    """The token over a base that is in the sequence."""
    if not 0 <= pos0 < len(reading.text) or reading.text[pos0] not in BASES:
        what = f"no base at position {pos0 + 1:,} of the {len(reading.text):,} that are read"
        raise NexVarError(what, where="target", fix="an A, C, G or T inside of them")
    return int(reading.token_L[pos0])


# -- probabilities of single bases


def base(pos0: int, of: str | None = None) -> Target:
    """The log-odds of a base at its place; of: which one, None for the one that is there. pos0: 0-based."""
    pos0 = arguments.whole(pos0, "pos0", 0)
    if of is not None:
        arguments.one_of(of, "base", tuple(BASES))

    def views(reading: Reading) -> list[View]:
        loaded, at = reading.loaded, _token(reading, pos0)
        wanted = BASES.index(of or reading.text[pos0])
        odds = BaseOdds.of(loaded)
        offset = pos0 - reading.spans_T[at][0]
        if loaded.module.causal and at == 0:
            raise NexVarError("nothing predicts the first base", where="target", fix="a base further on")
        put = {} if loaded.module.causal else {at: _mask_id(loaded)}

        def number(output: Output) -> Tensor:
            assert output.logits is not None
            logits_V = output.logits[at - 1 if loaded.module.causal else at]
            return odds(logits_V[None], np.array([offset]))[0, wanted]

        return [View(number, put)]

    return Target(f"log-odds of {of or 'the base'} at {pos0 + 1}", views, site=pos0)


@dataclass(frozen=True)
class BaseOdds:
    """Logits of tokens -> log-odds of A, C, G and T: the probability of a base is that of the tokens which hold it at
    its place, of all that hold one there. is_KVB: at which offset K which tokens V hold base B."""

    is_KVB: Tensor

    @classmethod
    def of(cls, loaded: Loaded) -> BaseOdds:
        """NexVarError for tokens that are neither bases nor k-mers."""
        loaded.need_head("log-odds of bases")
        bases, tokenizer = loaded.tokenizer.base_ids(), loaded.tokenizer
        if bases is not None:
            is_KVB = torch.zeros(1, loaded.module.config.vocabulary, 4, dtype=torch.bool)
            is_KVB[0, [bases[b] for b in BASES], range(4)] = True
        elif isinstance(tokenizer, KmerTokenizer):
            letters_VK = torch.from_numpy(tokenizer.letters())
            letters_VK[[tokenizer.ids[b] for b in BASES], 0] = torch.arange(4, dtype=torch.int8)  # of a tail
            rest = loaded.module.config.vocabulary - len(letters_VK)
            letters_VK = torch.nn.functional.pad(letters_VK, (0, 0, 0, rest), value=-1)
            is_KVB = letters_VK.T[..., None] == torch.arange(4)
        else:
            what = f"the tokens of {loaded.card.name} are no single bases and no k-mers: they have no odds of a base"
            raise NexVarError(what, where="attribution", fix="method 'saliency', 'integrated' or 'ism'")
        return cls(is_KVB.to(loaded.device))

    def __call__(self, logits_NV: Tensor, offset_N: np.ndarray) -> Tensor:
        """(N, 4) float32, natural logarithms. offset_N: place of the base in its token."""
        logits_NV = logits_NV.float()
        if len(self.is_KVB) == 1:  # four tokens: what is not one of them need not be looked at
            of_NB = logits_NV[:, self.is_KVB[0].to(torch.int8).argmax(0)]
        else:
            is_NVB = self.is_KVB[torch.as_tensor(offset_N, device=logits_NV.device)]
            of_NB = logits_NV[..., None].masked_fill(~is_NVB, float("-inf")).logsumexp(1)
        others = [[c for c in range(4) if c != b] for b in range(4)]
        return of_NB - of_NB[:, others].logsumexp(-1)


# -- tracks


def track(loaded: Loaded, name: str, species: str | None = None) -> Target:
    """The sum of one of NTv3's functional tracks over the central bases that have one. species: default: the card's."""
    config = loaded.module.config
    tracks: Mapping[str, Sequence[str]] = getattr(config, "bigwigs_per_species", {})
    if not tracks:
        trained = loaded.folder is not None and (loaded.folder / FACTS).exists()
        what = f"{loaded.card.name} {'has a trained head, which is not explained' if trained else 'predicts no tracks'}"
        raise NexVarError(what, where="target", fix="likelihood, or a post-trained NTv3 (`nexvar models`)")
    of = species or config.default_species or next(iter(tracks))
    index = named(tracks[list(tracks)[named(list(tracks), of, "species")]], name, "track")

    def number(output: Output) -> Tensor:
        values_L: Tensor = output.extras["bigwig_tracks_logits"][:, index]
        return values_L.float().sum()

    def views(reading: Reading) -> list[View]:
        length, unit = len(reading.ids_T), config.unit
        if length % unit:
            what = f"{length:,} bases are read, and {loaded.card.name} has tracks of a multiple of {unit}"
            raise NexVarError(what, where="window", fix=f"such as {max(length // unit, 1) * unit:,}")
        return [View(number)]

    given = {"species_ids_B": loaded.module.species_ids(of).to(loaded.device)}
    return Target(f"track {name} of {of}", views, given=given)


def named(names: Sequence[str], wanted: str, what: str, where: str = "target") -> int:
    """The index of a name; NexVarError that names the nearest ones."""
    if wanted in names:
        return list(names).index(wanted)
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.3) or list(names[:3])
    raise NexVarError(f"no {what} {wanted[:60]!r}", where=where, fix=f"did you mean {', '.join(near)}?")

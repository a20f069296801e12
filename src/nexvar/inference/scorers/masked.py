"""Readouts of masked models: which tokens are the variant's, and what the model says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nexvar.errors import NexVarError
from nexvar.genome.windows import Windows
from nexvar.inference.core.batching import Tally, in_batches, padded
from nexvar.inference.scorers.settings import ReadoutSettings, Values
from nexvar.inference.scorers.stretch import Interval, stretch
from nexvar.tokenizers import Encoding
from nexvar.weights.load import Loaded


@dataclass(frozen=True)
class _Side:
    """The tokens of one window, and the indices of those that are the variant's."""

    ids: list[int]
    changed: list[int]


def tokens_to_mask(loaded: Loaded, w: Windows) -> tuple[_Side, _Side, bool]:
    """The variant's tokens in the reference and in the alternative window, and whether they cover the same bases there.

    Alleles of one length: each token that the other window does not have at the same bases, and no other. Under BPE
    that may be more than those at the site. Alleles of two lengths: behind an indel every base moves and every k-mer
    differs, up to the window's end, but they are context there; the variant's are the tokens over ``stretch``.
    """
    ref, alt = (loaded.tokenizer.encode(s, special=loaded.card.special_tokens) for s in (w.ref_seq, w.alt_seq))
    if w.ref_site[1] - w.ref_site[0] != w.alt_site[1] - w.alt_site[0]:
        sides = [_Side(e.ids, _over(e, site)) for e, site in zip((ref, alt), stretch(w), strict=True)]
        return sides[0], sides[1], False
    if ref.spans == alt.spans:
        changed = [i for i, (one, two) in enumerate(zip(ref.ids, alt.ids, strict=True)) if one != two]
        return _Side(ref.ids, changed), _Side(alt.ids, changed), True
    in_ref, in_alt = (list(zip(e.spans, e.ids, strict=True)) for e in (ref, alt))
    of_ref, of_alt = set(in_ref), set(in_alt)
    return (
        _Side(ref.ids, [i for i, token in enumerate(in_ref) if token not in of_alt]),
        _Side(alt.ids, [i for i, token in enumerate(in_alt) if token not in of_ref]),
        False,
    )


def _over(encoded: Encoding, interval: Interval) -> list[int]:
    """Indices of the tokens that share a base with an interval; none with an empty one."""
    return encoded.tokens_over(*interval) if interval[1] > interval[0] else []


class _Passes:
    """Token sequences to run once each, and the (position, token) whose log-probability is asked of them."""

    def __init__(self) -> None:
        self.index: dict[tuple[int, ...], int] = {}
        self.pairs: list[dict[tuple[int, int], None]] = []

    def ask(self, ids: Sequence[int], pairs: Sequence[tuple[int, int]]) -> tuple[int, Sequence[tuple[int, int]]]:
        """A question: which pass, and which of its probabilities are summed."""
        index = self.index.setdefault(tuple(ids), len(self.index))
        if index == len(self.pairs):
            self.pairs.append({})
        self.pairs[index].update(dict.fromkeys(pairs))
        return index, pairs


def masked_ratios(
    loaded: Loaded, windows: Sequence[Windows], wanted: list[str], settings: ReadoutSettings, tally: Tally
) -> list[Values]:
    """Each readout: sum log p(alternative tokens) - sum log p(reference tokens), over what it asks.

    masked_llr: where the variant's tokens are at the same bases the masked windows are one and the same, so that one
    pass serves all alternatives of a site. Where a tokenizer (BPE, or an indel) splits them differently, each window is
    masked on its own. unmasked_llr: likewise with the reference window as it is.
    """
    mask = loaded.tokenizer.mask_id
    if mask is None:
        raise NexVarError(f"the tokenizer of {loaded.card.name} has no mask token", where="--readout")
    passes, questions, naive = _questions(loaded, windows, wanted, mask, settings)
    jobs = list(passes.index)
    tally.naive += naive

    @torch.inference_mode()
    def compute(batch: list[int]) -> list[dict[tuple[int, int], float]]:
        ids_BL, mask_BL = padded(loaded, [jobs[j] for j in batch])
        logits = loaded.module(ids_BL, mask_BL=mask_BL).logits
        tally.computed += ids_BL.numel()
        log_probs = []
        for row, j in enumerate(batch):
            pairs = list(passes.pairs[j])
            at_E, token_E = torch.tensor(pairs, device=logits.device).reshape(-1, 2).unbind(1)
            places_P, of_E = at_E.unique(return_inverse=True)
            picked_PV = logits[row, places_P].float()
            log_probs_E = (picked_PV[of_E, token_E] - picked_PV.logsumexp(-1)[of_E]).double()
            log_probs.append(dict(zip(pairs, log_probs_E.tolist(), strict=True)))
        return log_probs

    lengths = [len(job) for job in jobs]
    answers = in_batches(loaded, lengths, settings.batch_tokens, compute, tally, pads=loaded.module.pads_safely)

    def total(side: list[_Question]) -> float:
        return sum(answers[i][pair] for i, pairs in side for pair in pairs)

    return [
        {name: total(alt) - total(ref) for name, (ref, alt) in zip(wanted, asked, strict=True)} for asked in questions
    ]


def count(loaded: Loaded, windows: Sequence[Windows], wanted: list[str], settings: ReadoutSettings) -> Tally:
    """The tokens that ``masked_ratios`` would compute, padding aside; the module is not used."""
    passes, _, naive = _questions(loaded, windows, wanted, loaded.tokenizer.mask_id or 0, settings)
    return Tally(sum(map(len, passes.index)), naive)


def _questions(
    loaded: Loaded, windows: Sequence[Windows], wanted: list[str], mask: int, settings: ReadoutSettings
) -> tuple[_Passes, list[list[_Sides]], int]:
    """The passes of these windows, what each readout asks of them, and the tokens of a pass for every question."""
    passes = _Passes()
    ask = {"masked_llr": _ask_masked, "unmasked_llr": _ask_unmasked, "pll": _ask_one_by_one}
    questions = [[ask[name](loaded, w, mask, settings, passes) for name in wanted] for w in windows]
    jobs = list(passes.index)
    naive = sum(len(jobs[i]) for asked in questions for sides in asked for side in sides for i, _ in side)
    return passes, questions, naive


_Question = tuple[int, Sequence[tuple[int, int]]]
_Sides = tuple[list[_Question], list[_Question]]  # of the reference, of the alternative


def _ask_masked(loaded: Loaded, w: Windows, mask: int, settings: ReadoutSettings, passes: _Passes) -> _Sides:
    ref, alt, _ = tokens_to_mask(loaded, w)
    return _ask(passes, ref, _masked(ref, mask)), _ask(passes, alt, _masked(alt, mask))


def _ask_unmasked(loaded: Loaded, w: Windows, mask: int, settings: ReadoutSettings, passes: _Passes) -> _Sides:
    """Both alleles are read from the reference window; each from its own where their tokens cover other bases."""
    ref, alt, aligned = tokens_to_mask(loaded, w)
    return _ask(passes, ref, ref.ids), _ask(passes, alt, ref.ids if aligned else alt.ids)


def _masked(side: _Side, mask: int) -> list[int]:
    ids = list(side.ids)
    for i in side.changed:
        ids[i] = mask
    return ids


def _ask(passes: _Passes, side: _Side, given: list[int]) -> list[_Question]:
    """The probabilities of the variant's tokens of this side, when the model is given these ids; none: no pass."""
    return [passes.ask(given, [(i, side.ids[i]) for i in side.changed])] if side.changed else []


def _ask_one_by_one(loaded: Loaded, w: Windows, mask: int, settings: ReadoutSettings, passes: _Passes) -> _Sides:
    sides: list[list[_Question]] = []
    for sequence, interval in zip((w.ref_seq, w.alt_seq), stretch(w, settings.span, settings.span), strict=True):
        encoded = loaded.tokenizer.encode(sequence, special=loaded.card.special_tokens)
        every = [_Side(encoded.ids, [i]) for i in _over(encoded, interval)]
        sides.append([question for side in every for question in _ask(passes, side, _masked(side, mask))])
    return sides[0], sides[1]

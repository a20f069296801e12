"""Readouts of masked models: which tokens are the variant's, and what the model says of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nexvar.errors import NexVarError
from nexvar.genome.windows import Windows
from nexvar.inference.core.batching import Tally, in_batches, padded
from nexvar.inference.scorers.settings import ReadoutSettings, Values
from nexvar.weights.load import Loaded


def differing_tokens(ref: Sequence[int], alt: Sequence[int]) -> tuple[int, int, int]:
    """(start, ref_end, alt_end): outside of [start, end) the two tokenisations are the same."""
    shortest = min(len(ref), len(alt))
    start = next((i for i in range(shortest) if ref[i] != alt[i]), shortest)
    tail = next((i for i in range(shortest - start) if ref[-1 - i] != alt[-1 - i]), shortest - start)
    return start, len(ref) - tail, len(alt) - tail


def tokens_to_mask(loaded: Loaded, w: Windows) -> list[tuple[list[int], int, int]]:
    """(ids, start, end) of the reference and of the alternative window: tokens [start, end) are the variant's.

    Alleles of one length: the tokens that differ, which under BPE may be more than those at the site. Otherwise the
    tokens that cover the allele: behind an indel every base moves and every k-mer differs, up to the window's end,
    but they are context there, not the variant.
    """
    encoded = [loaded.tokenizer.encode(s, special=loaded.card.special_tokens) for s in (w.ref_seq, w.alt_seq)]
    if w.ref_site[1] - w.ref_site[0] == w.alt_site[1] - w.alt_site[0]:
        start, *ends = differing_tokens(encoded[0].ids, encoded[1].ids)
        return [(e.ids, start, end) for e, end in zip(encoded, ends, strict=True)]
    found = []
    for e, site in zip(encoded, (w.ref_site, w.alt_site), strict=True):
        over = e.tokens_over(*site)  # none for an empty allele between two tokens: nothing to predict
        found.append((e.ids, over[0], over[-1] + 1) if over else (e.ids, 0, 0))
    return found


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

    masked_llr: where both alleles have as many tokens the masked windows are one and the same, so that one pass
    serves all alternatives of a site. Where a tokenizer (BPE, or an indel) splits them differently, each window is
    masked on its own. unmasked_llr: likewise with the reference window as it is.
    """
    mask = loaded.tokenizer.mask_id
    if mask is None:
        raise NexVarError(f"the tokenizer of {loaded.card.name} has no mask token", where="--readout")
    passes = _Passes()
    ask = {"masked_llr": _ask_masked, "unmasked_llr": _ask_unmasked, "pll": _ask_one_by_one}
    questions: list[list[tuple[list[_Question], list[_Question]]]] = []
    for w in windows:
        questions.append([ask[name](loaded, w, mask, settings, passes) for name in wanted])
    jobs = list(passes.index)
    tally.naive += sum(len(jobs[i]) for asked in questions for sides in asked for side in sides for i, _ in side)

    @torch.inference_mode()
    def compute(batch: list[int]) -> list[dict[tuple[int, int], float]]:
        ids_BL, mask_BL = padded(loaded, [jobs[j] for j in batch])
        logits = loaded.module(ids_BL, mask_BL=mask_BL).logits
        tally.computed += ids_BL.numel()
        found = []
        for row, j in enumerate(batch):
            pairs = list(passes.pairs[j])
            at_E, token_E = torch.tensor(pairs, device=logits.device).reshape(-1, 2).unbind(1)
            places_P, of_E = at_E.unique(return_inverse=True)
            picked_PV = logits[row, places_P].float()
            log_probs_E = (picked_PV[of_E, token_E] - picked_PV.logsumexp(-1)[of_E]).double()
            found.append(dict(zip(pairs, log_probs_E.tolist(), strict=True)))
        return found

    lengths = [len(job) for job in jobs]
    answers = in_batches(loaded, lengths, settings.batch_tokens, compute, tally, pads=loaded.module.pads_safely)

    def total(side: list[_Question]) -> float:
        return sum(answers[i][pair] for i, pairs in side for pair in pairs)

    return [
        {name: total(alt) - total(ref) for name, (ref, alt) in zip(wanted, asked, strict=True)} for asked in questions
    ]


_Question = tuple[int, Sequence[tuple[int, int]]]
_Sides = tuple[list[_Question], list[_Question]]  # of the reference, of the alternative


def _ask_masked(loaded: Loaded, w: Windows, mask: int, settings: ReadoutSettings, passes: _Passes) -> _Sides:
    ref, alt = (
        [passes.ask([*ids[:start], *[mask] * (end - start), *ids[end:]], list(enumerate(ids[start:end], start)))]
        for ids, start, end in tokens_to_mask(loaded, w)
    )
    return ref, alt


def _ask_unmasked(loaded: Loaded, w: Windows, mask: int, settings: ReadoutSettings, passes: _Passes) -> _Sides:
    """Both alleles are read from the reference window; each from its own where they have not as many tokens."""
    (ref, r0, r1), (alt, a0, a1) = tokens_to_mask(loaded, w)
    own = ref if (r0, r1) == (a0, a1) else alt
    return (
        [passes.ask(ref, list(enumerate(ref[r0:r1], r0)))],
        [passes.ask(own, list(enumerate(alt[a0:a1], a0)))],
    )


def _ask_one_by_one(loaded: Loaded, w: Windows, mask: int, settings: ReadoutSettings, passes: _Passes) -> _Sides:
    sides: list[list[_Question]] = []
    for sequence, (start, end) in ((w.ref_seq, w.ref_site), (w.alt_seq, w.alt_site)):
        encoded = loaded.tokenizer.encode(sequence, special=loaded.card.special_tokens)
        ids = encoded.ids
        span = encoded.tokens_over(max(start - settings.span, 0), min(end + settings.span, len(sequence)))
        sides.append([passes.ask([*ids[:i], mask, *ids[i + 1 :]], [(i, ids[i])]) for i in span])
    return sides[0], sides[1]

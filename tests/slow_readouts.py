"""Every readout written out from docs/scoring.md alone: one window at a time, nothing shared, float64 where we can."""

from __future__ import annotations

import torch

from nexvar.genome.windows import Windows
from nexvar.weights.load import Loaded

Interval = tuple[int, int]


def trimmed(ref: str, alt: str) -> tuple[str, str]:
    """The alleles without shared first, then without shared last bases."""
    while ref and alt and ref[0] == alt[0]:
        ref, alt = ref[1:], alt[1:]
    while ref and alt and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    return ref, alt


def compared(w: Windows, before: int, behind: int) -> tuple[Interval, Interval]:
    """The bases that are compared, [start, end) in each window."""
    count = max(map(len, trimmed(w.ref_seq[slice(*w.ref_site)], w.alt_seq[slice(*w.alt_site)])))
    r, a, size = w.ref_site[0], w.alt_site[0], len(w.ref_seq)
    while r < size and a < size and w.ref_seq[r] == w.alt_seq[a]:
        r, a = r + 1, a + 1
    if r == size or a == size:
        return (r, r), (a, a)
    while before and r and a:
        r, a, before, count = r - 1, a - 1, before - 1, count + 1
    stop = r + count + behind, a + count + behind
    over = max(0, stop[0] - size, stop[1] - size)
    return (r, stop[0] - over), (a, stop[1] - over)


@torch.no_grad()
def causal(loaded: Loaded, w: Windows, span: int = 0, begin: tuple[int, ...] = ()) -> dict[str, float]:
    """llr, llr_sum, llr_acgt, llr_acgt_sum, site."""

    def terms(sequence: str, only: str = "") -> list[float | None]:
        """log p of each base of a sequence; None for one that nothing predicts."""
        ids = [*begin, *loaded.tokenizer.encode(sequence, special=False).ids]
        logits = loaded.module(torch.tensor([ids])).logits[0].double()
        kept = loaded.tokenizer.encode(only, special=False).ids if only else list(range(logits.shape[1]))
        found: list[float | None] = [None] * (1 - len(begin))
        for t in range(1, len(ids)):
            row = logits[t - 1, kept].log_softmax(-1)
            found.append(float(row[kept.index(ids[t])]) if ids[t] in kept else 0.0)
        return found[-len(sequence) :]

    def known(values: list[float | None]) -> list[float]:
        return [value for value in values if value is not None]

    ref, alt, ref4, alt4 = (terms(s, only) for only in ("", "ACGT") for s in (w.ref_seq, w.alt_seq))
    n = max(len(known(ref)), 1)
    (r0, r1), (a0, a1) = compared(w, 0, span)
    pairs = [(ref[r], alt[a]) for r, a in zip(range(r0, r1), range(a0, a1), strict=True)]
    llr, llr4 = sum(known(alt)) - sum(known(ref)), sum(known(alt4)) - sum(known(ref4))
    return {
        "llr": llr / n,
        "llr_sum": llr,
        "llr_acgt": llr4 / n,
        "llr_acgt_sum": llr4,
        "site": sum(two - one for one, two in pairs if one is not None and two is not None),
    }


@torch.no_grad()
def masked(loaded: Loaded, w: Windows, span: int = 0) -> dict[str, float]:
    """masked_llr, unmasked_llr, pll."""
    mask, special = loaded.tokenizer.mask_id, loaded.card.special_tokens
    ref, alt = (loaded.tokenizer.encode(s, special=special) for s in (w.ref_seq, w.alt_seq))

    def log_p(ids: list[int], at: int, token: int) -> float:
        return float(loaded.module(torch.tensor([ids])).logits[0, at].double().log_softmax(-1)[token])

    def hidden(ids: list[int], places: list[int]) -> list[int]:
        return [mask if i in places else token for i, token in enumerate(ids)]

    def over(encoded, interval: Interval) -> list[int]:
        spans = enumerate(encoded.spans)
        return [i for i, (start, end) in spans if any(interval[0] <= base < interval[1] for base in range(start, end))]

    if len(w.ref_seq[slice(*w.ref_site)]) == len(w.alt_seq[slice(*w.alt_site)]):
        of_ref, of_alt = (list(zip(e.spans, e.ids, strict=True)) for e in (ref, alt))
        at_ref = [i for i, token in enumerate(of_ref) if token not in of_alt]
        at_alt = [i for i, token in enumerate(of_alt) if token not in of_ref]
        own = alt.ids if ref.spans != alt.spans else ref.ids
    else:
        (at_ref, at_alt), own = (over(e, i) for e, i in zip((ref, alt), compared(w, 0, 0), strict=True)), alt.ids
    found = {
        "masked_llr": sum(log_p(hidden(alt.ids, at_alt), i, alt.ids[i]) for i in at_alt)
        - sum(log_p(hidden(ref.ids, at_ref), i, ref.ids[i]) for i in at_ref),
        "unmasked_llr": sum(log_p(own, i, alt.ids[i]) for i in at_alt)
        - sum(log_p(ref.ids, i, ref.ids[i]) for i in at_ref),
    }
    one, two = (
        sum(log_p(hidden(e.ids, [i]), i, e.ids[i]) for i in over(e, interval))
        for e, interval in zip((ref, alt), compared(w, span, span), strict=True)
    )
    return {**found, "pll": two - one}


@torch.no_grad()
def distances(loaded: Loaded, w: Windows, pool: str) -> dict[str, float]:
    """cosine, l1, l2, dot."""
    vectors = []
    for sequence, (start, end) in ((w.ref_seq, w.ref_site), (w.alt_seq, w.alt_site)):
        encoded = loaded.tokenizer.encode(sequence, special=loaded.card.special_tokens)
        tap = loaded.module.last_hidden
        states = loaded.module(torch.tensor([encoded.ids]), taps=(tap,)).taps[tap][0].double()
        bases = [i for i, (first, last) in enumerate(encoded.spans) if last > first]
        if pool.startswith("site"):
            first, last = start - int(pool[5:] or 0), end + int(pool[5:] or 0)
            bases = [i for i in bases if encoded.spans[i][0] < last and encoded.spans[i][1] > first]
        kept = states[0:1] if pool == "cls" else states[bases]
        if pool == "max":
            vectors.append(kept.amax(0))
        elif pool in ("last", "flat"):
            vectors.append(kept[-1] if pool == "last" else kept.flatten())
        else:
            vectors.append(kept.mean(0))
    if vectors[0].shape != vectors[1].shape:
        return {}
    a, b = vectors
    return {
        "cosine": float(1 - (a @ b) / (a.norm() * b.norm())),
        "l1": float((a - b).abs().sum()),
        "l2": float((a - b).norm()),
        "dot": float(a @ b),
    }

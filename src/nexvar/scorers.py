"""Readouts of a variant: what one number says about an allele, given its two windows on one strand.

    likelihood   llr, llr_sum               log-likelihood of the alternative window minus the reference's, mean | sum
                 llr_acgt, llr_acgt_sum     the same, softmax over the four nucleotides
                 site                       log p(alternative allele | what precedes) - log p(reference allele | …)
    masked       masked_llr                 the tokens that differ are masked: log p(alternative) - log p(reference)
                 unmasked_llr               the same, nothing masked: one pass of the window serves every site in it
                 pll                        pseudo-log-likelihood of a span: its tokens masked one at a time
    embedding    cosine, l1, l2, dot        between the pooled hidden states of the two windows

Every family of readouts is one pass over the model, whichever of its readouts are asked for.
Sources: Brixi et al. 2025 (llr); TraitGym (llr_sum, embeddings); Benegas et al. 2023, GPN (masked_llr); AIDO.DNA
(unmasked_llr); Salazar et al. 2020 (pll); Dalla-Torre et al. 2024 (embeddings).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nexvar.engine import Likelihood, Member, Tally, in_batches, log_likelihoods, next_tokens, padded, run_fitting
from nexvar.errors import NexVarError
from nexvar.load import Loaded
from nexvar.readout import DISTANCES, coarser, distance, pool
from nexvar.sequences import token_ids
from nexvar.windows import Windows

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
    "site": "log p(alternative allele) - log p(reference allele), each given the bases before it",
    "masked_llr": "log p(alternative) - log p(reference) at the masked tokens that differ",
    "unmasked_llr": "log p(alternative) - log p(reference) at the tokens that differ, none of them masked",
    "pll": "pseudo-log-likelihood of the alternative span minus that of the reference span, one token masked at a time",
    "cosine": "1 - cosine of the pooled embeddings of the two windows",
    "l1": "L1 distance of the pooled embeddings of the two windows",
    "l2": "L2 distance of the pooled embeddings of the two windows",
    "dot": "inner product of the pooled embeddings of the two windows",
}
POOLS = "mean, max, last, cls, site, site+N (the allele and N bases on each side), flat"

Values = dict[str, float]  # readout -> value


@dataclass(frozen=True)
class How:
    """Settings of the readouts.

    layer: a tap for the embeddings (default: the last hidden state). pool: one of ``POOLS``; "flat" compares all
    positions as one vector. begin: tokens before a sequence; None: the card's. span: bases on each side of the allele
    that belong to the span of ``pll``.
    """

    readouts: tuple[str, ...]
    batch_tokens: int
    share: bool = True
    layer: str | None = None
    pool: str = "mean"
    begin: tuple[int, ...] | None = None
    span: int = 0


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
    if len(set(readouts)) < len(readouts):
        raise NexVarError(f"the same readout twice: {','.join(readouts)}", where="--readout", fix="name each once")


def check_pool(method: str, loaded: Loaded) -> None:
    """NexVarError for a pooling that does not exist or that this model's tokens do not have."""
    if method not in ("mean", "max", "last", "cls", "site", "flat") and not re.fullmatch(r"site\+[0-9]{1,7}", method):
        raise NexVarError(f"no pooling {method!r}", where="--pool", fix=f"one of {POOLS}")
    if method == "cls" and (getattr(loaded.tokenizer, "cls_id", None) is None or not loaded.card.special_tokens):
        raise NexVarError(f"{loaded.card.name} has no <cls> token", where="--pool", fix="mean or site")


def score_windows(loaded: Loaded, windows: Sequence[Windows], how: How, tally: Tally) -> list[Values]:
    """The readouts of each pair of windows, in order; equal windows are computed once."""
    values: list[Values] = [{} for _ in windows]
    if not windows:
        return values
    families = ((LIKELIHOOD, _likelihoods), (MASKED, _masked), (EMBEDDING, _embeddings))
    chosen = [(scorer, [name for name in how.readouts if name in names]) for names, scorer in families]
    chosen = [(scorer, wanted) for scorer, wanted in chosen if wanted]
    for i, (scorer, wanted) in enumerate(chosen):
        report = tally.progress
        if report is not None:
            tally.progress = lambda share, i=i, report=report: report((i + share) / len(chosen))
        try:
            for value, found in zip(values, scorer(loaded, windows, wanted, how, tally), strict=True):
                value.update(found)
        finally:
            tally.progress = report
    return values


def tokens(loaded: Loaded, sequence: str, begin: Sequence[int] | None = None) -> list[int]:
    """The ids this model is scored on: with the begin or the special tokens that its official scoring has.

    begin: other tokens in front than the card's.
    """
    card = loaded.card
    ids = token_ids(loaded.tokenizer, sequence, special=card.special_tokens)
    if begin is None:
        begin = () if card.bos_id is None else (card.bos_id,)
    return [*begin, *ids]


def _begin(loaded: Loaded, how: How) -> tuple[int, ...]:
    if how.begin is not None:
        return how.begin
    return () if loaded.card.bos_id is None else (loaded.card.bos_id,)


# -- likelihood ---------------------------------------------------------------------------------------------------


def _likelihoods(loaded: Loaded, windows: Sequence[Windows], wanted: list[str], how: How, tally: Tally) -> list[Values]:
    if wanted != ["site"]:
        return _of_whole_windows(loaded, windows, wanted, how, tally)
    single = [w.ref_site[1] - w.ref_site[0] == w.alt_site[1] - w.alt_site[0] == 1 for w in windows]
    direct = iter(_of_single_bases(loaded, [w for w, one in zip(windows, single, strict=True) if one], how, tally))
    longer = [_up_to_site(w) for w, one in zip(windows, single, strict=True) if not one]
    others = iter(_of_whole_windows(loaded, longer, wanted, how, tally))
    return [next(direct) if one else next(others) for one in single]


def _up_to_site(w: Windows) -> Windows:
    """Without what stands behind the alleles: it does not matter to ``site``."""
    return replace(w, ref_seq=w.ref_seq[: w.ref_site[1]], alt_seq=w.alt_seq[: w.alt_site[1]])


def _of_single_bases(loaded: Loaded, windows: Sequence[Windows], how: How, tally: Tally) -> list[Values]:
    """``site`` of SNVs: one pass of each reference window, read at every site in it."""
    begin = _begin(loaded, how)
    sequences: dict[str, int] = {}
    asked: list[dict[tuple[int, int], None]] = []
    questions = []
    for w in windows:
        index = sequences.setdefault(w.ref_seq, len(sequences))
        if index == len(asked):
            asked.append({})
        at = w.ref_site[0]
        alleles = w.ref_seq[at] + w.alt_seq[w.alt_site[0]]
        pairs = [(at + len(begin), i) for i in loaded.tokenizer.encode(alleles, special=False).ids]
        for pair in pairs:
            if pair not in asked[index]:
                asked[index][pair] = None
                tally.naive += at + len(begin) + 1
        questions.append((index, pairs))
    ids = [tokens(loaded, sequence, begin) for sequence in sequences]
    found = next_tokens(loaded, ids, [list(a) for a in asked], batch_tokens=how.batch_tokens, tally=tally)
    answers = [dict(zip(pairs, values, strict=True)) for pairs, values in zip(asked, found, strict=True)]
    return [{"site": answers[i][alt] - answers[i][ref]} for i, (ref, alt) in questions]


def _of_whole_windows(
    loaded: Loaded, windows: Sequence[Windows], wanted: list[str], how: How, tally: Tally
) -> list[Values]:
    begin, site = _begin(loaded, how), "site" in wanted
    families: list[dict[str, set[int]]] = []  # of each reference window: sequences -> ends of the sites in them
    reference: dict[str, int] = {}
    for w in windows:
        index = reference.setdefault(w.ref_seq, len(families))
        if index == len(families):
            families.append({})
        for sequence, end in ((w.ref_seq, w.ref_site[1]), (w.alt_seq, w.alt_site[1])):
            families[index].setdefault(sequence, set()).update({end + len(begin)} if site else ())
    members = [
        [Member(np.array(tokens(loaded, s, begin)), tuple(sorted(ends))) for s, ends in f.items()] for f in families
    ]
    found = log_likelihoods(
        loaded,
        members,
        batch_tokens=how.batch_tokens,
        share=how.share,
        nucleotides=any("acgt" in name for name in wanted),
        tally=tally,
    )
    place = [{sequence: m for m, sequence in enumerate(family)} for family in families]
    values = []
    for w in windows:
        index = reference[w.ref_seq]
        m = place[index][w.alt_seq]
        ref, alt = found[index][0], found[index][m]
        every = {
            "llr": alt.total / max(alt.predictions, 1) - ref.total / max(ref.predictions, 1),
            "llr_sum": alt.total - ref.total,
            "llr_acgt": alt.nucleotides / max(alt.predictions, 1) - ref.nucleotides / max(ref.predictions, 1),
            "llr_acgt_sum": alt.nucleotides - ref.nucleotides,
        }
        if site:
            until_alt = _until(members[index][m], alt, w.alt_site[1] + len(begin))
            every["site"] = until_alt - _until(members[index][0], ref, w.ref_site[1] + len(begin))
        values.append({name: every[name] for name in wanted})
    return values


def _until(member: Member, found: Likelihood, end: int) -> float:
    return found.until[member.ends.index(end)]


# -- masked -------------------------------------------------------------------------------------------------------


def differing_tokens(ref: Sequence[int], alt: Sequence[int]) -> tuple[int, int, int]:
    """(start, ref_end, alt_end): outside of [start, end) the two tokenisations are the same."""
    shortest = min(len(ref), len(alt))
    start = next((i for i in range(shortest) if ref[i] != alt[i]), shortest)
    tail = next((i for i in range(shortest - start) if ref[-1 - i] != alt[-1 - i]), shortest - start)
    return start, len(ref) - tail, len(alt) - tail


def _tokens_to_mask(loaded: Loaded, w: Windows) -> list[tuple[list[int], int, int]]:
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


def _masked(loaded: Loaded, windows: Sequence[Windows], wanted: list[str], how: How, tally: Tally) -> list[Values]:
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
        questions.append([ask[name](loaded, w, mask, how, passes) for name in wanted])
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
    answers = in_batches(loaded, lengths, how.batch_tokens, compute, tally, pads=loaded.module.pads_safely)

    def total(side: list[_Question]) -> float:
        return sum(answers[i][pair] for i, pairs in side for pair in pairs)

    return [
        {name: total(alt) - total(ref) for name, (ref, alt) in zip(wanted, asked, strict=True)} for asked in questions
    ]


_Question = tuple[int, Sequence[tuple[int, int]]]
_Sides = tuple[list[_Question], list[_Question]]  # of the reference, of the alternative


def _ask_masked(loaded: Loaded, w: Windows, mask: int, how: How, passes: _Passes) -> _Sides:
    ref, alt = (
        [passes.ask([*ids[:start], *[mask] * (end - start), *ids[end:]], list(enumerate(ids[start:end], start)))]
        for ids, start, end in _tokens_to_mask(loaded, w)
    )
    return ref, alt


def _ask_unmasked(loaded: Loaded, w: Windows, mask: int, how: How, passes: _Passes) -> _Sides:
    """Both alleles are read from the reference window; each from its own where they have not as many tokens."""
    (ref, r0, r1), (alt, a0, a1) = _tokens_to_mask(loaded, w)
    own = ref if (r0, r1) == (a0, a1) else alt
    return (
        [passes.ask(ref, list(enumerate(ref[r0:r1], r0)))],
        [passes.ask(own, list(enumerate(alt[a0:a1], a0)))],
    )


def _ask_one_by_one(loaded: Loaded, w: Windows, mask: int, how: How, passes: _Passes) -> _Sides:
    sides: list[list[_Question]] = []
    for sequence, (start, end) in ((w.ref_seq, w.ref_site), (w.alt_seq, w.alt_site)):
        encoded = loaded.tokenizer.encode(sequence, special=loaded.card.special_tokens)
        ids = encoded.ids
        span = encoded.tokens_over(max(start - how.span, 0), min(end + how.span, len(sequence)))
        sides.append([passes.ask([*ids[:i], mask, *ids[i + 1 :]], [(i, ids[i])]) for i in span])
    return sides[0], sides[1]


# -- embedding ----------------------------------------------------------------------------------------------------


def _embeddings(loaded: Loaded, windows: Sequence[Windows], wanted: list[str], how: How, tally: Tally) -> list[Values]:
    tally.naive += sum(len(w.ref_seq) + len(w.alt_seq) for w in windows)
    if how.pool == "flat":
        return _flat(loaded, windows, wanted, how, tally)
    flank = int(how.pool.partition("+")[2] or 0)
    by_site = how.pool.startswith("site")
    keys = [
        [(w.ref_seq, w.ref_site), (w.alt_seq, w.alt_site)] if by_site else [(w.ref_seq, None), (w.alt_seq, None)]
        for w in windows
    ]
    places: dict[str, dict[tuple[int, int] | None, int]] = {}  # sequence -> site -> row of the vectors
    count = 0
    for pair in keys:
        for sequence, place in pair:
            sites = places.setdefault(sequence, {})
            if place not in sites:
                sites[place], count = count, count + 1
    sites_of = [[place for place in sites if place is not None] for sites in places.values()]
    found = pooled_sites(loaded, list(places), sites_of, how, flank, tally)
    vectors_ND = torch.empty(count, found[0].shape[1])
    for sites, vectors in zip(places.values(), found, strict=True):
        vectors_ND[list(sites.values())] = vectors
    ref = vectors_ND[[places[s][place] for (s, place), _ in keys]]
    alt = vectors_ND[[places[s][place] for _, (s, place) in keys]]
    columns = {name: distance(ref, alt, name).tolist() for name in wanted}
    return [{name: column[i] for name, column in columns.items()} for i in range(len(windows))]


def pooled(
    loaded: Loaded, sequences: Sequence[str], *, layer: str | None, method: str, batch_tokens: int, tally: Tally
) -> Tensor:
    """(N, D) float32 on the CPU: one vector per sequence; special tokens and padding never enter but by "cls"."""
    how = How((), batch_tokens, layer=layer, pool=method)
    return torch.cat(pooled_sites(loaded, sequences, [[] for _ in sequences], how, 0, tally))


def pooled_sites(
    loaded: Loaded,
    sequences: Sequence[str],
    sites: Sequence[Sequence[tuple[int, int]]],
    how: How,
    flank: int,
    tally: Tally,
) -> list[Tensor]:
    """Of each sequence (n, D) float32 on the CPU: one vector for each of its sites, or one for all of it.

    A site's vector is the mean over the tokens that share a base with it or with ``flank`` bases on either side.
    What ``loaded.cache`` has is not computed.
    """
    check_pool(how.pool, loaded)
    if loaded.cache is None:
        return _compute_pooled(loaded, sequences, sites, how, flank, tally)
    settings = (how.layer or loaded.module.last_hidden, how.pool, repr(_begin(loaded, how)))
    keys = [("readout", *settings, repr(list(s)), text) for s, text in zip(sites, sequences, strict=True)]
    found = loaded.cache.get(keys)
    new = [i for i, vectors in enumerate(found) if vectors is None]
    if new:
        chosen = [sequences[i] for i in new], [sites[i] for i in new]
        computed = _compute_pooled(loaded, *chosen, how, flank, tally)
        loaded.cache.put([keys[i] for i in new], computed)
        for i, vectors in zip(new, computed, strict=True):
            found[i] = vectors
    return [vectors for vectors in found if vectors is not None]


def _compute_pooled(
    loaded: Loaded,
    sequences: Sequence[str],
    sites: Sequence[Sequence[tuple[int, int]]],
    how: How,
    flank: int,
    tally: Tally,
) -> list[Tensor]:
    """``pooled_sites`` by the model."""
    begin = _begin(loaded, how)
    tap = how.layer or loaded.module.last_hidden
    stride = getattr(loaded.module, "tap_stride", {}).get(tap, 1)  # U-Nets have taps of a lower resolution
    encoded = [loaded.tokenizer.encode(s, special=loaded.card.special_tokens) for s in sequences]
    special = torch.tensor(sorted(loaded.tokenizer.special_ids), device=loaded.device)
    method = "mean" if how.pool == "cls" or how.pool.startswith("site") else how.pool

    def kept(i: int, width: int) -> Tensor:
        """(n, width): the tokens of each site of sequence i."""
        keep = torch.zeros(len(sites[i]), width, dtype=torch.bool)
        for row, (start, end) in enumerate(sites[i]):
            over = encoded[i].tokens_over(max(start - flank, 0), end + flank)
            keep[row, [token + len(begin) for token in over]] = True
        return keep.to(loaded.device)

    @torch.inference_mode()
    def compute(batch: list[int]) -> list[Tensor]:
        ids_BL, mask_BL = padded(loaded, [[*begin, *encoded[i].ids] for i in batch])
        hidden = loaded.module(ids_BL, mask_BL=mask_BL, taps=(tap,), logits=False).taps[tap]
        tally.computed += ids_BL.numel()
        real_BL = mask_BL & ~torch.isin(ids_BL, special)
        if how.pool == "cls":
            real_BL = torch.arange(ids_BL.shape[1], device=loaded.device).expand_as(ids_BL) == 0
        if not how.pool.startswith("site"):
            return list(pool(hidden, coarser(real_BL, stride), method).cpu()[:, None])
        found = []
        for row, i in enumerate(batch):
            keep_NL = coarser(kept(i, ids_BL.shape[1]), stride)
            found.append(torch.cat([pool(hidden[row, None], keep[None], "mean") for keep in keep_NL]).cpu())
        return found

    lengths = [len(begin) + len(e.ids) for e in encoded]
    return in_batches(loaded, lengths, how.batch_tokens, compute, tally, pads=loaded.module.pads_safely)


def _flat(loaded: Loaded, windows: Sequence[Windows], wanted: list[str], how: How, tally: Tally) -> list[Values]:
    """Distances between all positions of the two windows, as one vector each; a reference runs with its alternatives,
    since hidden states of whole windows are too large to keep."""
    begin = _begin(loaded, how)
    tap = how.layer or loaded.module.last_hidden
    families: dict[str, dict[str, int]] = {}
    for w in windows:
        family = families.setdefault(w.ref_seq, {})
        family.setdefault(w.alt_seq, len(family))
    most = max(1, how.batch_tokens // max(len(w.ref_seq) for w in windows) - 1) if windows else 1
    jobs = [
        (ref, alts[at : at + most]) for ref, family in families.items() for alts in [list(family)]
        for at in range(0, len(alts), most)
    ]  # fmt: skip
    special = torch.tensor(sorted(loaded.tokenizer.special_ids), device=loaded.device)
    answers: dict[tuple[str, str], Values] = {}

    @torch.inference_mode()
    def compute(batch: list[tuple[str, list[str]]]) -> list[list[Values]]:
        found = []
        for ref, alts in batch:
            rows = [tokens(loaded, s, begin) for s in (ref, *alts)]
            if len({len(row) for row in rows}) > 1:
                raise NexVarError(
                    f"the two windows have {len(rows[0])} and {max(map(len, rows))} tokens and cannot be compared flat",
                    where="--pool",
                    fix="mean, or a model with a token for each base",
                )
            ids_BL, mask_BL = padded(loaded, rows)
            hidden = loaded.module(ids_BL, mask_BL=mask_BL, taps=(tap,), logits=False).taps[tap].float()
            tally.computed += ids_BL.numel()
            stride = getattr(loaded.module, "tap_stride", {}).get(tap, 1)
            real_BL = coarser(mask_BL & ~torch.isin(ids_BL, special), stride)
            flat = hidden.masked_fill(~real_BL[..., None], 0.0).flatten(1)
            columns = {n: distance(flat[:1].expand(len(alts), -1), flat[1:], n).tolist() for n in wanted}
            found.append([{n: column[i] for n, column in columns.items()} for i in range(len(alts))])
        return found

    for done, job in enumerate(jobs, 1):
        ref, alts = job
        for alt, values in zip(alts, _fitting_alts(loaded, job, compute), strict=True):
            answers[ref, alt] = values
        tally.done(done / len(jobs))
    return [answers[w.ref_seq, w.alt_seq] for w in windows]


def _fitting_alts(
    loaded: Loaded,
    job: tuple[str, list[str]],
    compute: Callable[[list[tuple[str, list[str]]]], list[list[Values]]],
) -> list[Values]:
    """One reference with its alternatives; fewer at a time when memory runs out."""
    ref, alts = job

    def halves(job: tuple[str, list[str]]) -> list[tuple[str, list[str]]]:
        half = len(job[1]) // 2
        return [(ref, part) for part in (job[1][:half], job[1][half:]) if part]

    return run_fitting(
        loaded, [(ref, alts)], compute, halves, lambda parts: [v for p in parts for v in p], lambda job: len(job[0])
    )[0]

"""Likelihood readouts of causal models: of whole windows, and at the site alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nexvar.genome.windows import Windows
from nexvar.inference.core.batching import Tally
from nexvar.inference.core.likelihood import Likelihood, Member, log_likelihoods, next_tokens
from nexvar.inference.scorers.settings import ReadoutSettings, Values, begin_tokens, tokens
from nexvar.weights.load import Loaded


def likelihoods(
    loaded: Loaded, windows: Sequence[Windows], wanted: list[str], settings: ReadoutSettings, tally: Tally
) -> list[Values]:
    if wanted != ["site"]:
        return _of_whole_windows(loaded, windows, wanted, settings, tally)
    bases = [(w.ref_site[1] - w.ref_site[0], w.alt_site[1] - w.alt_site[0]) for w in windows]
    single = [lengths == (1, 1) and settings.span == 0 for lengths in bases]
    direct = iter(_of_single_bases(loaded, [w for w, one in zip(windows, single, strict=True) if one], settings, tally))
    longer = [_up_to_site(w, settings.span) for w, one in zip(windows, single, strict=True) if not one]
    others = iter(_of_whole_windows(loaded, longer, wanted, settings, tally))
    return [next(direct) if one else next(others) for one in single]


def _ends(w: Windows, span: int) -> tuple[int, int]:
    """Where ``site`` ends in the two windows: behind the allele and the ``span`` bases, or as many as both have."""
    behind = min(span, len(w.ref_seq) - w.ref_site[1], len(w.alt_seq) - w.alt_site[1])
    return w.ref_site[1] + behind, w.alt_site[1] + behind


def _up_to_site(w: Windows, span: int) -> Windows:
    """Without what does not matter to ``site``."""
    ref_end, alt_end = _ends(w, span)
    return replace(w, ref_seq=w.ref_seq[:ref_end], alt_seq=w.alt_seq[:alt_end])


def _of_single_bases(
    loaded: Loaded, windows: Sequence[Windows], settings: ReadoutSettings, tally: Tally
) -> list[Values]:
    """``site`` of SNVs: one pass of each reference window, read at every site in it."""
    begin = begin_tokens(loaded, settings)
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
    found = next_tokens(loaded, ids, [list(a) for a in asked], batch_tokens=settings.batch_tokens, tally=tally)
    answers = [dict(zip(pairs, values, strict=True)) for pairs, values in zip(asked, found, strict=True)]
    return [{"site": answers[i][alt] - answers[i][ref]} for i, (ref, alt) in questions]


def _of_whole_windows(
    loaded: Loaded, windows: Sequence[Windows], wanted: list[str], settings: ReadoutSettings, tally: Tally
) -> list[Values]:
    begin, site = begin_tokens(loaded, settings), "site" in wanted
    families: list[dict[str, set[int]]] = []  # of each reference window: sequences -> ends of the sites in them
    reference: dict[str, int] = {}
    for w in windows:
        index = reference.setdefault(w.ref_seq, len(families))
        if index == len(families):
            families.append({})
        for sequence, end in zip((w.ref_seq, w.alt_seq), _ends(w, settings.span), strict=True):
            families[index].setdefault(sequence, set()).update({end + len(begin)} if site else ())
    members = [
        [Member(np.array(tokens(loaded, s, begin)), tuple(sorted(ends))) for s, ends in f.items()] for f in families
    ]
    found = log_likelihoods(
        loaded,
        members,
        batch_tokens=settings.batch_tokens,
        share=settings.share,
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
            ref_end, alt_end = _ends(w, settings.span)
            until_alt = _until(members[index][m], alt, alt_end + len(begin))
            every["site"] = until_alt - _until(members[index][0], ref, ref_end + len(begin))
        values.append({name: every[name] for name in wanted})
    return values


def _until(member: Member, found: Likelihood, end: int) -> float:
    return found.until[member.ends.index(end)]

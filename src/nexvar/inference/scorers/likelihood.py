"""Likelihood readouts of causal models: of whole windows, and at the site alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nexvar.genome.windows import Windows
from nexvar.inference.core.batching import Tally
from nexvar.inference.core.likelihood import Member, count_tokens, log_likelihoods, next_tokens
from nexvar.inference.scorers.settings import ReadoutSettings, Values, begin_tokens, tokens
from nexvar.inference.scorers.stretch import Interval, stretch
from nexvar.weights.load import Loaded

Site = tuple[Interval, Interval]  # in the reference and in the alternative window
Ends = tuple[int, ...]  # numbers of tokens of one window, see ``Member.ends``


def likelihoods(
    loaded: Loaded, windows: Sequence[Windows], wanted: list[str], settings: ReadoutSettings, tally: Tally
) -> list[Values]:
    sites = [stretch(w, behind=settings.span) for w in windows] if "site" in wanted else []
    if wanted != ["site"]:
        return _of_whole_windows(loaded, windows, sites, wanted, settings, tally)
    direct, longer = _direct_and_longer(windows, sites)
    of_direct = _of_single_bases(loaded, [windows[i] for i in direct], [sites[i] for i in direct], settings, tally)
    of_longer = _of_whole_windows(
        loaded, [windows[i] for i in longer], [sites[i] for i in longer], wanted, settings, tally
    )
    of_window = dict(zip([*direct, *longer], [*of_direct, *of_longer], strict=True))
    return [of_window[i] for i in range(len(windows))]


def count(loaded: Loaded, windows: Sequence[Windows], wanted: list[str], settings: ReadoutSettings) -> Tally:
    """The tokens that ``likelihoods`` would compute, padding aside; nothing is computed, the module is not used."""
    sites = [stretch(w, behind=settings.span) for w in windows] if "site" in wanted else []

    def counted(windows: Sequence[Windows], sites: Sequence[Site]) -> Tally:
        families = _families(loaded, windows, sites, settings, to_sites=wanted == ["site"])[0]
        return count_tokens(families, batch_tokens=settings.batch_tokens, share=settings.share)

    if wanted != ["site"]:
        return counted(windows, sites)
    direct, longer = _direct_and_longer(windows, sites)
    begin = len(begin_tokens(loaded, settings))
    last: dict[str, int] = {}  # reference window -> the last site that is asked of it
    for i in direct:
        last[windows[i].ref_seq] = max(last.get(windows[i].ref_seq, 1), sites[i][0][0] + begin)
    tally = counted([windows[i] for i in longer], [sites[i] for i in longer])
    return Tally(tally.computed + sum(last.values()), tally.naive)


def _direct_and_longer(windows: Sequence[Windows], sites: Sequence[Site]) -> tuple[list[int], list[int]]:
    """Which windows are read at one base of their reference, and which are compared over more."""
    single = [_is_one_token(w, site) for w, site in zip(windows, sites, strict=True)]
    direct, longer = ([i for i, one in enumerate(single) if one is which] for which in (True, False))
    return direct, longer


def _is_one_token(w: Windows, site: Site) -> bool:
    """Whether the two windows are compared at one base and are the same before it: one pass serves both."""
    (ref_at, ref_end), (alt_at, _) = site
    return ref_end == ref_at + 1 and ref_at == alt_at and w.ref_seq[:ref_at] == w.alt_seq[:alt_at]


def _of_single_bases(
    loaded: Loaded, windows: Sequence[Windows], sites: Sequence[Site], settings: ReadoutSettings, tally: Tally
) -> list[Values]:
    """``site`` of single bases: one pass of each reference window, read at every site in it."""
    begin = begin_tokens(loaded, settings)
    sequences: dict[str, int] = {}
    asked: list[dict[tuple[int, int], None]] = []
    questions = []
    for w, ((at, _), _) in zip(windows, sites, strict=True):
        index = sequences.setdefault(w.ref_seq, len(sequences))
        if index == len(asked):
            asked.append({})
        alleles = w.ref_seq[at] + w.alt_seq[at]
        pairs = [(at + len(begin), i) for i in loaded.tokenizer.encode(alleles, special=False).ids]
        for pair in pairs:
            if pair not in asked[index]:
                asked[index][pair] = None
                tally.naive += at + len(begin) + 1
        questions.append((index, pairs))
    ids = [tokens(loaded, sequence, begin) for sequence in sequences]
    log_probs = next_tokens(loaded, ids, [list(a) for a in asked], batch_tokens=settings.batch_tokens, tally=tally)
    answers = [dict(zip(pairs, values, strict=True)) for pairs, values in zip(asked, log_probs, strict=True)]
    return [{"site": answers[i][alt] - answers[i][ref]} for i, (ref, alt) in questions]


def _families(
    loaded: Loaded, windows: Sequence[Windows], sites: Sequence[Site], settings: ReadoutSettings, *, to_sites: bool
) -> tuple[list[list[Member]], list[dict[str, int]], dict[str, int], list[tuple[Ends, Ends]]]:
    """The families of these windows; of each, sequence -> member; reference window -> family; what each pair asks.

    sites: of each pair of windows what ``site`` compares; empty where it is not wanted. to_sites: nothing behind them
    is needed.
    """
    begin = begin_tokens(loaded, settings)
    asked: list[tuple[Ends, Ends]] = [_in_tokens(site, len(begin)) for site in sites] or [((), ())] * len(windows)
    families: list[dict[str, set[int]]] = []  # of each reference window: sequences -> ends that are asked of them
    reference: dict[str, int] = {}
    for w, ends in zip(windows, asked, strict=True):
        index = reference.setdefault(w.ref_seq, len(families))
        if index == len(families):
            families.append({})
        for sequence, of_sequence in zip((w.ref_seq, w.alt_seq), ends, strict=True):
            families[index].setdefault(sequence, set()).update(of_sequence)

    def member(sequence: str, ends: set[int]) -> Member:
        needed = sequence[: max(max(ends) - len(begin), 1)] if to_sites else sequence
        return Member(np.array(tokens(loaded, needed, begin)), tuple(sorted(ends)))

    members = [[member(sequence, ends) for sequence, ends in family.items()] for family in families]
    place = [{sequence: m for m, sequence in enumerate(family)} for family in families]
    return members, place, reference, asked


def _of_whole_windows(
    loaded: Loaded,
    windows: Sequence[Windows],
    sites: Sequence[Site],
    wanted: list[str],
    settings: ReadoutSettings,
    tally: Tally,
) -> list[Values]:
    """sites: of each pair of windows what ``site`` compares; empty where it is not wanted."""
    members, place, reference, asked = _families(loaded, windows, sites, settings, to_sites=wanted == ["site"])
    likelihoods = log_likelihoods(
        loaded,
        members,
        batch_tokens=settings.batch_tokens,
        share=settings.share,
        nucleotides=any("acgt" in name for name in wanted),
        tally=tally,
    )
    until = [
        [dict(zip(member.ends, found.until, strict=True)) for member, found in zip(family, of_family, strict=True)]
        for family, of_family in zip(members, likelihoods, strict=True)
    ]
    values = []
    for w, (ref_ends, alt_ends) in zip(windows, asked, strict=True):
        index = reference[w.ref_seq]
        m = place[index][w.alt_seq]
        ref, alt = likelihoods[index][0], likelihoods[index][m]
        every = {
            "llr": alt.total / max(alt.predictions, 1) - ref.total / max(ref.predictions, 1),
            "llr_sum": alt.total - ref.total,
            "llr_acgt": alt.nucleotides / max(alt.predictions, 1) - ref.nucleotides / max(ref.predictions, 1),
            "llr_acgt_sum": alt.nucleotides - ref.nucleotides,
        }
        if sites:
            of_ref, of_alt = until[index][0], until[index][m]
            (ref_at, ref_end), (alt_at, alt_end) = ref_ends, alt_ends
            every["site"] = (of_alt[alt_end] - of_alt[alt_at]) - (of_ref[ref_end] - of_ref[ref_at])
        values.append({name: every[name] for name in wanted})
    return values


def _in_tokens(site: Site, begin: int) -> tuple[Ends, Ends]:
    """How many tokens stand before and up to the end of what is compared, in each window.

    The first token of a sequence is predicted by nothing: where one window begins with the site, that base counts in
    neither.
    """
    (ref_at, ref_end), (alt_at, alt_end) = site
    unpredicted = min(ref_at, alt_at) + begin == 0 and ref_end > ref_at
    return (ref_at + begin + unpredicted, ref_end + begin), (alt_at + begin + unpredicted, alt_end + begin)

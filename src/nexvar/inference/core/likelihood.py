"""Runs a model over many sequences and never computes a shared beginning twice.

Work comes as families: lists of sequences that may begin alike, such as one reference window and its alternative
windows. For a causal model the common prefix is computed once; each member then runs its own rest from a branch of
the cache. Members that leave the first one at different places (the variants of a tile) branch off along it:

    first    =====+=========+==============          computed once, from left to right
    others        +---------------------- a, b       each from its own branch point, in batches
                            +------------ c

The result is that of every sequence alone (float32: within 1e-5), whatever is in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nexvar.inference.core.batching import Tally, in_batches, padded, run_fitting, run_whole
from nexvar.inference.core.readout import next_token_log_probs, nucleotide_log_probs
from nexvar.weights.load import Loaded

SHORTEST_SHARED_PREFIX = 64  # below this a branch costs more than it saves; branch points nearer than this are one
# Longest piece of a sequence in one forward; longer inputs carry the cache over pieces, unless the model says by
# ``bounded_forward`` that its forward walks pieces itself (HyenaDNA: a convolution in pieces costs more than a whole).
CHUNK = 16_384


# -- causal likelihoods -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """One sequence of a family. ends: numbers of tokens, from the beginning, whose likelihood is asked for too."""

    ids: Sequence[int] | np.ndarray
    ends: tuple[int, ...] = ()


Family = Sequence[Member]


@dataclass(frozen=True)
class Likelihood:
    """Sums of log p(token | tokens before) over one sequence, from its second token on; natural log, float64.

    total: all tokens. nucleotides: all A, C, G, T under the softmax over these four (0.0 unless asked for).
    until: for each of ``Member.ends``, the tokens before it. predictions: how many tokens ``total`` sums.
    """

    total: float
    nucleotides: float
    until: tuple[float, ...]
    predictions: int


@dataclass(frozen=True)
class _Job:
    """The members of one family that run together: ``shared`` tokens once, then each member's rest."""

    family: int
    members: tuple[int, ...]
    shared: int
    longest: int


def log_likelihoods(
    loaded: Loaded,
    families: Sequence[Family],
    *,
    batch_tokens: int,
    share: bool = True,
    nucleotides: bool = False,
    tally: Tally | None = None,
) -> list[list[Likelihood]]:
    """The likelihood of every member of every family under a causal model.

    batch_tokens: about how many tokens run in one forward; halved until it fits when memory runs out.
    share: False runs every sequence alone from its beginning.
    """
    tally = tally if tally is not None else Tally()
    alone: list[_Job] = []
    chains: list[list[_Job]] = []
    for i, family in enumerate(families):
        branches = _branches(i, family, share)
        alone += [job for job in branches if not job.shared]
        branched = [job for job in branches if job.shared]
        if len(branched) > 1:
            chains.append(branched)
        else:
            alone += branched
    alone.sort(key=lambda job: (job.shared, job.longest))
    walker = _Walker(loaded, families, nucleotides, tally)
    results: dict[tuple[int, int], Likelihood] = {}
    count = sum(len(family) for family in families)

    def keep(jobs: Sequence[_Job], values: Sequence[list[Likelihood]]) -> None:
        for job, found in zip(jobs, values, strict=True):
            results.update(zip(((job.family, m) for m in job.members), found, strict=True))
        tally.done(len(results) / count)

    for batch in _batches(alone, batch_tokens):
        joined = run_fitting(
            loaded, batch, walker.together, _halves, lambda parts: [v for part in parts for v in part], _longest
        )
        keep(batch, joined)
    for chain in chains:
        for job, values in walker.along(chain, batch_tokens):
            keep([job], [values])
    tally.naive += sum(len(member.ids) for family in families for member in family)
    return [[results[i, m] for m in range(len(family))] for i, family in enumerate(families)]


def count_tokens(families: Sequence[Family], *, share: bool = True) -> Tally:
    """What ``log_likelihoods`` would compute, padding aside, without computing it."""
    tally = Tally()
    for i, family in enumerate(families):
        lengths = [len(member.ids) for member in family]
        here = 0
        for job in sorted(_branches(i, family, share), key=lambda job: job.shared):
            tally.computed += max(job.shared - here, 0) + sum(lengths[m] - job.shared for m in job.members)
            here = max(here, job.shared)
        tally.naive += sum(lengths)
    return tally


def _branches(index: int, family: Family, share: bool) -> list[_Job]:
    """A family as jobs by where members leave the first one; ``shared`` 0: alone, from the beginning."""
    lengths = [len(member.ids) for member in family]
    if not share or len(family) == 1:
        return [_Job(index, (m,), 0, lengths[m]) for m in range(len(family))]
    leaves = _leaves(family)
    leaves[0] = max(leaves[1:])  # the first runs on from the last branch point
    alone: list[int] = []
    groups: list[list[int]] = []
    for m in sorted(range(len(family)), key=lambda m: leaves[m]):
        if leaves[m] < SHORTEST_SHARED_PREFIX:
            alone.append(m)
        elif groups and leaves[m] < leaves[groups[-1][0]] + SHORTEST_SHARED_PREFIX:
            groups[-1].append(m)
        else:
            groups.append([m])
    if len(groups) == 1 and len(groups[0]) == 1:
        alone += groups.pop()
    branched = [_Job(index, tuple(sorted(g)), leaves[g[0]], max(lengths[m] for m in g)) for g in groups]
    return [_Job(index, (m,), 0, lengths[m]) for m in alone] + branched


def _leaves(family: Family) -> list[int]:
    """Of each member, how many tokens it begins with as the first does, at least one short of both."""
    first = np.asarray(family[0].ids)
    found = []
    for member in family:
        other = np.asarray(member.ids)
        shortest = min(len(first), len(other))
        differs = np.flatnonzero(first[:shortest] != other[:shortest])
        found.append(min(int(differs[0]) if len(differs) else shortest, shortest - 1))
    return found


def _longest(job: _Job) -> int:
    return job.longest


def _halves(job: _Job) -> list[_Job]:
    half = len(job.members) // 2
    parts = [members for members in (job.members[:half], job.members[half:]) if members]
    return [_Job(job.family, members, job.shared, job.longest) for members in parts]


def _batches(jobs: list[_Job], batch_tokens: int) -> Iterator[list[_Job]]:
    """Consecutive jobs of equal prefix whose padded size stays within ``batch_tokens`` (one job at least)."""
    batch: list[_Job] = []
    rows = 0
    for job in jobs:
        width = max(job.shared, job.longest - job.shared)
        if batch and (job.shared != batch[0].shared or (rows + len(job.members)) * width > batch_tokens):
            yield batch
            batch, rows = [], 0
        batch.append(job)
        rows += len(job.members)
    if batch:
        yield batch


@dataclass
class _Asked:
    """Which partial sums are asked for: the tokens of row ``rows_E[e]`` before ``ends_E[e]``."""

    rows_E: Tensor
    ends_E: Tensor

    def shifted(self, by: int) -> _Asked:
        return _Asked(self.rows_E, self.ends_E - by)

    def on_rows(self, rows_B: Tensor) -> _Asked:
        return _Asked(rows_B[self.rows_E], self.ends_E)


@dataclass
class _Sums:
    """totals_B2: (B, 2) float64, all tokens and nucleotides; until_E: see ``_Asked``; after_BV: logits behind the
    last token."""

    totals_B2: Tensor
    until_E: Tensor
    after_BV: Tensor


@dataclass
class _Walker:
    """Computes jobs: prefixes once, then the branches."""

    loaded: Loaded
    families: Sequence[Family]
    nucleotides: bool
    tally: Tally

    def asked(self, members: Sequence[Member]) -> _Asked:
        """The ends of all these members, one row each."""
        pairs = [(row, end) for row, member in enumerate(members) for end in member.ends]
        found = torch.tensor(pairs, dtype=torch.long, device=self.loaded.device).reshape(-1, 2)
        return _Asked(found[:, 0], found[:, 1])

    @torch.inference_mode()
    def together(self, batch: list[_Job]) -> list[list[Likelihood]]:
        """Jobs of one length of prefix: all prefixes in one forward, then all rests in another."""
        shared, module, device = batch[0].shared, self.loaded.module, self.loaded.device
        members = [self.families[job.family][m] for job in batch for m in job.members]
        asked = self.asked(members)
        longest = max(len(member.ids) for member in members)
        if not shared:
            cache = None
            if longest > CHUNK and not getattr(module, "bounded_forward", False):
                cache = module.new_cache(len(members), longest)
            return self._by_job(batch, members, self._rest(members, 0, cache, None, asked), asked)
        beginnings = np.stack([self.families[job.family][job.members[0]].ids[:shared] for job in batch])
        prefixes_BL = torch.tensor(beginnings, device=device)
        rows_B = torch.tensor([i for i, job in enumerate(batch) for _ in job.members], device=device)
        cache = module.new_cache(len(batch), longest)
        real_BL = torch.ones_like(prefixes_BL, dtype=torch.bool)
        prefix = self._sums(prefixes_BL, real_BL, asked.on_rows(rows_B), cache, None)
        own = self._rest(members, shared, cache.select(rows_B), prefix.after_BV[rows_B], asked)
        own.totals_B2 += prefix.totals_B2[rows_B]
        own.until_E += prefix.until_E
        return self._by_job(batch, members, own, asked)

    @torch.inference_mode()
    def along(self, chain: Sequence[_Job], batch_tokens: int) -> Iterator[tuple[_Job, list[Likelihood]]]:
        """The jobs of one family, in order of their branch points along its first member."""
        loaded, family = self.loaded, self.families[chain[0].family]
        trunk_1L = torch.as_tensor(family[0].ids, device=loaded.device)[None]
        cache = loaded.module.new_cache(1, max(job.longest for job in chain))
        totals_12 = torch.zeros(1, 2, dtype=torch.float64, device=loaded.device)
        until: dict[int, Tensor] = {
            m: torch.zeros(len(family[m].ends), dtype=torch.float64, device=loaded.device)
            for job in chain
            for m in job.members
        }
        after, here = None, 0
        for index, job in enumerate(chain):
            waiting = [m for later in chain[index:] for m in later.members]  # all still on the one trunk
            asked = self.asked([family[m] for m in waiting])
            asked = _Asked(torch.zeros_like(asked.rows_E), asked.ends_E - here)
            piece = self._trunk(trunk_1L[:, here : job.shared], asked, cache, after)
            totals_12, after, here = totals_12 + piece.totals_B2, piece.after_BV, job.shared
            for m, found in zip(waiting, piece.until_E.split([len(family[m].ends) for m in waiting]), strict=True):
                until[m] = until[m] + found
            compute = partial(self._branch, cache=cache, after_1V=after, totals_12=totals_12, until=until)
            parts = [_Job(job.family, (m,), job.shared, len(family[m].ids)) for m in job.members]
            for batch in _batches(parts, batch_tokens):
                for part, value in zip(batch, run_whole(loaded, batch, compute, _longest), strict=True):
                    yield part, [value]

    def _trunk(self, ids_1L: Tensor, asked: _Asked, cache: Any, before_1V: Tensor | None) -> _Sums:
        real_1L = torch.ones_like(ids_1L, dtype=torch.bool)

        def compute(pieces: list[Tensor]) -> list[_Sums]:
            return [self._sums(pieces[0], real_1L, asked, cache, before_1V)]

        return run_whole(self.loaded, [ids_1L], compute, lambda ids: ids.shape[1])[0]

    def _branch(
        self, jobs: list[_Job], cache: Any, after_1V: Tensor, totals_12: Tensor, until: dict[int, Tensor]
    ) -> list[Likelihood]:
        """One member each, from the trunk's cache."""
        members = [self.families[job.family][job.members[0]] for job in jobs]
        rows_B = torch.zeros(len(jobs), dtype=torch.long, device=self.loaded.device)
        asked = self.asked(members)
        own = self._rest(members, jobs[0].shared, cache.select(rows_B), after_1V[rows_B], asked)
        own.totals_B2 += totals_12
        own.until_E += torch.cat([until[job.members[0]] for job in jobs])
        return [values[0] for values in self._by_job(jobs, members, own, asked)]

    def _rest(
        self, members: Sequence[Member], start: int, cache: Any | None, before_BV: Tensor | None, asked: _Asked
    ) -> _Sums:
        """What stands behind the first ``start`` tokens."""
        ids_BL, real_BL = padded(self.loaded, [member.ids[start:] for member in members])
        return self._sums(ids_BL, real_BL, asked.shifted(start), cache, before_BV)

    def _by_job(
        self, batch: Sequence[_Job], members: Sequence[Member], sums: _Sums, asked: _Asked
    ) -> list[list[Likelihood]]:
        until: list[list[float]] = [[] for _ in members]
        for row, value in zip(asked.rows_E.tolist(), sums.until_E.tolist(), strict=True):
            until[row].append(value)
        values = iter(
            Likelihood(total, nucleotides, tuple(parts), len(member.ids) - 1)
            for member, (total, nucleotides), parts in zip(members, sums.totals_B2.tolist(), until, strict=True)
        )
        return [[next(values) for _ in job.members] for job in batch]

    def _sums(
        self, ids_BL: Tensor, real_BL: Tensor, asked: _Asked, cache: Any | None, before_BV: Tensor | None
    ) -> _Sums:
        """before_BV: the logits that predict the first token; without them the first token is not counted."""
        module, L, device = self.loaded.module, ids_BL.shape[1], ids_BL.device
        bases = list((self.loaded.tokenizer.base_ids() or {}).values()) if self.nucleotides else None
        totals_B2 = torch.zeros(len(ids_BL), 2, dtype=torch.float64, device=device)
        until_E = torch.zeros(len(asked.ends_E), dtype=torch.float64, device=device)
        step = CHUNK if cache is not None else L
        for start in range(0, L, step):
            end = min(start + step, L)
            logits = module(ids_BL[:, start:end], cache=cache).logits
            predictors = logits[:, :-1] if before_BV is None else torch.cat([before_BV[:, None], logits[:, :-1]], 1)
            first = start + (before_BV is None)
            targets, real = ids_BL[:, first:end], real_BL[:, first:end]
            log_probs = next_token_log_probs(predictors, targets).double().masked_fill(~real, 0.0)
            totals_B2[:, 0] += log_probs.sum(-1)
            if len(until_E):
                summed = torch.nn.functional.pad(log_probs.cumsum(-1), (1, 0))
                until_E += summed[asked.rows_E, (asked.ends_E - first).clamp(0, end - first)]
            if bases is not None:
                of_bases = nucleotide_log_probs(predictors, targets, bases).double()
                totals_B2[:, 1] += of_bases.masked_fill(~real, 0.0).sum(-1)
            before_BV = logits[:, -1]
        assert before_BV is not None
        self.tally.computed += ids_BL.numel()
        return _Sums(totals_B2, until_E, before_BV)


# -- single tokens ------------------------------------------------------------------------------------------------


def next_tokens(
    loaded: Loaded,
    sequences: Sequence[Sequence[int]],
    asked: Sequence[Sequence[tuple[int, int]]],
    *,
    batch_tokens: int,
    tally: Tally,
) -> list[list[float]]:
    """log p(token | ``sequence[:position]``) for every (position, token) asked of each sequence: one pass for all.

    Position 0 has nothing before it: 0.0.
    """
    lengths = [max([1, *(position for position, _ in pairs)]) for pairs in asked]  # nothing behind is needed

    @torch.inference_mode()
    def compute(batch: list[int]) -> list[list[float]]:
        module = loaded.module
        ids_BL, _ = padded(loaded, [sequences[i][: lengths[i]] for i in batch])
        L = ids_BL.shape[1]
        pairs = [(row, position - 1, token) for row, i in enumerate(batch) for position, token in asked[i]]
        row_E, at_E, token_E = torch.tensor(pairs, device=loaded.device).reshape(-1, 3).unbind(1)
        values_E = torch.zeros(len(pairs), dtype=torch.float64, device=loaded.device)
        whole = L <= CHUNK or getattr(module, "bounded_forward", False)
        cache = None if whole else module.new_cache(len(batch), L)
        for start in range(0, L, L if whole else CHUNK):
            logits = module(ids_BL[:, start : start + (L if whole else CHUNK)], cache=cache).logits
            here = ((at_E >= start) & (at_E < start + logits.shape[1])).nonzero()[:, 0]
            of_BL = logits.float().logsumexp(-1)
            row, at = row_E[here], at_E[here] - start
            values_E[here] = (logits[row, at, token_E[here]].float() - of_BL[row, at]).double()
        tally.computed += ids_BL.numel()
        return [list(values) for values in _split(values_E.tolist(), [len(asked[i]) for i in batch])]

    return in_batches(loaded, lengths, batch_tokens, compute, tally, pads=True)


def _split(values: list[float], sizes: Sequence[int]) -> Iterator[list[float]]:
    at = 0
    for size in sizes:
        yield values[at : at + size]
        at += size

"""Runs a model over many sequences and never computes a shared beginning twice.

Work comes as families: lists of sequences that may begin alike, such as one reference window and its alternative
windows. For a causal model the common beginning, the trunk, is computed once; each member then runs the rest of its
tokens from a branch of the cache. Members that leave the first one at different places (the variants of a tile)
branch off along it. Four windows of 1,000 tokens, the first and alternatives a, b, c that differ from it at the tokens
200, 500 and 800 (counted from 0), are a trunk and three branches:

    token      0    200       500       800   1,000    tokens
    trunk      =====+=========+=========+                 800   once, from left to right
    a               +--------------------------           800   from the trunk's cache at 200
    b                         +----------------           500   at 500
    c, first                            +------       2 x 200   at 800; the first window goes on from the last point
                                                        2,500   instead of 4 x 1,000

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

from nexvar.inference.core import pieces
from nexvar.inference.core.batching import Tally, in_batches, padded, run_fitting, run_whole
from nexvar.inference.core.pieces import cache_for_pieces, piece_tokens
from nexvar.inference.core.readout import next_token_log_probs, nucleotide_log_probs
from nexvar.weights.load import Loaded

SHORTEST_SHARED_PREFIX = 64  # below this a branch costs more than it saves; branch points nearer than this are one


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
class _Branch:
    """Members of one family that run together: they begin with the first member's ``shared`` tokens.

    shared: 0 for a member that runs alone, from its beginning. longest: tokens of the longest of the members.
    """

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
    computer = _Computer(loaded, families, nucleotides, tally)
    results: dict[tuple[int, int], Likelihood] = {}
    count = sum(len(family) for family in families)

    def keep(branches: Sequence[_Branch], likelihoods: Sequence[list[Likelihood]]) -> None:
        for branch, of_members in zip(branches, likelihoods, strict=True):
            results.update(zip(((branch.family, m) for m in branch.members), of_members, strict=True))
        tally.done(len(results) / count)

    # 1. Which branches mix: those without a trunk, and the only branch of a trunk. Several along one trunk do not.
    mixing: list[_Branch] = []
    along_trunks: list[list[_Branch]] = []
    for i, family in enumerate(families):
        branches = _branches(i, family, share)
        on_trunk = [branch for branch in branches if branch.shared]
        if len(on_trunk) > 1:
            mixing += [branch for branch in branches if not branch.shared]
            along_trunks.append(on_trunk)
        else:
            mixing += branches
    # 2. Those that mix, in batches across families: one forward for their trunks, one for what follows.
    mixing.sort(key=lambda branch: (branch.shared, branch.longest))
    for batch in _batches_of_one_trunk_length(mixing, batch_tokens):
        keep(batch, run_fitting(loaded, batch, computer.mixed, _halves, _joined, _longest))
    # 3. The others, a family at a time, from left to right along its trunk.
    for on_trunk in along_trunks:
        for branch, likelihoods in computer.along_trunk(on_trunk, batch_tokens):
            keep([branch], [likelihoods])
    tally.naive += sum(len(member.ids) for family in families for member in family)
    return [[results[i, m] for m in range(len(family))] for i, family in enumerate(families)]


def count_tokens(families: Sequence[Family], *, share: bool = True) -> Tally:
    """What ``log_likelihoods`` would compute, padding aside, without computing it."""
    tally = Tally()
    for i, family in enumerate(families):
        lengths = [len(member.ids) for member in family]
        trunk = 0  # tokens of it that are counted
        for branch in sorted(_branches(i, family, share), key=lambda branch: branch.shared):
            tally.computed += max(branch.shared - trunk, 0) + sum(lengths[m] - branch.shared for m in branch.members)
            trunk = max(trunk, branch.shared)
        tally.naive += sum(lengths)
    return tally


# -- branches -----------------------------------------------------------------------------------------------------


def _branches(index: int, family: Family, share: bool) -> list[_Branch]:
    """A family's members by where they leave the first one, those alone before the branches of the trunk.

    Members that leave early are not worth a branch and run alone; so does a family's only sharer. Points nearer than
    ``SHORTEST_SHARED_PREFIX`` are one: the earliest of them, which all of its members share.
    """
    lengths = [len(member.ids) for member in family]
    if not share or len(family) == 1:
        return [_Branch(index, (m,), 0, lengths[m]) for m in range(len(family))]
    points = _branch_points(family)
    points[0] = max(points[1:])  # the first member goes on from the last branch point
    alone: list[int] = []
    groups: list[list[int]] = []
    for m in sorted(range(len(family)), key=lambda m: points[m]):
        if points[m] < SHORTEST_SHARED_PREFIX:
            alone.append(m)
        elif groups and points[m] < points[groups[-1][0]] + SHORTEST_SHARED_PREFIX:
            groups[-1].append(m)
        else:
            groups.append([m])
    if len(groups) == 1 and len(groups[0]) == 1:
        alone += groups.pop()
    on_trunk = [_Branch(index, tuple(sorted(g)), points[g[0]], max(lengths[m] for m in g)) for g in groups]
    return [_Branch(index, (m,), 0, lengths[m]) for m in alone] + on_trunk


def _branch_points(family: Family) -> list[int]:
    """Of each member, how many tokens it begins with as the first does, at least one short of both."""
    first = np.asarray(family[0].ids)
    points = []
    for member in family:
        other = np.asarray(member.ids)
        shortest = min(len(first), len(other))
        differs = np.flatnonzero(first[:shortest] != other[:shortest])
        points.append(min(int(differs[0]) if len(differs) else shortest, shortest - 1))
    return points


def _longest(branch: _Branch) -> int:
    return branch.longest


def _halves(branch: _Branch) -> list[_Branch]:
    half = len(branch.members) // 2
    parts = [members for members in (branch.members[:half], branch.members[half:]) if members]
    return [_Branch(branch.family, members, branch.shared, branch.longest) for members in parts]


def _joined(parts: list[list[Likelihood]]) -> list[Likelihood]:
    return [likelihood for part in parts for likelihood in part]


def _batches_of_one_trunk_length(branches: list[_Branch], batch_tokens: int) -> Iterator[list[_Branch]]:
    """Consecutive branches of equal ``shared`` whose padded size stays within ``batch_tokens`` (one at least)."""
    batch: list[_Branch] = []
    rows = 0
    for branch in branches:
        width = max(branch.shared, branch.longest - branch.shared)
        if batch and (branch.shared != batch[0].shared or (rows + len(branch.members)) * width > batch_tokens):
            yield batch
            batch, rows = [], 0
        batch.append(branch)
        rows += len(branch.members)
    if batch:
        yield batch


# -- sums over tokens ---------------------------------------------------------------------------------------------


@dataclass
class _Ends:
    """Which partial sums are asked for, E of them: the tokens of row ``rows_E[e]`` before ``ends_E[e]``."""

    rows_E: Tensor
    ends_E: Tensor

    def from_token(self, start: int) -> _Ends:
        """The same ends, counted from token ``start``."""
        return _Ends(self.rows_E, self.ends_E - start)

    def on_rows(self, rows_B: Tensor) -> _Ends:
        """The same ends, asked of the row that each row came from."""
        return _Ends(rows_B[self.rows_E], self.ends_E)


@dataclass
class _Sums:
    """Sums of log p over the tokens of one stretch: of a trunk, or of what follows it.

    totals_B2: (B, 2) float64, all tokens and nucleotides. until_E: (E,) float64, see ``_Ends``. after_BV: (B, V), the
    logits behind the last token, which predict what follows.
    """

    totals_B2: Tensor
    until_E: Tensor
    after_BV: Tensor


@dataclass
class _Computer:
    """Computes branches: their trunks once, then what follows in each member."""

    loaded: Loaded
    families: Sequence[Family]
    nucleotides: bool
    tally: Tally

    @torch.inference_mode()
    def mixed(self, batch: list[_Branch]) -> list[list[Likelihood]]:
        """Branches of one length of trunk: all trunks in one forward, then all that follows in another."""
        shared, module, device = batch[0].shared, self.loaded.module, self.loaded.device
        members = [self.families[branch.family][m] for branch in batch for m in branch.members]
        ends = self._ends(members)
        longest = max(len(member.ids) for member in members)
        if not shared:
            cache = cache_for_pieces(module, len(members), longest)
            return self._likelihoods(batch, members, self._sums_from(0, members, cache, None, ends), ends)
        trunks = np.stack([self.families[branch.family][branch.members[0]].ids[:shared] for branch in batch])
        trunks_BL = torch.tensor(trunks, device=device)
        rows_B = torch.tensor([i for i, branch in enumerate(batch) for _ in branch.members], device=device)
        cache = module.new_cache(len(batch), longest)
        not_padding_BL = torch.ones_like(trunks_BL, dtype=torch.bool)
        trunk = self._sums(trunks_BL, not_padding_BL, ends.on_rows(rows_B), cache, None)
        own = self._sums_from(shared, members, cache.select(rows_B), trunk.after_BV[rows_B], ends)
        own.totals_B2 += trunk.totals_B2[rows_B]
        own.until_E += trunk.until_E
        return self._likelihoods(batch, members, own, ends)

    @torch.inference_mode()
    def along_trunk(self, branches: Sequence[_Branch], batch_tokens: int) -> Iterator[tuple[_Branch, list[Likelihood]]]:
        """The branches of one family, in the order of their points; yields (branch of one member, its likelihood).

        From point to point: the trunk's next tokens, which count for every member that has not left it yet; then the
        members that leave here, in batches, each from a copy of the trunk's cache.
        """
        loaded, family = self.loaded, self.families[branches[0].family]
        trunk_1L = torch.as_tensor(family[0].ids, device=loaded.device)[None]
        cache = loaded.module.new_cache(1, max(branch.longest for branch in branches))
        totals_12 = torch.zeros(1, 2, dtype=torch.float64, device=loaded.device)
        until: dict[int, Tensor] = {
            m: torch.zeros(len(family[m].ends), dtype=torch.float64, device=loaded.device)
            for branch in branches
            for m in branch.members
        }
        after_1V, here = None, 0
        for index, branch in enumerate(branches):
            still_on = [m for later in branches[index:] for m in later.members]
            ends = self._ends([family[m] for m in still_on]).from_token(here)
            ends = ends.on_rows(torch.zeros(len(still_on), dtype=torch.long, device=loaded.device))
            piece = self._extend_trunk(trunk_1L[:, here : branch.shared], ends, cache, after_1V)
            totals_12, after_1V, here = totals_12 + piece.totals_B2, piece.after_BV, branch.shared
            for m, more in zip(still_on, piece.until_E.split([len(family[m].ends) for m in still_on]), strict=True):
                until[m] = until[m] + more
            compute = partial(self._leave_trunk, cache=cache, after_1V=after_1V, totals_12=totals_12, until=until)
            singles = [_Branch(branch.family, (m,), branch.shared, len(family[m].ids)) for m in branch.members]
            for batch in _batches_of_one_trunk_length(singles, batch_tokens):
                for single, likelihood in zip(batch, run_whole(loaded, batch, compute, _longest), strict=True):
                    yield single, [likelihood]

    def _extend_trunk(self, ids_1L: Tensor, ends: _Ends, cache: Any, before_1V: Tensor | None) -> _Sums:
        not_padding_1L = torch.ones_like(ids_1L, dtype=torch.bool)

        def compute(pieces: list[Tensor]) -> list[_Sums]:
            return [self._sums(pieces[0], not_padding_1L, ends, cache, before_1V)]

        return run_whole(self.loaded, [ids_1L], compute, lambda ids: ids.shape[1])[0]

    def _leave_trunk(
        self, singles: list[_Branch], cache: Any, after_1V: Tensor, totals_12: Tensor, until: dict[int, Tensor]
    ) -> list[Likelihood]:
        """Branches of one member each, from the trunk's cache; the trunk's sums so far are added."""
        members = [self.families[single.family][single.members[0]] for single in singles]
        rows_B = torch.zeros(len(singles), dtype=torch.long, device=self.loaded.device)
        ends = self._ends(members)
        own = self._sums_from(singles[0].shared, members, cache.select(rows_B), after_1V[rows_B], ends)
        own.totals_B2 += totals_12
        own.until_E += torch.cat([until[single.members[0]] for single in singles])
        return [likelihoods[0] for likelihoods in self._likelihoods(singles, members, own, ends)]

    def _ends(self, members: Sequence[Member]) -> _Ends:
        """The ends of all these members, one row each."""
        pairs = [(row, end) for row, member in enumerate(members) for end in member.ends]
        pairs_E2 = torch.tensor(pairs, dtype=torch.long, device=self.loaded.device).reshape(-1, 2)
        return _Ends(pairs_E2[:, 0], pairs_E2[:, 1])

    def _sums_from(
        self, start: int, members: Sequence[Member], cache: Any | None, before_BV: Tensor | None, ends: _Ends
    ) -> _Sums:
        """``_sums`` of the members' tokens from ``start`` on, padded to one length."""
        ids_BL, not_padding_BL = padded(self.loaded, [member.ids[start:] for member in members])
        return self._sums(ids_BL, not_padding_BL, ends.from_token(start), cache, before_BV)

    def _sums(
        self, ids_BL: Tensor, not_padding_BL: Tensor, ends: _Ends, cache: Any | None, before_BV: Tensor | None
    ) -> _Sums:
        """Log-probabilities of these tokens, summed; with a cache in pieces, which it is advanced by.

        before_BV: the logits that predict the first token; without them the first token is not counted.
        """
        module, L, device = self.loaded.module, ids_BL.shape[1], ids_BL.device
        bases = list((self.loaded.tokenizer.base_ids() or {}).values()) if self.nucleotides else None
        totals_B2 = torch.zeros(len(ids_BL), 2, dtype=torch.float64, device=device)
        until_E = torch.zeros(len(ends.ends_E), dtype=torch.float64, device=device)
        step = pieces.PIECE_TOKENS if cache is not None else L
        for start in range(0, L, step):
            end = min(start + step, L)
            logits = module(ids_BL[:, start:end], cache=cache).logits
            # The logits at a token predict the next one: those of the piece, behind the last ones of the piece before.
            predictors = logits[:, :-1] if before_BV is None else torch.cat([before_BV[:, None], logits[:, :-1]], 1)
            first = start + (before_BV is None)
            targets, counted = ids_BL[:, first:end], not_padding_BL[:, first:end]
            log_probs = next_token_log_probs(predictors, targets).double().masked_fill(~counted, 0.0)
            totals_B2[:, 0] += log_probs.sum(-1)
            if len(until_E):
                summed = torch.nn.functional.pad(log_probs.cumsum(-1), (1, 0))
                until_E += summed[ends.rows_E, (ends.ends_E - first).clamp(0, end - first)]
            if bases is not None:
                of_bases = nucleotide_log_probs(predictors, targets, bases).double()
                totals_B2[:, 1] += of_bases.masked_fill(~counted, 0.0).sum(-1)
            before_BV = logits[:, -1]
        assert before_BV is not None
        self.tally.computed += ids_BL.numel()
        return _Sums(totals_B2, until_E, before_BV)

    def _likelihoods(
        self, batch: Sequence[_Branch], members: Sequence[Member], sums: _Sums, ends: _Ends
    ) -> list[list[Likelihood]]:
        """The rows' sums as likelihoods, a list for each branch."""
        until: list[list[float]] = [[] for _ in members]
        for row, value in zip(ends.rows_E.tolist(), sums.until_E.tolist(), strict=True):
            until[row].append(value)
        likelihoods = iter(
            Likelihood(total, nucleotides, tuple(parts), len(member.ids) - 1)
            for member, (total, nucleotides), parts in zip(members, sums.totals_B2.tolist(), until, strict=True)
        )
        return [[next(likelihoods) for _ in branch.members] for branch in batch]


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
        cache, step = cache_for_pieces(module, len(batch), L), piece_tokens(module, L)
        for start in range(0, L, step):
            logits = module(ids_BL[:, start : start + step], cache=cache).logits
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

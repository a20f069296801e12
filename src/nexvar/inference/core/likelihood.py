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

The trunks of many families go forward together, as rows of one cache, and whatever leaves them near one place leaves
together. The result is that of every sequence alone (float32: within 1e-5), whatever is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nexvar.inference.core import pieces
from nexvar.inference.core.batching import Tally, in_batches, padded, run_whole, token_bytes
from nexvar.inference.core.pieces import cache_for_pieces, piece_tokens
from nexvar.inference.core.readout import next_token_log_probs, nucleotide_log_probs
from nexvar.threads import largest_matrix, threads_for
from nexvar.weights.footprint import held_bytes
from nexvar.weights.load import Loaded

FORWARD_TOKENS = 64  # what one more forward costs beside its tokens, in tokens: fewer are not worth one
TRUNK_BATCHES = 4  # tokens of the trunks that go forward together, in batches: of these, caches alone are kept


# -- causal likelihoods -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """One sequence of a family. ends: numbers of tokens, from the beginning, whose likelihood is asked for too."""

    ids: Sequence[int] | np.ndarray
    ends: tuple[int, ...] = ()


Family = Sequence[Member]
# (family, member) of each row; index of the first token that is predicted; logits (B, P, V) of it and those behind
Watch = Callable[[Sequence[tuple[int, int]], int, Tensor], None]


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
class _Leaf:
    """A member of a family, and the token at which it leaves the family's trunk (0: it runs alone)."""

    at: int
    family: int
    member: int


def log_likelihoods(
    loaded: Loaded,
    families: Sequence[Family],
    *,
    batch_tokens: int,
    share: bool = True,
    nucleotides: bool = False,
    tally: Tally | None = None,
    watch: Watch | None = None,
) -> list[list[Likelihood]]:
    """The likelihood of every member of every family under a causal model.

    batch_tokens: about how many tokens run in one forward; halved until it fits when memory runs out.
    share: False runs every sequence alone from its beginning.
    watch: is shown all logits as they come, of a member those behind its branch; of the first of a family all. What is
    behind a shorter row's end is padding, and what did not fit the memory may be shown again.
    """
    tally = tally if tally is not None else Tally()
    computer = _Computer(loaded, families, nucleotides, batch_tokens, tally, watch)
    alone, batches = _plan(families, share, batch_tokens)
    computer.run_leaves(alone, 0, computer.alone)
    for batch in batches:
        run_whole(loaded, batch, computer.along_trunks, lambda leaves: max(map(computer.tokens, leaves)))
    tally.naive += sum(len(member.ids) for family in families for member in family)
    return [[computer.found[i, m] for m in range(len(family))] for i, family in enumerate(families)]


def count_tokens(families: Sequence[Family], *, batch_tokens: int, share: bool = True) -> Tally:
    """What ``log_likelihoods`` would compute, padding aside, without computing it.

    A token counts where its likelihood is computed; the last one of a sequence is not read.
    """
    alone, batches = _plan(families, share, batch_tokens)
    tally = Tally(naive=sum(len(member.ids) for family in families for member in family))
    tally.computed += sum(len(families[leaf.family][leaf.member].ids) for leaf in alone)
    for batch in batches:
        ends: dict[int, int] = {}  # family -> tokens of its trunk
        for step in _steps(batch):
            for leaf in step.leaves:
                ends[leaf.family] = step.at
                tally.computed += len(families[leaf.family][leaf.member].ids) - step.at
        tally.computed += sum(ends.values())
    return tally


# -- the plan -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Step:
    """Trunks are read up to token ``at``; then ``leaves`` branch off, none of which differs from its trunk before."""

    at: int
    leaves: list[_Leaf]


def _plan(families: Sequence[Family], share: bool, batch_tokens: int) -> tuple[list[_Leaf], list[list[list[_Leaf]]]]:
    """Members that run alone, and batches of families whose trunks are read together: the leaves of each family.

    What leaves a trunk early is not worth a branch and runs alone.
    """
    alone: list[_Leaf] = []
    sharing: list[list[_Leaf]] = []
    for i, family in enumerate(families):
        points = _branch_points(family) if share else [0] * len(family)
        leaves = [_Leaf(point, i, m) for m, point in enumerate(points)]
        alone += [leaf for leaf in leaves if leaf.at < FORWARD_TOKENS]
        sharing.append(sorted((leaf for leaf in leaves if leaf.at >= FORWARD_TOKENS), key=lambda leaf: leaf.at))
    sharing = sorted(filter(None, sharing), key=lambda leaves: leaves[0].at)
    batches: list[list[list[_Leaf]]] = []
    for leaves in sharing:
        if not batches or (len(batches[-1]) + 1) * leaves[0].at > TRUNK_BATCHES * batch_tokens:
            batches.append([])
        batches[-1].append(leaves)
    return alone, batches


def _branch_points(family: Family) -> list[int]:
    """Of each member, how many tokens it begins with as the first does, at least one short of both.

    The first one itself goes on from the last of these points.
    """
    first = np.asarray(family[0].ids)
    points = [0]
    for member in family[1:]:
        other = np.asarray(member.ids)
        shortest = min(len(first), len(other))
        differs = np.flatnonzero(first[:shortest] != other[:shortest])
        points.append(min(int(differs[0]) if len(differs) else shortest, shortest - 1))
    points[0] = max(points)
    return points


def _steps(batch: Sequence[list[_Leaf]]) -> list[_Step]:
    """The leaves of these families by where they leave. Those of the next places leave here too, as long as the tokens
    that they then read once more are fewer than what a step costs: a forward of the trunks, and one of the leaves."""
    steps: list[_Step] = []
    read_again = 0
    for leaf in sorted((leaf for leaves in batch for leaf in leaves), key=lambda leaf: leaf.at):
        if steps:
            read_again += leaf.at - steps[-1].at
        if not steps or read_again >= 2 * FORWARD_TOKENS:
            steps.append(_Step(leaf.at, []))
            read_again = 0
        steps[-1].leaves.append(leaf)
    return steps


# -- the computation ----------------------------------------------------------------------------------------------


@dataclass
class _Trunks:
    """Trunks that are read together: row r of the cache is that of ``families[r]``.

    sums_2RL: (2, rows, tokens + 1) float64, sums of log p over the first tokens: all, and nucleotides. after_RV: the
    logits behind the last token, which predict what follows; None before the first.
    """

    families: list[int]
    cache: Any
    sums_2RL: np.ndarray
    after_RV: Tensor | None = None

    @property
    def length(self) -> int:
        return self.sums_2RL.shape[2] - 1

    def keep(self, families: Sequence[int]) -> None:
        """Leave out the rows of all other families."""
        rows = [r for r, family in enumerate(self.families) if family in families]
        if len(rows) < len(self.families) and self.after_RV is not None:
            rows_R = torch.tensor(rows, device=self.after_RV.device)
            self.cache, self.after_RV = self.cache.select(rows_R), self.after_RV[rows_R]
            self.families, self.sums_2RL = [self.families[r] for r in rows], self.sums_2RL[:, rows]


@dataclass
class _Computer:
    """Computes members: trunks once, then what follows in each member. found: (family, member) -> its likelihood."""

    loaded: Loaded
    families: Sequence[Family]
    nucleotides: bool
    batch_tokens: int
    tally: Tally
    watch: Watch | None = None
    found: dict[tuple[int, int], Likelihood] = field(default_factory=dict)

    def tokens(self, leaf: _Leaf) -> int:
        return len(self.families[leaf.family][leaf.member].ids)

    def run_leaves(
        self, leaves: Sequence[_Leaf], at: int, compute: Callable[[list[_Leaf]], list[Likelihood]], beside: int = 0
    ) -> None:
        """``compute`` them in batches, of which only the tokens from ``at`` on are new; see ``_batches``."""
        count = sum(len(family) for family in self.families)
        for batch in self._batches(leaves, at, beside):
            likelihoods = run_whole(self.loaded, batch, compute, self.tokens)
            self.found.update(zip(((leaf.family, leaf.member) for leaf in batch), likelihoods, strict=True))
            self.tally.done(len(self.found) / count)

    def _batches(self, leaves: Sequence[_Leaf], at: int, beside: int = 0) -> Iterator[list[_Leaf]]:
        """Leaves whose tokens from ``at`` on run together: by length, so that padding costs less than a forward.

        beside: tokens whose memory a row takes beside its own.
        """
        batch: list[_Leaf] = []
        padding = 0
        for leaf in sorted(leaves, key=self.tokens):
            longer = self.tokens(leaf) - self.tokens(batch[-1]) if batch else 0
            padding += longer * len(batch)
            too_many = (len(batch) + 1) * (self.tokens(leaf) - at + beside) > self.batch_tokens
            if batch and (too_many or padding > FORWARD_TOKENS):
                yield batch
                batch, padding = [], 0
            batch.append(leaf)
        if batch:
            yield batch

    @torch.inference_mode()
    def alone(self, leaves: Sequence[_Leaf]) -> list[Likelihood]:
        """Members from their beginning."""
        cache = cache_for_pieces(self.loaded.module, len(leaves), max(map(self.tokens, leaves)))
        nothing = np.zeros((2, 1, 1))
        return self._likelihoods(leaves, cache, None, nothing, [0] * len(leaves))

    @torch.inference_mode()
    def along_trunks(self, batch: list[list[_Leaf]]) -> list[None]:
        """The members of some families, from step to step along their trunks; where memory runs out, of half of them.

        batch: the leaves of each family, in the order of their places.
        """
        loaded = self.loaded
        last = {leaves[0].family: leaves[-1].at for leaves in batch}
        longest = max(self.tokens(leaf) for leaves in batch for leaf in leaves)
        trunks = _Trunks(list(last), loaded.module.new_cache(len(last), longest), np.zeros((2, len(last), 1)))
        beside = None
        for step in _steps(batch):
            trunks.keep([family for family in trunks.families if last[family] >= step.at])
            self._extend(trunks, step.at)
            if beside is None:
                beside = _row_bytes(trunks.cache, loaded.device) // token_bytes(loaded)
            self.run_leaves(step.leaves, step.at, partial(self._leave, trunks), beside)
        return [None] * len(batch)

    def _extend(self, trunks: _Trunks, end: int) -> None:
        """Read trunks up to token ``end``."""
        ids = np.stack([self.families[f][0].ids[trunks.length : end] for f in trunks.families])
        ids_BL = torch.tensor(ids, device=self.loaded.device)
        rows = [(family, 0) for family in trunks.families]
        log_probs_2BL, trunks.after_RV = self._log_probs(rows, trunks.length, ids_BL, trunks.cache, trunks.after_RV)
        more = trunks.sums_2RL[:, :, -1:] + log_probs_2BL.cumsum(-1)
        trunks.sums_2RL = np.concatenate([trunks.sums_2RL, more], -1)

    def _leave(self, trunks: _Trunks, leaves: Sequence[_Leaf]) -> list[Likelihood]:
        """Members of these trunks, from copies of the caches at their present end."""
        rows = [trunks.families.index(leaf.family) for leaf in leaves]
        rows_B = torch.tensor(rows, device=self.loaded.device)
        assert trunks.after_RV is not None
        cache, before_BV = trunks.cache.select(rows_B), trunks.after_RV[rows_B]
        return self._likelihoods(leaves, cache, before_BV, trunks.sums_2RL, rows)

    def _likelihoods(
        self,
        leaves: Sequence[_Leaf],
        cache: Any | None,
        before_BV: Tensor | None,
        sums_2RL: np.ndarray,
        rows: Sequence[int],
    ) -> list[Likelihood]:
        """Members of which all but the rest is read. sums_2RL: see ``_Trunks``; rows: each member's in it."""
        members = [self.families[leaf.family][leaf.member] for leaf in leaves]
        at = sums_2RL.shape[2] - 1
        ids_BL, not_padding_BL = padded(self.loaded, [member.ids[at:] for member in members])
        which = [(leaf.family, leaf.member) for leaf in leaves]
        log_probs_2BL, _ = self._log_probs(which, at, ids_BL, cache, before_BV, to_the_end=True)
        own_2BL = np.pad((log_probs_2BL * not_padding_BL.cpu().numpy()).cumsum(-1), ((0, 0), (0, 0), (1, 0)))
        likelihoods = []
        for member, row, own_2L in zip(members, rows, own_2BL.swapaxes(0, 1), strict=True):
            total, nucleotides = (sums_2RL[:, row, at] + own_2L[:, -1]).tolist()
            ends = np.array(member.ends, dtype=np.int64)
            until = sums_2RL[0, row, np.minimum(ends, at)] + own_2L[0, np.maximum(ends - at, 0)]
            likelihoods.append(Likelihood(total, nucleotides, tuple(until.tolist()), len(member.ids) - 1))
        return likelihoods

    def _log_probs(
        self,
        which: Sequence[tuple[int, int]],
        at: int,
        ids_BL: Tensor,
        cache: Any | None,
        before_BV: Tensor | None,
        *,
        to_the_end: bool = False,
    ) -> tuple[np.ndarray, Tensor | None]:
        """(2, B, L) float64, log p of each token, and of the nucleotides alone; with a cache in pieces, which it is
        advanced by. And the logits behind the last token, (B, V).

        which: (family, member) of each row, of which these are the tokens from ``at`` on.
        before_BV: the logits that predict the first token; without them it is 0.0. to_the_end: nothing follows, so
        that the last token, which is predicted, need not be read.
        """
        module, (B, L) = self.loaded.module, ids_BL.shape
        bases = list((self.loaded.tokenizer.base_ids() or {}).values()) if self.nucleotides else None
        found_2BL = torch.zeros(2, B, L, dtype=torch.float64, device=ids_BL.device)

        def predict(logits_BPV: Tensor, first: int) -> None:
            targets_BP = ids_BL[:, first : first + logits_BPV.shape[1]]
            here, logits_BPV = slice(first, first + targets_BP.shape[1]), logits_BPV[:, : targets_BP.shape[1]]
            found_2BL[0, :, here] = next_token_log_probs(logits_BPV, targets_BP)
            if bases is not None:
                found_2BL[1, :, here] = nucleotide_log_probs(logits_BPV, targets_BP, bases)
            if self.watch is not None:
                self.watch(which, at + first, logits_BPV)

        if before_BV is not None:
            predict(before_BV[:, None], 0)
        read = L - 1 if to_the_end else L
        step = L if cache is None else min(pieces.PIECE_TOKENS, max(self.batch_tokens // B // 64, 1) * 64)
        with threads_for(largest_matrix(module) * B * min(step, read), self.loaded.dtype):
            for start in range(0, read, step):
                logits_BPV = module(ids_BL[:, start : min(start + step, read)], cache=cache).logits
                predict(logits_BPV, start + 1)
                before_BV = logits_BPV[:, -1]
        self.tally.computed += ids_BL.numel()
        return found_2BL.cpu().numpy(), before_BV


def _row_bytes(cache: Any, device: torch.device) -> int:
    """What one row more of a cache takes."""
    one, two = (held_bytes(cache.select(torch.zeros(n, dtype=torch.long, device=device))) for n in (1, 2))
    return two - one


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

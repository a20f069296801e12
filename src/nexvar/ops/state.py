"""What travels along a sequence: layer states and their cache, padding, taps, and pieces of long inputs.

A state is "nothing before" when it is made, so a prompt of one token is no special case, and every forward with a
cache is the same call: prefill, a chunk of a long input, a forced token, a decoding step.

Legend: B batch, L length, D width, H heads, d head width, S state, K coefficients of a filter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.ops.tracing import surely_all, tracing

# Tokens of a batch that go through a block at once where no gradient is needed: enough to keep the device busy.
ROWS = {"cpu": 2048, "cuda": 16384}


@dataclass
class HyenaState:
    """What a Hyena layer remembers; None stands for zeros (nothing before)."""

    filter: Any = None  # derived from the weights once, when the state is made
    short: Tensor | None = None  # the last K - 1 projections, (B, K - 1, 3D)
    inner: Tensor | None = None  # hcs, hcm: the last K - 1 filter inputs; hcl: the modal state (B, D, S) float32

    def select(self, rows: Tensor) -> HyenaState:
        short, inner = (None if x is None else x.index_select(0, rows) for x in (self.short, self.inner))
        return HyenaState(self.filter, short, inner)


@dataclass
class AttentionState:
    """Keys (after rotary) and values of the tokens so far, in buffers of the final length."""

    capacity: int
    length: int = 0
    k: Tensor | None = None  # (B, capacity, H, d), stored head by head
    v: Tensor | None = None
    mask: Tensor | None = None  # (B, length) bool, only if some row began with padding

    def append(self, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Store the new keys and values; returns all of them so far and their mask."""
        B, L = k.shape[:2]
        end = self.length + L
        if self.k is None or self.v is None:
            self.k, self.v = (_head_by_head(x, B, self.capacity) for x in (k, v))
        self.k[:, self.length : end], self.v[:, self.length : end] = k.detach(), v.detach()
        if mask is not None or self.mask is not None:
            old, new = (
                torch.ones(B, n, dtype=torch.bool, device=k.device) if m is None else m
                for n, m in ((self.length, self.mask), (L, mask))
            )
            self.mask = torch.cat([old, new], dim=1)
        self.length = end
        return self.k[:, :end], self.v[:, :end], self.mask

    def select(self, rows: Tensor) -> AttentionState:
        def pick(x: Tensor | None) -> Tensor | None:
            if x is None:
                return None
            chosen = _head_by_head(x, len(rows), self.capacity)
            chosen[:, : self.length] = x[:, : self.length].index_select(0, rows)
            return chosen

        mask = None if self.mask is None else self.mask.index_select(0, rows)
        return AttentionState(self.capacity, self.length, pick(self.k), pick(self.v), mask)


def _head_by_head(x_BLHd: Tensor, rows: int, capacity: int) -> Tensor:
    """An empty (rows, capacity, H, d) whose tokens of one head are neighbours in memory."""
    _, _, H, d = x_BLHd.shape
    return x_BLHd.new_empty(rows, H, capacity, d).transpose(1, 2)


@dataclass
class Cache:
    """The state of the whole model after ``length`` tokens."""

    batch_size: int
    max_length: int
    layers: list[Any]  # HyenaState, AttentionState or a model's own, each with ``select(rows)``
    length: int = 0

    def check_room(self, rows: int, tokens: int) -> None:
        """NexVarError if a batch of ``rows`` x ``tokens`` cannot be appended."""
        if rows != self.batch_size:
            raise NexVarError(f"{rows} rows for a cache of {self.batch_size}", where="cache")
        if self.length + tokens > self.max_length:
            raise NexVarError(
                f"{self.length} + {tokens} tokens do not fit into a cache of {self.max_length}",
                where="cache",
                fix="ask new_cache for a larger max_length",
            )

    def select(self, rows: Tensor) -> Cache:
        """A new cache whose batch rows are ``rows`` of this one (repeats allowed: branching)."""
        return Cache(len(rows), self.max_length, [layer.select(rows) for layer in self.layers], self.length)


@dataclass
class Taps:
    """Collects the hidden states that were asked for; long inputs arrive in pieces."""

    wanted: frozenset[str]
    pieces: dict[str, list[Tensor]] = field(default_factory=dict)

    def __call__(self, name: str, x: Tensor) -> Tensor:
        if name in self.wanted:
            self.pieces.setdefault(name, []).append(x)
        return x

    def result(self, order: Sequence[str]) -> dict[str, Tensor]:
        return {n: self.pieces[n][0] if len(self.pieces[n]) == 1 else torch.cat(self.pieces[n], 1) for n in order}


@dataclass(frozen=True)
class Padding:
    """Which tokens are real: rows_BL1 zeroes the others, keys_BL hides them from attention; None = all."""

    rows_BL1: Tensor | None = None
    keys_BL: Tensor | None = None

    @classmethod
    def of(cls, mask_BL: Tensor | None, cached: bool) -> Padding:
        if mask_BL is None or surely_all(mask_BL):
            return cls()
        mask_BL = mask_BL.bool()
        if tracing():
            return cls(mask_BL[..., None], mask_BL)
        on_the_right = bool((mask_BL[:, :-1] >= mask_BL[:, 1:]).all())
        if cached and not bool((mask_BL[:, :-1] <= mask_BL[:, 1:]).all()):
            raise NexVarError("padding behind a token in a cached forward", where="mask_BL", fix="pad on the left")
        return cls(mask_BL[..., None], None if on_the_right and not cached else mask_BL)


def hide(x_BLD: Tensor, mask_BL1: Tensor | None) -> Tensor:
    """Zeros in the rows that are padding."""
    return x_BLD if mask_BL1 is None else x_BLD.where(mask_BL1, 0.0)


def in_pieces(function: Callable[[Tensor, slice], Tensor], x_BLD: Tensor) -> Tensor:
    """function over about ``ROWS`` tokens at a time, in order, which bounds memory; all at once for training.

    What is left at the end goes with the last piece, if it is less than half of one.
    """
    B, L = x_BLD.shape[:2]
    step = max(ROWS.get(x_BLD.device.type, 4096) // B // 64, 1) * 64
    if torch.is_grad_enabled() or step + step // 2 > L:
        return function(x_BLD, slice(0, L))
    result = torch.empty_like(x_BLD)
    starts = range(0, L - step // 2, step)
    for start, end in zip(starts, (*starts[1:], L), strict=True):
        rows = slice(start, end)
        result[:, rows] = function(x_BLD[:, rows], rows)
    return result

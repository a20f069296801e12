"""Losses of tracks: predictions and targets (B, N, K), both scaled and at least 0 -> a sum over bins and tracks / K.

    mse                  half the squared error
    poisson              p - y log p, less its value at p = y
    tweedie              of power 1.5, between Poisson and gamma, less its value at p = y: many zeros, a long tail
    poisson-multinomial  Poisson of each window's total + 5 x what the bins' shares of it cost

Poisson and Poisson-multinomial as in github.com/google-deepmind/alphagenome_research, model/losses.py (there means of
segments). keep (B, N): bins that count; a multinomial leaves the others out of its total.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

EPS = 1e-7
TWEEDIE = 1.5
SHAPE_WEIGHT = 5.0


def _mse(p: Tensor, y: Tensor, keep: Tensor) -> Tensor:
    return (0.5 * (p - y).square() * keep).sum()


def _poisson_each(p: Tensor, y: Tensor) -> Tensor:
    return p - y * (p + EPS).log() - (y - y * (y + EPS).log())


def _poisson(p: Tensor, y: Tensor, keep: Tensor) -> Tensor:
    return (_poisson_each(p, y) * keep).sum()


def _tweedie_each(p: Tensor, y: Tensor) -> Tensor:
    q, p = TWEEDIE, p.clamp(min=EPS)
    return p.pow(2 - q) / (2 - q) - y * p.pow(1 - q) / (1 - q)


def _tweedie(p: Tensor, y: Tensor, keep: Tensor) -> Tensor:
    return ((_tweedie_each(p, y) - _tweedie_each(y, y)) * keep).sum()


def _poisson_multinomial(p: Tensor, y: Tensor, keep: Tensor) -> Tensor:
    p, y = p * keep, y * keep
    totals_p, totals_y = p.sum(1, keepdim=True), y.sum(1, keepdim=True)
    shape = -(y * (p / (totals_p + EPS) + EPS).log()).sum()
    return _poisson_each(totals_p, totals_y).sum() + SHAPE_WEIGHT * shape


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "mse": _mse, "poisson": _poisson, "tweedie": _tweedie, "poisson-multinomial": _poisson_multinomial,
}  # fmt: skip


def loss(name: str, p_BNK: Tensor, y_BNK: Tensor, keep_BN: Tensor) -> Tensor:
    """The sum over bins that count, the mean over tracks."""
    return LOSSES[name](p_BNK, y_BNK, keep_BN[..., None].to(p_BNK.dtype)) / p_BNK.shape[-1]

"""Modal (sum of exponentials) filters: ``y[t] = Re sum_s residue_s sum_{r <= t} pole_s^(t - r) u[r]``.

The official code builds the impulse response through a (D, S, L) tensor and convolves by FFT; its prefill needs
(B, D, S, 2L) complex numbers more. Here time is cut into chunks of C: within a chunk the filter is one (C, C)
Toeplitz product per channel, between chunks only S numbers per channel travel. That costs 2C + 4S operations an
output, all of them matmuls, O(L) memory, and the state after the last token (and so prefill) comes for nothing.

Legend: B batch, L length, D channels, S poles per channel, C chunk, K chunks, R = S real or 2 S (re, im) columns.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nexvar.ops.fftconv import fft_conv
from nexvar.ops.precision import no_autocast

CHUNK = 64
DIRECT = 512  # inputs up to here are convolved with the impulse response itself


class ModalFilter(NamedTuple):
    """A filter, ready for ``modal_iir``; float32, or complex64 for complex poles."""

    log_poles_DS: Tensor
    residues_DS: Tensor
    within_DCC: Tensor  # [d, j, i] = h[d, i - j]: inputs of a chunk -> its outputs
    absorb_DCR: Tensor  # [d, j, s] = pole^(C - 1 - j): inputs of a chunk -> the state after it
    emit_DRC: Tensor  # [d, s, i] = residue pole^(i + 1): the state before a chunk -> its outputs


def modal_filter(log_poles_DS: Tensor, residues_DS: Tensor, chunk: int = CHUNK) -> ModalFilter:
    """Precompute the three matrices; real or complex, differentiable."""
    with no_autocast(log_poles_DS.device):
        time = torch.arange(chunk + 1, device=log_poles_DS.device, dtype=torch.float32)
        powers = (log_poles_DS[:, None] * time[:, None]).exp()  # (D, C + 1, S)
        emit = residues_DS[:, None] * powers
        h_DC = emit[:, :-1].sum(-1).real
        within = F.pad(h_DC, (chunk - 1, 0)).unfold(-1, chunk, 1).flip(1)
        return ModalFilter(
            log_poles_DS,
            residues_DS,
            within.contiguous(),
            _columns(powers[:, :-1].flip(1)).contiguous(),
            _columns(emit[:, 1:].conj()).transpose(1, 2).contiguous(),  # Re(a b) = a.re b.re - a.im b.im
        )


def modal_iir_naive(u_BLD: Tensor, filter: ModalFilter, state_BDS: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The definition, step by step: ``state = pole * state + u``, ``y = Re(sum residue * state)``.

    state_BDS: the state before u; None stands for zeros. Returns y (B, L, D) float32 and the state after u.
    """
    poles = filter.log_poles_DS.exp()
    state = poles.new_zeros(u_BLD.shape[0], *poles.shape) if state_BDS is None else state_BDS
    outputs = []
    for u_BD in u_BLD.float().unbind(1):
        state = poles * state + u_BD[..., None]
        outputs.append((filter.residues_DS * state).sum(-1).real)
    return torch.stack(outputs, dim=1), state


def impulse_response(filter: ModalFilter, length: int) -> Tensor:
    """(D, length) float32: ``h[t] = Re sum_s residue_s exp(log_pole_s t)``, by blocks of 64 channels."""
    time = torch.arange(length, device=filter.log_poles_DS.device, dtype=torch.float32)
    blocks = zip(filter.residues_DS.split(64), filter.log_poles_DS.split(64), strict=True)
    return torch.cat([(r[..., None] * (p[..., None] * time).exp()).sum(1).real for r, p in blocks])


def modal_iir(u_BLD: Tensor, filter: ModalFilter, state_BDS: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """``modal_iir_naive`` by chunks; float32 inside, whatever u's dtype and autocast.

    Short inputs from the beginning take the official formula instead: the phase of a complex pole, log_pole * t, is
    rounded in float32, and only the same product for the same t gives the same rounding as the original.
    """
    B, L, D = u_BLD.shape
    if L == 1:
        with no_autocast(u_BLD.device):
            return modal_iir_naive(u_BLD, filter, state_BDS)
    C, S = filter.within_DCC.shape[1], filter.log_poles_DS.shape[1]
    K = -(-L // C)
    with no_autocast(u_BLD.device):
        u = F.pad(u_BLD, (0, 0, 0, K * C - L)) if K * C > L else u_BLD
        u_DNC = u.reshape(B * K, C, D).permute(2, 0, 1).to(torch.float32).contiguous()
        absorbed = _states(u_DNC @ filter.absorb_DCR, filter).view(D, B, K, S)
        first = absorbed.new_zeros(D, B, 1, S) if state_BDS is None else state_BDS.transpose(0, 1)[:, :, None]
        before = _scan(torch.cat([first, absorbed[:, :, :-1]], 2), filter.log_poles_DS * C)
        if state_BDS is None and L <= DIRECT:
            y_BLD = fft_conv(u_BLD.float(), impulse_response(filter, L))
        else:
            y = torch.baddbmm(u_DNC @ filter.within_DCC, _columns(before).view(D, B * K, -1), filter.emit_DRC)
            y_BLD = y.view(D, B, K * C).permute(1, 2, 0)[:, :L]
        # The last chunk may be padded: its r real inputs and the state before it give the state after.
        r = L - (K - 1) * C
        tail = u_DNC.view(D, B, K, C)[:, :, -1, :r] @ filter.absorb_DCR[:, C - r :]
        after = (filter.log_poles_DS * r).exp()[:, None] * before[:, :, -1] + _states(tail, filter)
    return y_BLD, after.transpose(0, 1)


def _scan(x_DBKS: Tensor, log_decay_DS: Tensor) -> Tensor:
    """``s[k] = decay * s[k - 1] + x[k]`` over dimension 2, in log2(K) whole-tensor steps."""
    shift = 1
    while shift < x_DBKS.shape[2]:
        decay = (log_decay_DS * shift).exp()[:, None, None]  # NOTE: not by squaring, whose error doubles each time
        x_DBKS = torch.cat([x_DBKS[:, :, :shift], x_DBKS[:, :, shift:] + decay * x_DBKS[:, :, :-shift]], 2)
        shift *= 2
    return x_DBKS


def _columns(x: Tensor) -> Tensor:
    """(…, S) complex -> (…, 2 S) real; real tensors as they are."""
    return torch.view_as_real(x.resolve_conj()).flatten(-2) if x.is_complex() else x


def _states(x: Tensor, filter: ModalFilter) -> Tensor:
    """The inverse of ``_columns``."""
    if not filter.log_poles_DS.is_complex():
        return x
    return torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())

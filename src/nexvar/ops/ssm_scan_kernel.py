"""The Triton kernel of ``ssm_scan_triton``; a module of its own, since importing it needs Triton.

One program walks one row and W channels through tiles of T steps; inside a tile the recurrence is an associative scan
over (decay, input) pairs: (a1, b1) then (a2, b2) is (a1 a2, a2 b1 + b2). The states, (N, W), stay in registers.
"""

# mypy: disable-error-code=no-untyped-def

import triton
import triton.language as tl


@triton.jit
def _then(decay1, input1, decay2, input2):
    return decay1 * decay2, decay2 * input1 + input2


@triton.jit
def scan(
    u, dt, A, B, C, D, first, y, last, kept, L, E, rows_per_group, kept_stride,
    KEEP: tl.constexpr, N: tl.constexpr, PADDED: tl.constexpr, T: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """u, dt, y (rows, L, E); A (groups, N, E); B, C (rows, L, N); D (groups, E); first, last (rows, N, E);
    kept (tiles, rows, N, E), the states before every tile, written if KEEP. PADDED: N rounded up to a power of two.
    """
    row, e = tl.program_id(0).to(tl.int64), tl.program_id(1) * W + tl.arange(0, W)
    group, n, t = row // rows_per_group, tl.arange(0, PADDED), tl.arange(0, T)
    in_e = e < E
    in_state = (n < N)[:, None] & in_e[None, :]
    of_state = (row * N + n)[:, None] * E + e[None, :]
    a_all = tl.load(A + (group * N + n)[:, None] * E + e[None, :], mask=in_state, other=0.0)
    state = tl.load(first + of_state, mask=in_state, other=0.0)
    d = tl.load(D + group * E + e, mask=in_e, other=0.0)
    kept_at = kept + of_state
    for start in range(0, L, T):
        if KEEP:
            tl.store(kept_at, state, mask=in_state)
            kept_at += kept_stride
        step_at = row * L + start + t
        in_t = start + t < L
        inside = in_t[:, None] & in_e[None, :]
        at = step_at[:, None] * E + e[None, :]
        x = tl.load(u + at, mask=inside, other=0.0)
        step = tl.load(dt + at, mask=inside, other=0.0)  # beyond the end: decay 1, input 0
        out = d[None, :] * x
        for i in range(N):
            chosen = (n == i)[:, None]
            a = tl.sum(tl.where(chosen, a_all, 0.0), 0)
            before = tl.sum(tl.where(chosen, state, 0.0), 0)
            b = tl.load(B + step_at * N + i, mask=in_t, other=0.0)
            c = tl.load(C + step_at * N + i, mask=in_t, other=0.0)
            decay, added = tl.exp(step * a[None, :]), step * x * b[:, None]
            decay, added = tl.associative_scan((decay, added), 0, _then)
            states = decay * before[None, :] + added
            out += states * c[:, None]
            after = tl.sum(tl.where((t == T - 1)[:, None], states, 0.0), 0)
            state = tl.where(chosen, after[None, :], state)
        tl.store(y + at, out, mask=inside)
    tl.store(last + of_state, state, mask=in_state)

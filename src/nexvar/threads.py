"""How many CPU threads a piece of work deserves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

# Multiply-adds of the largest float32 product up to which one thread is as fast as several (measured on EPYC, 2 cores:
# a matrix-vector product is bound by memory; in bfloat16 it is not), and far faster where others keep the cores busy:
# every product ends with all threads waiting for the last one.
ONE_THREAD = 1 << 24
_kept = 0  # threads of compiled products where torch has one; 0: torch's


def largest_matrix(module: nn.Module) -> int:
    """Elements of the module's largest 2-d parameter: the multiply-adds of its largest product, for one token."""
    return max((p.numel() for p in module.parameters() if p.ndim == 2), default=0)


@contextmanager
def threads_for(multiply_adds: int, dtype: torch.dtype, compiled: bool = False) -> Iterator[None]:
    """One CPU thread inside, if no product in ``dtype`` is larger than ``ONE_THREAD``.

    compiled: all large products inside are those of ``ops/matvec.py``. They keep their threads; torch has one for the
    small operations between them.
    """
    global _kept
    if not compiled and (multiply_adds > ONE_THREAD or dtype != torch.float32):
        yield
        return
    before, _kept = _kept, product_threads() if compiled else 0
    try:
        with one_thread():
            yield
    finally:
        _kept = before


def product_threads() -> int:
    """Threads of a product compiled here: torch's, or what torch had."""
    return _kept or torch.get_num_threads()


@contextmanager
def one_thread() -> Iterator[None]:
    """One CPU thread inside."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

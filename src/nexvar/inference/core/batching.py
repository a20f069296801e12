"""Batches: sequences of like length that run together, within a budget of tokens and the memory that is free.

lengths ── equal_batches ── compute(batch) ── memory runs out? the same in halves ── results in order
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.weights import machine
from nexvar.weights.load import Loaded

BATCH_TOKENS = {"cpu": 8_192, "mps": 32_768, "cuda": 131_072}  # more brings no speed
MEMORY_SHARE = {"cpu": 0.25, "mps": 0.25, "cuda": 0.8}  # of what is free, for the activations
VALUES_PER_TOKEN = 12  # float32, per column of the widest layer; forwards of every architecture take 2.4 to 6.4

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Tally:
    """How many tokens were computed, and how many one forward per sequence would have needed.

    progress: called after every batch with the share of the present call's work that is done, from 0 to 1.
    """

    computed: int = 0
    naive: int = 0
    progress: Callable[[float], None] | None = None

    def done(self, share: float) -> None:
        """Say how far the present call is."""
        if self.progress is not None:
            self.progress(share)


@contextmanager
def reported(tally: Tally, amount: int, progress: Callable[[int], None] | None) -> Iterator[None]:
    """Turn shares of one call's work into so many of its ``amount`` things; all of them are done at the end."""
    done = 0

    def report(share: float) -> None:
        nonlocal done
        more, done = int(share * amount) - done, int(share * amount)
        if more and progress is not None:
            progress(more)

    tally.progress = report
    try:
        yield
        report(1.0)
    finally:
        tally.progress = None


def default_batch_tokens(loaded: Loaded) -> int:
    """Tokens in one forward where the user says nothing: a power of two that fits the memory that is free now.

    It is an estimate: memory that runs out all the same halves the batch.
    """
    kind = loaded.device.type if loaded.device.type in BATCH_TOKENS else "cpu"
    fits = int(machine.free_memory(loaded.device) * MEMORY_SHARE[kind] / token_bytes(loaded))
    return min(BATCH_TOKENS[kind], 1 << max(fits.bit_length() - 1, 0))


def token_bytes(loaded: Loaded) -> int:
    """What a token takes in a forward, as an estimate."""
    widest = max((max(p.shape) for p in loaded.module.parameters() if p.ndim == 2 and p.is_floating_point()), default=1)
    return 4 * VALUES_PER_TOKEN * widest


def run_fitting(loaded: Loaded, jobs: list[T], compute: Callable[[list[T]], list[R]], split: Callable[[T], list[T]],
                join: Callable[[list[R]], R], size: Callable[[T], int]) -> list[R]:  # fmt: skip
    """``compute(jobs)``; when memory runs out, the same in halves. One that does not fit alone is a NexVarError.

    split: a job as smaller jobs (itself alone if it cannot be split); join: their results as the job's.
    """
    try:
        return compute(jobs)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        pieces = split(jobs[0]) if len(jobs) == 1 else []
        if len(pieces) == 1:
            raise NexVarError(
                f"one sequence of {size(jobs[0]):,} tokens does not fit in the memory of {loaded.device}",
                fix="a shorter window, a smaller model or a larger device",
            ) from error
    if loaded.device.type == "cuda":
        torch.cuda.empty_cache()
    if pieces:
        return [join([run_fitting(loaded, [p], compute, split, join, size)[0] for p in pieces])]
    half = len(jobs) // 2
    return [r for part in (jobs[:half], jobs[half:]) for r in run_fitting(loaded, part, compute, split, join, size)]


def run_whole(
    loaded: Loaded, jobs: list[T], compute: Callable[[list[T]], list[R]], size: Callable[[T], int]
) -> list[R]:
    """``run_fitting`` for jobs that cannot be split."""
    return run_fitting(loaded, jobs, compute, lambda job: [job], lambda parts: parts[0], size)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch says so: CUDA by a class of its own, the CPU's and MPS's allocators in words only."""
    words = "can't allocate memory", "backend out of memory"
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in words)


def equal_batches(lengths: Sequence[int], batch_tokens: int, *, pads: bool) -> Iterator[list[int]]:
    """Indices of sequences that run together: sorted by length, padded size within ``batch_tokens``.

    pads: False keeps unequal lengths apart, for models where padding changes real tokens.
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and ((len(batch) + 1) * lengths[i] > batch_tokens or not (pads or lengths[i] == lengths[batch[0]])):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def padded(loaded: Loaded, rows: Sequence[Sequence[int] | np.ndarray]) -> tuple[Tensor, Tensor]:
    """ids (B, L) and mask (B, L, True = real) on the device, padded on the right."""
    width = max(len(row) for row in rows)
    pad = loaded.tokenizer.pad_id
    filled = np.full((len(rows), width), pad, dtype=np.int64)  # ten times faster than a tensor of nested lists
    for target, row in zip(filled, rows, strict=True):
        target[: len(row)] = row
    ids_BL = torch.from_numpy(filled).to(loaded.device)
    lengths_B = torch.tensor([len(row) for row in rows], device=loaded.device)
    return ids_BL, torch.arange(width, device=loaded.device) < lengths_B[:, None]


def in_batches(
    loaded: Loaded,
    lengths: Sequence[int],
    batch_tokens: int,
    compute: Callable[[list[int]], list[R]],
    tally: Tally,
    *,
    pads: bool,
) -> list[R]:
    """``compute`` over all indices in ``equal_batches`` that fit the memory; results in order."""
    results: dict[int, R] = {}
    for batch in equal_batches(lengths, batch_tokens, pads=pads):
        results.update(zip(batch, run_whole(loaded, batch, compute, lambda i: lengths[i]), strict=True))
        tally.done(len(results) / len(lengths))
    return [results[i] for i in range(len(lengths))]

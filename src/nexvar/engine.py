"""Runs a model over many sequences and never computes a shared beginning twice.

Work comes as families: lists of sequences that may begin alike, such as one reference window and its alternative
windows. For a causal model the common prefix of a family is computed once; each member then runs its own rest from a
branch of the cache. The result is that of every sequence alone (float32: within 1e-5), whatever is in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.load import Loaded
from nexvar.readout import next_token_log_probs, restrict_to

SHORTEST_SHARED_PREFIX = 64  # below this a branch costs more than it saves
CHUNK = 16_384  # longest piece of a sequence in one forward; longer inputs carry the cache over pieces

Family = Sequence[Sequence[int]]  # token ids of sequences that may share a beginning


@dataclass
class Tally:
    """How many tokens were computed, and how many one forward per sequence would have needed."""

    computed: int = 0
    naive: int = 0


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
    only_tokens: list[int] | None = None,
    tally: Tally | None = None,
) -> list[list[float]]:
    """Sum of log p(token | tokens before) of every sequence, from its second token on; float64, natural log.

    batch_tokens: about how many tokens run in one forward; halved until it fits when memory runs out.
    only_tokens: restrict the softmax to these ids (the nucleotides).
    """
    tally = tally if tally is not None else Tally()
    sums = [[0.0] * len(family) for family in families]
    jobs = [job for i, family in enumerate(families) for job in _jobs(i, family, batch_tokens, share)]
    jobs.sort(key=lambda job: (job.shared, job.longest))
    for batch in _batches(jobs, batch_tokens):
        for job, values in zip(batch, _run_batch(loaded, families, batch, only_tokens, tally), strict=True):
            for member, value in zip(job.members, values, strict=True):
                sums[job.family][member] = value
    tally.naive += sum(len(ids) for family in families for ids in family)
    return sums


def _jobs(index: int, family: Family, batch_tokens: int, share: bool) -> Iterator[_Job]:
    """Split a family into jobs; without a worthwhile prefix every member is a job of its own."""
    shared = _common_prefix(family) if share and len(family) > 1 else 0
    if shared < SHORTEST_SHARED_PREFIX:
        for member, ids in enumerate(family):
            yield _Job(index, (member,), 0, len(ids))
        return
    longest = max(len(ids) for ids in family)
    yield _Job(index, tuple(range(len(family))), shared, longest)


def _common_prefix(family: Family) -> int:
    """Length of the common beginning, at least one token short of the shortest member."""
    tensors = [torch.as_tensor(ids) for ids in family]
    shortest = min(len(t) for t in tensors)
    first = tensors[0][:shortest]
    differs = torch.zeros(shortest, dtype=torch.bool)
    for other in tensors[1:]:
        differs |= first != other[:shortest]
    where = differs.nonzero()
    return min(int(where[0]) if len(where) else shortest, shortest - 1)


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


def _run_batch(
    loaded: Loaded, families: Sequence[Family], batch: list[_Job], only: list[int] | None, tally: Tally
) -> list[list[float]]:
    """Values per job. On out-of-memory the batch is halved; a job that does not fit alone is a NexVarError."""
    try:
        return _compute(loaded, families, batch, only, tally)
    except torch.OutOfMemoryError as error:
        if len(batch) == 1 and len(batch[0].members) == 1:
            raise NexVarError(
                f"one sequence of {batch[0].longest:,} tokens does not fit in the memory of {loaded.device}",
                fix="a shorter --window, a smaller model or a larger device",
            ) from error
    if loaded.device.type == "cuda":
        torch.cuda.empty_cache()
    if len(batch) > 1:
        half = len(batch) // 2
        parts = batch[:half], batch[half:]
        return [values for part in parts for values in _run_batch(loaded, families, part, only, tally)]
    job, half = batch[0], len(batch[0].members) // 2
    members = job.members[:half], job.members[half:]
    halves = [_Job(job.family, part, job.shared, job.longest) for part in members]
    return [[v for half_job in halves for v in _run_batch(loaded, families, [half_job], only, tally)[0]]]


@torch.inference_mode()
def _compute(
    loaded: Loaded, families: Sequence[Family], batch: list[_Job], only: list[int] | None, tally: Tally
) -> list[list[float]]:
    shared = batch[0].shared
    members = [families[job.family][member] for job in batch for member in job.members]
    rests = [ids[shared:] for ids in members]
    width = max(len(rest) for rest in rests)
    device, module = loaded.device, loaded.module
    pad = loaded.tokenizer.pad_id
    ids_BL = torch.tensor([[*rest, *[pad] * (width - len(rest))] for rest in rests], device=device)
    lengths_B = torch.tensor([len(rest) for rest in rests], device=device)

    cache, before, prefix_sums = None, None, torch.zeros(len(members), dtype=torch.float64, device=device)
    if shared:
        prefixes = torch.tensor([list(families[job.family][0][:shared]) for job in batch], device=device)
        cache = module.new_cache(len(batch), shared + width)
        whole = torch.full((len(batch),), shared, device=device)
        sums, before = _sums(module, prefixes, whole, cache, None, only)
        rows = torch.tensor([i for i, job in enumerate(batch) for _ in job.members], device=device)
        prefix_sums, before, cache = sums[rows], before[rows], cache.select(rows)
        tally.computed += prefixes.numel()
    elif width > CHUNK:
        cache = module.new_cache(len(members), width)
    sums, _ = _sums(module, ids_BL, lengths_B, cache, before, only)
    tally.computed += ids_BL.numel()
    values = iter((prefix_sums + sums).tolist())
    return [[next(values) for _ in job.members] for job in batch]


def _sums(
    module: Any,
    ids_BL: Tensor,
    lengths_B: Tensor,
    cache: object | None,
    before_BV: Tensor | None,
    only: list[int] | None,
) -> tuple[Tensor, Tensor]:
    """(B,) float64 summed log-probabilities of the tokens, and the logits (B, V) after the last one.

    before_BV: the logits that predict the first token; without them the first token is not counted.
    """
    total = torch.zeros(len(ids_BL), dtype=torch.float64, device=ids_BL.device)
    for start in range(0, ids_BL.shape[1], CHUNK if cache is not None else ids_BL.shape[1]):
        piece = ids_BL[:, start : start + CHUNK] if cache is not None else ids_BL
        logits = module(piece, cache=cache).logits
        if only is not None:
            logits = restrict_to(logits, only)
        predictors = logits[:, :-1] if before_BV is None else torch.cat([before_BV[:, None], logits[:, :-1]], 1)
        first = start + (before_BV is None)
        targets = ids_BL[:, first : start + piece.shape[1]]
        position = torch.arange(first, start + piece.shape[1], device=ids_BL.device)
        log_probs = next_token_log_probs(predictors, targets).double()
        total += log_probs.masked_fill(position >= lengths_B[:, None], 0.0).sum(-1)
        before_BV = logits[:, -1]
    assert before_BV is not None
    return total, before_BV

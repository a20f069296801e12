"""Runs a model over many sequences and never computes a shared beginning twice.

Work comes as families: lists of sequences that may begin alike, such as one reference window and its alternative
windows. For a causal model the common prefix of a family is computed once; each member then runs its own rest from a
branch of the cache. The result is that of every sequence alone (float32: within 1e-5), whatever is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.load import Loaded
from nexvar.readout import next_token_log_probs, nucleotide_log_probs

SHORTEST_SHARED_PREFIX = 64  # below this a branch costs more than it saves
# Longest piece of a sequence in one forward; longer inputs carry the cache over pieces, unless the model says by
# ``bounded_forward`` that its forward walks pieces itself (HyenaDNA: a convolution in pieces costs more than a whole).
CHUNK = 16_384
BATCH_TOKENS = {"cpu": 16_384, "mps": 32_768, "cuda": 131_072}

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Tally:
    """How many tokens were computed, and how many one forward per sequence would have needed."""

    computed: int = 0
    naive: int = 0


def default_batch_tokens(loaded: Loaded) -> int:
    """Tokens in one forward where the user says nothing; memory that runs out halves it, batch by batch."""
    return BATCH_TOKENS.get(loaded.device.type, BATCH_TOKENS["cpu"])


def run_fitting(loaded: Loaded, jobs: list[T], compute: Callable[[list[T]], list[R]], split: Callable[[T], list[T]],
                join: Callable[[list[R]], R], size: Callable[[T], int]) -> list[R]:  # fmt: skip
    """``compute(jobs)``; when memory runs out, the same in halves. One that does not fit alone is a NexVarError.

    split: a job as smaller jobs (itself alone if it cannot be split); join: their results as the job's.
    """
    try:
        return compute(jobs)
    except torch.OutOfMemoryError as error:
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


def padded(loaded: Loaded, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """ids (B, L) and mask (B, L, True = real) on the device, padded on the right."""
    width = max(len(row) for row in rows)
    pad = loaded.tokenizer.pad_id
    ids_BL = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=loaded.device)
    lengths_B = torch.tensor([len(row) for row in rows], device=loaded.device)
    return ids_BL, torch.arange(width, device=loaded.device) < lengths_B[:, None]


# -- causal likelihoods -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """One sequence of a family. site_end: how many tokens end with the variant's last base (0: not asked for)."""

    ids: Sequence[int]
    site_end: int = 0


Family = Sequence[Member]


@dataclass(frozen=True)
class Likelihood:
    """Sums of log p(token | tokens before) over one sequence, from its second token on; natural log, float64.

    total: all tokens. nucleotides: all A, C, G, T under the softmax over these four (0.0 unless asked for).
    site: the tokens before ``site_end``. predictions: how many tokens ``total`` sums.
    """

    total: float
    nucleotides: float
    site: float
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
    jobs = [job for i, family in enumerate(families) for job in _jobs(i, family, share)]
    jobs.sort(key=lambda job: (job.shared, job.longest))
    results: dict[tuple[int, int], Likelihood] = {}

    def compute(batch: list[_Job]) -> list[list[Likelihood]]:
        return _compute(loaded, families, batch, nucleotides, tally)

    for batch in _batches(jobs, batch_tokens):
        values = run_fitting(
            loaded, batch, compute, _halves, lambda parts: [v for part in parts for v in part], lambda job: job.longest
        )
        for job, found in zip(batch, values, strict=True):
            results.update(zip(((job.family, m) for m in job.members), found, strict=True))
    tally.naive += sum(len(member.ids) for family in families for member in family)
    return [[results[i, m] for m in range(len(family))] for i, family in enumerate(families)]


def _jobs(index: int, family: Family, share: bool) -> Iterator[_Job]:
    """Split a family into jobs; without a worthwhile prefix every member is a job of its own."""
    shared = _common_prefix(family) if share and len(family) > 1 else 0
    if shared < SHORTEST_SHARED_PREFIX:
        for m, member in enumerate(family):
            yield _Job(index, (m,), 0, len(member.ids))
        return
    yield _Job(index, tuple(range(len(family))), shared, max(len(member.ids) for member in family))


def _halves(job: _Job) -> list[_Job]:
    half = len(job.members) // 2
    parts = [members for members in (job.members[:half], job.members[half:]) if members]
    return [_Job(job.family, members, job.shared, job.longest) for members in parts]


def _common_prefix(family: Family) -> int:
    """Length of the common beginning, at least one token short of the shortest member."""
    tensors = [torch.as_tensor(member.ids) for member in family]
    shortest = min(len(t) for t in tensors)
    differs = torch.zeros(shortest, dtype=torch.bool)
    for other in tensors[1:]:
        differs |= tensors[0][:shortest] != other[:shortest]
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


@torch.inference_mode()
def _compute(
    loaded: Loaded, families: Sequence[Family], batch: list[_Job], nucleotides: bool, tally: Tally
) -> list[list[Likelihood]]:
    shared, module, device = batch[0].shared, loaded.module, loaded.device
    members = [families[job.family][m] for job in batch for m in job.members]
    ids_BL, real_BL = padded(loaded, [member.ids[shared:] for member in members])
    site_end_B = torch.tensor([member.site_end - shared for member in members], device=device)
    bases = list((loaded.tokenizer.base_ids() or {}).values()) if nucleotides else None

    cache, before, prefix = None, None, torch.zeros(len(members), 3, dtype=torch.float64, device=device)
    if shared:
        beginnings = [list(families[job.family][job.members[0]].ids[:shared]) for job in batch]
        prefixes = torch.tensor(beginnings, device=device)
        rows = torch.tensor([i for i, job in enumerate(batch) for _ in job.members], device=device)
        cache = module.new_cache(len(batch), shared + ids_BL.shape[1])
        all_real = torch.ones_like(prefixes, dtype=torch.bool)
        sums, before = _sums(module, prefixes, all_real, all_real.sum(1), cache, None, bases)
        prefix, before, cache = sums[rows], before[rows], cache.select(rows)
        tally.computed += prefixes.numel()
    elif ids_BL.shape[1] > CHUNK and not getattr(module, "bounded_forward", False):
        cache = module.new_cache(len(members), ids_BL.shape[1])
    sums, _ = _sums(module, ids_BL, real_BL, site_end_B, cache, before, bases)
    tally.computed += ids_BL.numel()
    values = iter(zip(members, (prefix + sums).tolist(), strict=True))
    return [[_likelihood(*next(values)) for _ in job.members] for job in batch]


def _likelihood(member: Member, sums: Sequence[float]) -> Likelihood:
    total, nucleotides, site = sums
    return Likelihood(total, nucleotides, site, len(member.ids) - 1)


def _sums(
    module: Any,
    ids_BL: Tensor,
    real_BL: Tensor,
    site_end_B: Tensor,
    cache: Any | None,
    before_BV: Tensor | None,
    bases: list[int] | None,
) -> tuple[Tensor, Tensor]:
    """(B, 3) float64: total, nucleotides, site (see ``Likelihood``), and the logits (B, V) after the last token.

    before_BV: the logits that predict the first token; without them the first token is not counted.
    """
    L = ids_BL.shape[1]
    sums = torch.zeros(len(ids_BL), 3, dtype=torch.float64, device=ids_BL.device)
    step = CHUNK if cache is not None else L
    for start in range(0, L, step):
        end = min(start + step, L)
        logits = module(ids_BL[:, start:end], cache=cache).logits
        predictors = logits[:, :-1] if before_BV is None else torch.cat([before_BV[:, None], logits[:, :-1]], 1)
        first = start + (before_BV is None)
        targets, real = ids_BL[:, first:end], real_BL[:, first:end]
        log_probs = next_token_log_probs(predictors, targets).double().masked_fill(~real, 0.0)
        at_site = torch.arange(first, end, device=ids_BL.device) < site_end_B[:, None]
        sums[:, 0] += log_probs.sum(-1)
        sums[:, 2] += log_probs.masked_fill(~at_site, 0.0).sum(-1)
        if bases is not None:
            sums[:, 1] += nucleotide_log_probs(predictors, targets, bases).double().masked_fill(~real, 0.0).sum(-1)
        before_BV = logits[:, -1]
    assert before_BV is not None
    return sums, before_BV

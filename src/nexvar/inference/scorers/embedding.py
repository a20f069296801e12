"""Embedding readouts: distances between the pooled hidden states of the two windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.genome.windows import Windows
from nexvar.inference.core.batching import Tally, in_batches, padded, run_fitting
from nexvar.inference.core.embedding_cache import EmbeddingCache
from nexvar.inference.core.readout import coarser, distance, pool
from nexvar.inference.scorers.settings import ReadoutSettings, Values, begin_tokens, check_pool, tokens
from nexvar.weights.load import Loaded

Sites = Sequence[tuple[int, int]]  # of one sequence: [start, end) of each


def embeddings(
    loaded: Loaded,
    windows: Sequence[Windows],
    wanted: list[str],
    settings: ReadoutSettings,
    tally: Tally,
    cache: EmbeddingCache | None = None,
) -> list[Values]:
    tally.naive += sum(len(w.ref_seq) + len(w.alt_seq) for w in windows)
    if settings.pool == "flat":
        return _flat(loaded, windows, wanted, settings, tally)
    by_site = settings.pool.startswith("site")
    keys = [
        [(w.ref_seq, w.ref_site), (w.alt_seq, w.alt_site)] if by_site else [(w.ref_seq, None), (w.alt_seq, None)]
        for w in windows
    ]
    places: dict[str, dict[tuple[int, int] | None, int]] = {}  # sequence -> site -> row of the vectors
    count = 0
    for pair in keys:
        for sequence, place in pair:
            sites = places.setdefault(sequence, {})
            if place not in sites:
                sites[place], count = count, count + 1
    sites_of = [[place for place in sites if place is not None] for sites in places.values()]
    pooled = pooled_sites(loaded, list(places), sites_of, settings, tally, cache)
    vectors_ND = torch.empty(count, pooled[0].shape[1])
    for sites, vectors in zip(places.values(), pooled, strict=True):
        vectors_ND[list(sites.values())] = vectors
    ref = vectors_ND[[places[s][place] for (s, place), _ in keys]]
    alt = vectors_ND[[places[s][place] for _, (s, place) in keys]]
    columns = {name: distance(ref, alt, name).tolist() for name in wanted}
    return [{name: column[i] for name, column in columns.items()} for i in range(len(windows))]


def count(loaded: Loaded, windows: Sequence[Windows], wanted: list[str], settings: ReadoutSettings) -> Tally:
    """The tokens that ``embeddings`` would compute, padding and a cache aside; the module is not used."""
    sequences = [sequence for w in windows for sequence in (w.ref_seq, w.alt_seq)]
    begin = begin_tokens(loaded, settings)
    computed = sum(len(tokens(loaded, sequence, begin)) for sequence in dict.fromkeys(sequences))
    return Tally(computed, sum(map(len, sequences)))


def pooled_sites(
    loaded: Loaded,
    sequences: Sequence[str],
    sites: Sequence[Sites],
    settings: ReadoutSettings,
    tally: Tally,
    cache: EmbeddingCache | None = None,
) -> list[Tensor]:
    """Of each sequence (n, D) float32 on the CPU: one vector for each of its sites, or one for all of it.

    A site's vector is the mean over the tokens that share a base with it or, pooled as "site+N", N bases beside it.
    What ``cache`` has is not computed.
    """
    check_pool(settings.pool, loaded)
    if cache is None:
        return _compute_pooled(loaded, sequences, sites, settings, tally)
    key = [settings.layer or loaded.module.last_hidden, settings.pool, repr(begin_tokens(loaded, settings))]
    key += [] if settings.special is None else [f"special {settings.special}"]
    keys = [("readout", *key, repr(list(s)), text) for s, text in zip(sites, sequences, strict=True)]
    pooled = cache.get(keys)
    rows = [max(len(s), 1) for s in sites]
    new = [i for i, vectors in enumerate(pooled) if vectors is None or vectors.shape[:-1] != (rows[i],)]
    if new:
        chosen = [sequences[i] for i in new], [sites[i] for i in new]
        computed = _compute_pooled(loaded, *chosen, settings, tally)
        cache.put([keys[i] for i in new], computed)
        for i, vectors in zip(new, computed, strict=True):
            pooled[i] = vectors
    return [vectors for vectors in pooled if vectors is not None]


def _compute_pooled(
    loaded: Loaded, sequences: Sequence[str], sites: Sequence[Sites], settings: ReadoutSettings, tally: Tally
) -> list[Tensor]:
    """``pooled_sites`` by the model."""
    flank = int(settings.pool.partition("+")[2] or 0)
    begin = begin_tokens(loaded, settings)
    tap = settings.layer or loaded.module.last_hidden
    stride = loaded.module.tap_stride.get(tap, 1)  # U-Nets have taps of a lower resolution
    encoded = [loaded.tokenizer.encode(s, special=loaded.card.special_tokens) for s in sequences]
    special = torch.tensor(sorted(loaded.tokenizer.special_ids), device=loaded.device)
    method = "mean" if settings.pool == "cls" or settings.pool.startswith("site") else settings.pool

    def kept(i: int, width: int) -> Tensor:
        """(n, width): the tokens of each site of sequence i."""
        keep = torch.zeros(len(sites[i]), width, dtype=torch.bool)
        for row, (start, end) in enumerate(sites[i]):
            over = encoded[i].tokens_over(max(start - flank, 0), end + flank)
            keep[row, [token + len(begin) for token in over]] = True
        return keep.to(loaded.device)

    @torch.inference_mode()
    def compute(batch: list[int]) -> list[Tensor]:
        ids_BL, mask_BL = padded(loaded, [[*begin, *encoded[i].ids] for i in batch])
        hidden = loaded.module(ids_BL, mask_BL=mask_BL, taps=(tap,), logits=False).taps[tap]
        tally.computed += ids_BL.numel()
        pooled_BL = mask_BL & ~torch.isin(ids_BL, special)
        if settings.pool == "cls":
            pooled_BL = torch.arange(ids_BL.shape[1], device=loaded.device).expand_as(ids_BL) == 0
        if not settings.pool.startswith("site"):
            return list(pool(hidden, coarser(pooled_BL, stride), method).cpu()[:, None])
        vectors = []
        for row, i in enumerate(batch):
            keep_NL = coarser(kept(i, ids_BL.shape[1]), stride)
            vectors.append(torch.cat([pool(hidden[row, None], keep[None], "mean") for keep in keep_NL]).cpu())
        return vectors

    lengths = [len(begin) + len(e.ids) for e in encoded]
    return in_batches(loaded, lengths, settings.batch_tokens, compute, tally, pads=loaded.module.pads_safely)


def _flat(
    loaded: Loaded, windows: Sequence[Windows], wanted: list[str], settings: ReadoutSettings, tally: Tally
) -> list[Values]:
    """Distances between all positions of the two windows, as one vector each; a reference runs with its alternatives,
    since hidden states of whole windows are too large to keep."""
    begin = begin_tokens(loaded, settings)
    tap = settings.layer or loaded.module.last_hidden
    families: dict[str, dict[str, int]] = {}
    for w in windows:
        family = families.setdefault(w.ref_seq, {})
        family.setdefault(w.alt_seq, len(family))
    most = max(1, settings.batch_tokens // max(len(w.ref_seq) for w in windows) - 1) if windows else 1
    jobs = [
        (ref, alts[at : at + most]) for ref, family in families.items() for alts in [list(family)]
        for at in range(0, len(alts), most)
    ]  # fmt: skip
    special = torch.tensor(sorted(loaded.tokenizer.special_ids), device=loaded.device)
    answers: dict[tuple[str, str], Values] = {}

    @torch.inference_mode()
    def compute(batch: list[tuple[str, list[str]]]) -> list[list[Values]]:
        distances = []
        for ref, alts in batch:
            rows = [tokens(loaded, s, begin) for s in (ref, *alts)]
            if len({len(row) for row in rows}) > 1:
                raise NexVarError(
                    f"the two windows have {len(rows[0])} and {max(map(len, rows))} tokens and cannot be compared flat",
                    where="--pool",
                    fix="mean, or a model with a token for each base",
                )
            ids_BL, mask_BL = padded(loaded, rows)
            hidden = loaded.module(ids_BL, mask_BL=mask_BL, taps=(tap,), logits=False).taps[tap].float()
            tally.computed += ids_BL.numel()
            stride = loaded.module.tap_stride.get(tap, 1)
            pooled_BL = coarser(mask_BL & ~torch.isin(ids_BL, special), stride)
            flat = hidden.masked_fill(~pooled_BL[..., None], 0.0).flatten(1)
            columns = {n: distance(flat[:1].expand(len(alts), -1), flat[1:], n).tolist() for n in wanted}
            distances.append([{n: column[i] for n, column in columns.items()} for i in range(len(alts))])
        return distances

    for done, job in enumerate(jobs, 1):
        ref, alts = job
        for alt, values in zip(alts, _fitting_alts(loaded, job, compute), strict=True):
            answers[ref, alt] = values
        tally.done(done / len(jobs))
    return [answers[w.ref_seq, w.alt_seq] for w in windows]


def _fitting_alts(
    loaded: Loaded,
    job: tuple[str, list[str]],
    compute: Callable[[list[tuple[str, list[str]]]], list[list[Values]]],
) -> list[Values]:
    """One reference with its alternatives; fewer at a time when memory runs out."""
    ref, alts = job

    def halves(job: tuple[str, list[str]]) -> list[tuple[str, list[str]]]:
        half = len(job[1]) // 2
        return [(ref, part) for part in (job[1][:half], job[1][half:]) if part]

    return run_fitting(
        loaded, [(ref, alts)], compute, halves, lambda parts: [v for p in parts for v in p], lambda job: len(job[0])
    )[0]

"""Readouts of a variant: what one number says about an allele, given its two windows on one strand.

    likelihood   llr, llr_sum         log-likelihood of the alternative window minus the reference's, mean | sum
                 llr_acgt             the same, softmax over the four nucleotides
                 site                 log p(alternative allele | what precedes) - log p(reference allele | …)
    masked       masked_llr           the tokens that differ are masked: log p(alternative) - log p(reference)
    embedding    cosine, l1, l2, dot  between the pooled hidden states of the two windows

Every family of readouts is one pass over the model, whichever of its readouts are asked for.
Sources: Brixi et al. 2025 (llr); TraitGym (llr_sum, embeddings); Benegas et al. 2023, GPN (masked_llr);
Dalla-Torre et al. 2024 (embeddings).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from nexvar.engine import Member, Tally, equal_batches, log_likelihoods, padded, run_fitting
from nexvar.errors import NexVarError
from nexvar.load import Loaded
from nexvar.readout import DISTANCES, coarser, distance, next_token_log_probs, pool
from nexvar.windows import Windows

LIKELIHOOD = ("llr", "llr_sum", "llr_acgt", "site")
MASKED = ("masked_llr",)
EMBEDDING = DISTANCES
READOUTS = (*LIKELIHOOD, *MASKED, *EMBEDDING)
DESCRIPTIONS = {
    "llr": "log-likelihood per base of the alternative window minus that of the reference window",
    "llr_sum": "log-likelihood of the alternative window minus that of the reference window, summed",
    "llr_acgt": "llr with the softmax over the four nucleotides",
    "site": "log p(alternative allele) - log p(reference allele), each given the bases before it",
    "masked_llr": "log p(alternative) - log p(reference) at the masked tokens that differ",
    "cosine": "1 - cosine of the pooled embeddings of the two windows",
    "l1": "L1 distance of the pooled embeddings of the two windows",
    "l2": "L2 distance of the pooled embeddings of the two windows",
    "dot": "inner product of the pooled embeddings of the two windows",
}

R = TypeVar("R")
Values = dict[str, float]  # readout -> value


@dataclass(frozen=True)
class How:
    """Settings of the readouts. layer: a tap for the embeddings (default: the last hidden state); pool: see readout."""

    readouts: tuple[str, ...]
    batch_tokens: int
    share: bool = True
    layer: str | None = None
    pool: str = "mean"


def check_readouts(readouts: Sequence[str], loaded: Loaded) -> None:
    """NexVarError for a readout that does not exist or that this model cannot give."""
    for name in readouts:
        if name not in READOUTS:
            raise NexVarError(f"no readout {name!r}", where="--readout", fix=f"one of {', '.join(READOUTS)}")
        wrong = {"causal": MASKED, "masked": LIKELIHOOD}[loaded.card.objective]
        if name in wrong:
            right = [r for r in READOUTS if r not in wrong]
            raise NexVarError(
                f"{loaded.card.name} is a {loaded.card.objective} model and has no {name!r}",
                where="--readout",
                fix=f"one of {', '.join(right)}",
            )


def score_windows(loaded: Loaded, windows: Sequence[Windows], how: How, tally: Tally) -> list[Values]:
    """The readouts of each pair of windows, in order; equal windows are computed once."""
    values: list[Values] = [{} for _ in windows]
    for names, scorer in ((LIKELIHOOD, _likelihoods), (MASKED, _masked), (EMBEDDING, _embeddings)):
        wanted = [name for name in how.readouts if name in names]
        if wanted:
            for value, found in zip(values, scorer(loaded, windows, wanted, how, tally), strict=True):
                value.update(found)
    return values


def tokens(loaded: Loaded, sequence: str) -> list[int]:
    """The ids this model is scored on: with the begin or the special tokens that its official scoring has."""
    card = loaded.card
    ids = loaded.tokenizer.encode(sequence, special=card.special_tokens).ids
    return [card.bos_id, *ids] if card.bos_id is not None else ids


# -- likelihood ---------------------------------------------------------------------------------------------------


def _likelihoods(loaded: Loaded, windows: Sequence[Windows], wanted: list[str], how: How, tally: Tally) -> list[Values]:
    only_site = wanted == ["site"]  # then nothing behind the allele matters
    families: list[list[Member]] = []
    place: dict[tuple[str, str, int, int], tuple[int, int]] = {}  # window pair -> family, member
    reference: dict[tuple[str, int], int] = {}  # reference window, its site's end -> family
    before = int(loaded.card.bos_id is not None)

    def member(sequence: str, site_end: int) -> Member:
        return Member(tokens(loaded, sequence[:site_end] if only_site else sequence), site_end + before)

    # NOTE: alleles whose REF ends elsewhere need another site sum of the same reference window: a family of their own
    for w in windows:
        ref_end = w.ref_site[1] if "site" in wanted else 0
        family = reference.setdefault((w.ref_seq, ref_end), len(families))
        if family == len(families):
            families.append([member(w.ref_seq, w.ref_site[1])])
        key = (w.ref_seq, w.alt_seq, ref_end, w.alt_site[1] if "site" in wanted else 0)
        if key not in place:
            place[key] = (family, len(families[family]))
            families[family].append(member(w.alt_seq, w.alt_site[1]))
    found = log_likelihoods(
        loaded, families, batch_tokens=how.batch_tokens, share=how.share, nucleotides="llr_acgt" in wanted, tally=tally
    )
    values = []
    for w in windows:
        ends = (w.ref_site[1], w.alt_site[1]) if "site" in wanted else (0, 0)
        family, m = place[(w.ref_seq, w.alt_seq, *ends)]
        ref, alt = found[family][0], found[family][m]
        every = {
            "llr": alt.total / max(alt.predictions, 1) - ref.total / max(ref.predictions, 1),
            "llr_sum": alt.total - ref.total,
            "llr_acgt": alt.nucleotides / max(alt.predictions, 1) - ref.nucleotides / max(ref.predictions, 1),
            "site": alt.site - ref.site,
        }
        values.append({name: every[name] for name in wanted})
    return values


# -- masked -------------------------------------------------------------------------------------------------------


def differing_tokens(ref: Sequence[int], alt: Sequence[int]) -> tuple[int, int, int]:
    """(start, ref_end, alt_end): outside of [start, end) the two tokenisations are the same."""
    shortest = min(len(ref), len(alt))
    start = next((i for i in range(shortest) if ref[i] != alt[i]), shortest)
    tail = next((i for i in range(shortest - start) if ref[-1 - i] != alt[-1 - i]), shortest - start)
    return start, len(ref) - tail, len(alt) - tail


def _tokens_to_mask(loaded: Loaded, w: Windows) -> list[tuple[list[int], int, int]]:
    """(ids, start, end) of the reference and of the alternative window: tokens [start, end) are the variant's.

    Alleles of one length: the tokens that differ, which under BPE may be more than those at the site. Otherwise the
    tokens that cover the allele: behind an indel every base moves and every k-mer differs, up to the window's end,
    but they are context there, not the variant.
    """
    encoded = [loaded.tokenizer.encode(s, special=loaded.card.special_tokens) for s in (w.ref_seq, w.alt_seq)]
    if w.ref_site[1] - w.ref_site[0] == w.alt_site[1] - w.alt_site[0]:
        start, *ends = differing_tokens(encoded[0].ids, encoded[1].ids)
        return [(e.ids, start, end) for e, end in zip(encoded, ends, strict=True)]
    found = []
    for e, site in zip(encoded, (w.ref_site, w.alt_site), strict=True):
        over = e.tokens_over(*site)  # none for an empty allele between two tokens: nothing to predict
        found.append((e.ids, over[0], over[-1] + 1) if over else (e.ids, 0, 0))
    return found


@dataclass(frozen=True)
class _Masked:
    """A tokenised window with tokens [start, end) masked."""

    ids: tuple[int, ...]
    start: int
    end: int


def _masked(loaded: Loaded, windows: Sequence[Windows], wanted: list[str], how: How, tally: Tally) -> list[Values]:
    """sum log p(alternative tokens) - sum log p(reference tokens), the tokens of the variant masked in both windows.

    Where both have as many such tokens the masked windows are one and the same: one pass serves all alternatives of
    a site. Where a tokenizer (BPE, or an indel) splits them differently, each window is masked on its own.
    """
    mask = loaded.tokenizer.mask_id
    if mask is None:
        raise NexVarError(f"the tokenizer of {loaded.card.name} has no mask token", where="--readout")
    passes: dict[_Masked, int] = {}
    questions: list[tuple[int, tuple[int, ...]]] = []  # a pass, and the tokens whose probability it is asked for
    for w in windows:
        for ids, start, end in _tokens_to_mask(loaded, w):
            job = _Masked((*ids[:start], *[mask] * (end - start), *ids[end:]), start, end)
            questions.append((passes.setdefault(job, len(passes)), tuple(ids[start:end])))
    jobs = list(passes)
    asked: list[list[tuple[int, ...]]] = [[] for _ in jobs]
    for i, targets in questions:
        if targets not in asked[i]:
            asked[i].append(targets)
    tally.naive += sum(len(jobs[i].ids) for i, _ in questions)

    @torch.inference_mode()
    def compute(batch: list[int]) -> list[list[float]]:
        ids_BL, mask_BL = padded(loaded, [jobs[j].ids for j in batch])
        logits = loaded.module(ids_BL, mask_BL=mask_BL).logits
        tally.computed += ids_BL.numel()
        found = []
        for row, j in enumerate(batch):
            span = logits[row, jobs[j].start : jobs[j].end][None].expand(len(asked[j]), -1, -1)
            targets = torch.tensor(asked[j], device=logits.device).reshape(len(asked[j]), -1)
            found.append(next_token_log_probs(span, targets).double().sum(-1).tolist())
        return found

    answers = _batched(loaded, [len(job.ids) for job in jobs], how.batch_tokens, compute)
    log_p = [answers[i][asked[i].index(targets)] for i, targets in questions]
    return [{"masked_llr": alt - ref} for ref, alt in zip(log_p[::2], log_p[1::2], strict=True)]


# -- embedding ----------------------------------------------------------------------------------------------------


def _embeddings(loaded: Loaded, windows: Sequence[Windows], wanted: list[str], how: How, tally: Tally) -> list[Values]:
    unique = list(dict.fromkeys(seq for w in windows for seq in (w.ref_seq, w.alt_seq)))
    vectors_ND = pooled(loaded, unique, layer=how.layer, method=how.pool, batch_tokens=how.batch_tokens, tally=tally)
    index = {seq: i for i, seq in enumerate(unique)}
    ref = vectors_ND[[index[w.ref_seq] for w in windows]]
    alt = vectors_ND[[index[w.alt_seq] for w in windows]]
    tally.naive += sum(len(w.ref_seq) + len(w.alt_seq) for w in windows)
    columns = {name: distance(ref, alt, name).tolist() for name in wanted}
    return [{name: column[i] for name, column in columns.items()} for i in range(len(windows))]


def pooled(
    loaded: Loaded, sequences: Sequence[str], *, layer: str | None, method: str, batch_tokens: int, tally: Tally
) -> Tensor:
    """(N, D) float32 on the CPU: one vector per sequence; special tokens and padding never enter."""
    tap = layer or loaded.module.last_hidden
    stride = getattr(loaded.module, "tap_stride", {}).get(tap, 1)  # U-Nets have taps of a lower resolution
    rows = [tokens(loaded, sequence) for sequence in sequences]
    special = torch.tensor(sorted(loaded.tokenizer.special_ids), device=loaded.device)

    @torch.inference_mode()
    def compute(batch: list[int]) -> list[Tensor]:
        ids_BL, mask_BL = padded(loaded, [rows[i] for i in batch])
        hidden = loaded.module(ids_BL, mask_BL=mask_BL, taps=(tap,), logits=False).taps[tap]
        tally.computed += ids_BL.numel()
        real_BL = coarser(mask_BL & ~torch.isin(ids_BL, special), stride)
        return list(pool(hidden, real_BL, method).cpu())

    return torch.stack(_batched(loaded, [len(row) for row in rows], batch_tokens, compute))


def _batched(
    loaded: Loaded, lengths: Sequence[int], batch_tokens: int, compute: Callable[[list[int]], list[R]]
) -> list[R]:
    """``compute`` over all indices in batches that fit; results in order."""
    results: dict[int, R] = {}
    for batch in equal_batches(lengths, batch_tokens, pads=loaded.module.pads_safely):
        values = run_fitting(loaded, batch, compute, lambda i: [i], lambda parts: parts[0], lambda i: lengths[i])
        results.update(zip(batch, values, strict=True))
    return [results[i] for i in range(len(lengths))]

"""Objectives: letters and their weights -> what the model reads, what it should say, and how much each answer counts.

    causal   ids = tokens;          target[t] = token[t + 1]
    masked   ids = tokens with some hidden (80 % mask, 10 % a random base token, 10 % unchanged);  target = tokens

Both give one loss: the weighted sum of -log p(target). Masking depends on (seed, window index) alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.tokenizers import Tokenizer
from nexvar.train.data import IS_BASE
from nexvar.train.recipe import ObjectivePart

LN2 = math.log(2.0)


@dataclass
class Batch:
    """ids, targets (B, L) int64; weight (B, L) float32, 0 where nothing is asked; mask (B, L) bool or None.

    bases: how many bases the weighted targets stand for (weighted, too): what "per base" divides by.
    """

    ids: Tensor
    targets: Tensor
    weight: Tensor
    mask: Tensor | None
    bases: float

    def to(self, device: torch.device) -> Batch:
        mask = None if self.mask is None else self.mask.to(device)
        return Batch(self.ids.to(device), self.targets.to(device), self.weight.to(device), mask, self.bases)

    def part(self, number: int, count: int) -> Batch:
        """The ``number``-th of ``count`` parts of the positions, for tokens of one base each."""
        ids, targets, weight = (x.chunk(count, dim=1)[number] for x in (self.ids, self.targets, self.weight))
        return Batch(ids, targets, weight, None, float(weight.double().sum()))


def weighted_nll(logits_BLV: Tensor, targets_BL: Tensor, weight_BL: Tensor) -> Tensor:
    """Sum over positions of weight x -log p(target), softmax in float32 (nats)."""
    nll = F.cross_entropy(logits_BLV.float().flatten(0, 1), targets_BL.flatten(), reduction="none")
    return (nll * weight_BL.flatten()).sum()


class Objective:
    """Turns windows of letters into batches for one tokenizer."""

    def __init__(self, part: ObjectivePart, tokenizer: Tokenizer, vocab_size: int, seed: int) -> None:
        self.part, self.tokenizer, self.seed = part, tokenizer, seed
        if part.kind == "masked" and tokenizer.mask_id is None:
            raise NexVarError("this tokenizer has no mask token", where="objective.kind", fix='kind = "causal"')
        if part.kind not in ("causal", "masked"):
            raise NexVarError(f"unknown objective {part.kind!r}", where="objective.kind", fix='"causal" or "masked"')
        if not 0 < part.mask_rate < 1 or part.mask_span < 1:
            raise NexVarError(f"mask_rate {part.mask_rate}, mask_span {part.mask_span}", where="objective")
        self.table = single_base_table(tokenizer)
        largest = tokenizer.vocab_size - 1 if self.table is None else int(self.table.max())
        largest = max(largest, tokenizer.mask_id or 0 if part.kind == "masked" else 0)
        if largest >= vocab_size:
            raise NexVarError(
                f"the tokenizer's ids reach {largest}, the model's vocabulary is {vocab_size}",
                where="model.config",
                fix="a larger vocab_size, or the tokenizer that belongs to this model",
            )
        ordinary = set(range(tokenizer.vocab_size)) - set(tokenizer.special_ids)
        bases = tokenizer.base_ids()
        self.ordinary = np.array(sorted(bases.values() if bases else ordinary))

    def batch(self, text_BL: np.ndarray, weight_BL: np.ndarray, first: int) -> Batch:
        """A batch of windows ``first`` .. of (B, L) uint8 letters, upper case, with a weight for each base."""
        if self.table is not None:
            ids, real = self.table[text_BL], None
            weight, bases = weight_BL.astype(np.float32), np.ones_like(weight_BL)
        else:
            ids, weight, bases, real = self._tokens(text_BL, weight_BL)
        if self.part.kind == "causal":
            targets = np.concatenate([ids[:, 1:], ids[:, :1]], axis=1)
            weight = np.concatenate([weight[:, 1:], np.zeros_like(weight[:, :1])], axis=1)
            bases = np.concatenate([bases[:, 1:], bases[:, :1]], axis=1)
        else:
            targets, (ids, hidden) = ids, self._hide(ids, weight, first)
            weight = weight * hidden
        mask = None if real is None or real.all() else torch.from_numpy(real)
        asked = float((weight * bases).sum(dtype=np.float64))
        return Batch(torch.from_numpy(ids), torch.from_numpy(targets), torch.from_numpy(weight), mask, asked)

    def _tokens(self, text_BL: np.ndarray, weight_BL: np.ndarray) -> tuple[np.ndarray, ...]:
        """Tokens of more than one base: ids, their mean weights, their bases and which are no padding.

        Their tokenizers know no letters but A, C, G, T and N: the others, and what separates records, are read as N.
        """
        known_BL = np.where(IS_BASE[text_BL], text_BL, ord("N")).astype(np.uint8)
        rows = [self.tokenizer.encode(text.tobytes().decode()) for text in known_BL]
        shape = len(rows), max(len(row.ids) for row in rows)
        ids = np.full(shape, self.tokenizer.pad_id, dtype=np.int64)
        weight, bases = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
        real = np.zeros(shape, dtype=bool)
        for b, row in enumerate(rows):
            ids[b, : len(row.ids)], real[b, : len(row.ids)] = row.ids, True
            for t, (start, end) in enumerate(row.spans):
                if end > start:
                    weight[b, t], bases[b, t] = weight_BL[b, start:end].mean(), end - start
        return ids, weight, bases, real

    def _hide(self, ids: np.ndarray, weight: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        """BERT's corruption of whole spans of ``mask_span`` tokens; nothing of weight 0 is ever hidden."""
        rate, span = self.part.mask_rate, self.part.mask_span
        shown, hidden = ids.copy(), np.zeros(ids.shape, dtype=bool)
        for b in range(len(ids)):
            rng = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, 1, first + b]))
            phase = int(rng.integers(span))
            group = (np.arange(ids.shape[1]) + phase) // span
            hidden[b] = (rng.random(group[-1] + 1) < rate)[group] & (weight[b] > 0)
            fate = rng.random(group[-1] + 1)[group]
            random_ids = self.ordinary[rng.integers(len(self.ordinary), size=ids.shape[1])]
            shown[b] = np.where(hidden[b] & (fate < 0.8), self.tokenizer.mask_id, shown[b])
            shown[b] = np.where(hidden[b] & (fate >= 0.8) & (fate < 0.9), random_ids, shown[b])
        return shown, hidden


def single_base_table(tokenizer: Tokenizer) -> np.ndarray | None:
    """(256,) int64: the token of each letter if every token is one base, else None; unknown letters become N."""
    if tokenizer.base_ids() is None:
        return None

    def one(letter: str) -> int | None:
        try:
            ids = tokenizer.encode(letter, special=False).ids
        except NexVarError:
            return None
        return ids[0] if len(ids) == 1 else None

    unknown = one("N")
    if unknown is None:
        unknown = tokenizer.pad_id
    table = np.full(256, unknown, dtype=np.int64)
    for letter in "ACGTNRYKMSWBVDH":
        token = one(letter)
        table[ord(letter)] = unknown if token is None else token
    table[0] = getattr(tokenizer, "eos_id", unknown)
    return table


def loss_of(model: Any, batch: Batch, part: ObjectivePart, bf16: bool) -> tuple[Tensor, Tensor]:
    """(what to differentiate, the weighted negative log-likelihood), both summed over the batch, in nats.

    Router losses count once per weighted token, so that dividing by the batch's weight gives their published scale.
    """
    with torch.autocast(batch.ids.device.type, torch.bfloat16, enabled=bf16):
        out = model(batch.ids, mask_BL=batch.mask)
    nll = weighted_nll(out.logits, batch.targets, batch.weight)
    total = nll
    for name, factor in (("aux_loss", part.router_aux), ("z_loss", part.router_z)):
        if factor:
            total = total + factor * out.extras[name] * batch.weight.sum()
    return total, nll.detach()

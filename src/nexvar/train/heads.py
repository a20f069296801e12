"""A head on a trained model: the last hidden state of a sequence, pooled, or of each of its tokens -> outputs.

ids ── trunk ── hidden (B, T, D) ─┬─ pool ── (B, D)        one output row a sequence
                                  └─ each token ── (N, D)  one a base: bases of a k-mer share their token's
                                      layer norm without weights ── head ── (N, outputs)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexvar.errors import NexVarError
from nexvar.inference.core.batching import equal_batches, padded
from nexvar.inference.core.readout import coarser, pool
from nexvar.inference.core.sequences import encoding, token_ids
from nexvar.tokenizers import Encoding
from nexvar.weights.load import Loaded

POOLS = ("mean", "max", "last", "cls", "site")
HeadMaker = Callable[[int, int], nn.Module]  # (width of the hidden state, outputs) -> (N, width) to (N, outputs)


@dataclass(frozen=True)
class Tokens:
    """One sequence as the head sees it.

    ids: with special tokens where the model has them. reads: the tokens that outputs are read from: the pooled ones of
    a sequence, or, where every base has a label, the token of each base.
    """

    ids: tuple[int, ...]
    reads: tuple[int, ...]


def tokens_of(loaded: Loaded, text: str, pooling: str, site: int) -> Tokens:
    """For one output row a sequence. site: the 0-based base that "site" reads."""
    made = encoding(loaded, text)
    if pooling == "site":
        return Tokens(tuple(made.ids), (_token_of_bases(loaded, made, len(text))[site],))
    return Tokens(tuple(made.ids), (0,) if pooling == "cls" else tuple(_real(loaded, made)))


def tokens_of_bases(loaded: Loaded, text: str, labels: int | None = None, where: object = None) -> Tokens:
    """For one output row a base; or a token, where there are so many labels. NexVarError for another number."""
    made = encoding(loaded, text)
    real = _real(loaded, made)
    if labels not in (None, len(text), len(real)):
        fix = "one character, or one value before each comma, a base"
        raise NexVarError(f"{labels} labels of {len(text)} bases ({len(real)} tokens)", where=where, fix=fix)
    reads = real if labels == len(real) else _token_of_bases(loaded, made, len(text))
    return Tokens(tuple(made.ids), tuple(reads))


def _real(loaded: Loaded, made: Encoding) -> list[int]:
    return [i for i, id_ in enumerate(made.ids) if id_ not in loaded.tokenizer.special_ids]


def _token_of_bases(loaded: Loaded, made: Encoding, length: int) -> list[int]:
    """Index of the token that holds each base."""
    of_base: list[int] = made.base_to_token(length).tolist()
    if -1 in of_base:
        what = f"base {of_base.index(-1)} is in no token of {loaded.card.name}"
        raise NexVarError(what, where="task", fix="labels of whole sequences")
    return of_base


def check_pool(loaded: Loaded, pooling: str) -> None:
    """NexVarError where there is no such pooling, or the model has no [CLS]."""
    if pooling not in POOLS:
        raise NexVarError(f"no pool {pooling!r}", where="task.pool", fix=f"one of {', '.join(POOLS)}")
    if pooling == "cls" and not hasattr(loaded.tokenizer, "cls_id"):
        what = f"{loaded.card.name} puts no [CLS] token before a sequence"
        raise NexVarError(what, where="task.pool", fix='"mean", "max" or "last"')


def linear(width: int, outputs: int) -> nn.Module:
    """Says nothing before it has learned: all zeros."""
    head = nn.Linear(width, outputs)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


class TaskModel(nn.Module):
    """trunk: the loaded model. forward: one batch of ``Tokens`` -> (N, outputs) float32, N rows or all their bases."""

    def __init__(
        self,
        loaded: Loaded,
        outputs: int,
        pooling: str,
        *,
        per_base: bool = False,
        freeze: bool = False,
        head: HeadMaker = linear,
    ) -> None:
        super().__init__()
        check_pool(loaded, pooling)
        self.trunk, self.pooling, self.per_base, self.freeze = loaded.module, pooling, per_base, freeze
        self.layer = loaded.module.last_hidden
        self.causal = loaded.card.objective == "causal"
        self.stride = loaded.module.tap_stride.get(self.layer, 1)
        with torch.no_grad():
            ids_1L, mask_1L = padded(loaded, [token_ids(loaded.tokenizer, "ACGT" * 32, special=False)])
            width = self._hidden(ids_1L, mask_1L).shape[-1]
        self.head = head(width, outputs).to(loaded.device)
        self.outputs = outputs
        if freeze:
            self.trunk.requires_grad_(False)

    def _hidden(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        mask = None if self.causal else mask_BL  # right padding changes nothing in a causal model
        return self.trunk(ids_BL, mask_BL=mask, taps=(self.layer,), logits=False).taps[self.layer]

    def positions_per_token(self, parameter: str) -> float:
        """As the trunk's; the head sees one position a window, which is next to nothing."""
        return self.trunk.positions_per_token(parameter.removeprefix("trunk."))

    def train(self, mode: bool = True) -> TaskModel:
        """NOTE: a frozen trunk stays as it will be used: without dropout."""
        super().train(mode)
        if self.freeze:
            self.trunk.eval()
        return self

    def forward(self, ids_BL: Tensor, mask_BL: Tensor, reads: Sequence[Sequence[int]]) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze):
            hidden_BTD = self._hidden(ids_BL, mask_BL)
        return self.of_hidden(hidden_BTD, reads, ids_BL.shape[1])

    def of_hidden(self, hidden_BTD: Tensor, reads: Sequence[Sequence[int]], length: int) -> Tensor:
        """``forward`` from the tap ``layer`` on. length: of the rows in tokens."""
        if self.per_base:
            read = [hidden_BTD[b, [i // self.stride for i in at]] for b, at in enumerate(reads)]
            hidden_ND = torch.cat(read).float()
        else:
            pooled_BL = torch.zeros(len(reads), length, dtype=torch.bool, device=hidden_BTD.device)
            for b, at in enumerate(reads):
                pooled_BL[b, list(at)] = True
            method = "last" if self.pooling in ("cls", "site") else self.pooling  # one token is read: the last is it
            hidden_ND = pool(hidden_BTD, coarser(pooled_BL, self.stride), method)
        with torch.autocast(hidden_BTD.device.type, enabled=False):
            out_NK: Tensor = self.head(F.layer_norm(hidden_ND, hidden_ND.shape[-1:]))
        return out_NK


def outputs(model: Any, loaded: Loaded, rows: Sequence[Tokens], bf16: bool) -> Tensor:
    """(N, outputs) of one batch, row by row. A model that cannot pad reads equal lengths together."""
    parts: list[Tensor] = [torch.empty(0)] * len(rows)
    lengths = [len(row.ids) for row in rows]
    for batch in equal_batches(lengths, len(rows) * max(lengths), pads=loaded.module.pads_safely):
        ids_BL, mask_BL = padded(loaded, [rows[i].ids for i in batch])
        reads = [rows[i].reads for i in batch]
        with torch.autocast(loaded.device.type, torch.bfloat16, enabled=bf16):
            out_NK = model(ids_BL, mask_BL, reads)
        counts = [len(at) for at in reads] if model.per_base else [1] * len(batch)
        for i, part in zip(batch, out_NK.split(counts), strict=True):
            parts[i] = part
    return torch.cat(parts)

"""Embeddings of sequences: hidden states of named layers, pooled over each sequence's own tokens, and attention maps.

    text ── tokens ── batches of like length ── model (one forward for all layers) ── pool ── per sequence and layer

A sequence's embedding is that of the sequence alone, whatever else is in the batch: special tokens and padding are
never pooled, and models that padding would disturb get batches of one length. Causal models read long sequences in
pieces with a cache and pool piece by piece, so that memory does not grow with the length (but for ``pool="none"``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.inference.core.batching import default_batch_tokens, equal_batches, padded, run_fitting
from nexvar.inference.core.embedding_cache import EmbeddingCache
from nexvar.inference.core.pieces import cache_for_pieces, piece_tokens
from nexvar.inference.core.readout import coarser, pool
from nexvar.inference.core.sequences import clean, encoding, other_strand, token_ids
from nexvar.models import check_taps
from nexvar.weights.load import Loaded

POOLS = ("mean", "max", "last", "cls", "none")
STRANDS = ("forward", "reverse", "both")

Vectors = dict[str, Tensor]  # layer -> (D,), or (T, D) with pool "none"; float32 on the CPU


@dataclass(frozen=True)
class EmbedSettings:
    """Checked options of ``embed``."""

    layers: tuple[str, ...]
    pool: str = "mean"
    strand: str = "forward"


def check(loaded: Loaded, layer: str | Sequence[str] | None, method: str, strand: str) -> EmbedSettings:
    """The options, or a NexVarError that names what there is."""
    example = f"name some, such as {loaded.module.last_hidden!r}"
    given = loaded.module.last_hidden if layer is None else layer
    names = [given] if isinstance(given, str) else arguments.a_list(given, "layer", "layers' names")
    layers = tuple(arguments.text(name, "layer", example) for name in names)
    if not layers:
        raise NexVarError("no layer", where="layer", fix=example)
    check_taps(layers, loaded.module.tap_names)
    arguments.one_of(method, "pool", POOLS)
    arguments.one_of(strand, "strand", STRANDS)
    if method == "cls" and not hasattr(loaded.tokenizer, "cls_id"):
        raise NexVarError(
            f"{loaded.card.name} puts no [CLS] token before a sequence", where="pool", fix="'mean', 'max' or 'last'"
        )
    return EmbedSettings(layers, method, strand)


def embed(
    loaded: Loaded,
    seqs: Sequence[str],
    *,
    layer: str | Sequence[str] | None = None,
    pool: str = "mean",
    strand: str = "forward",
    batch_tokens: int | None = None,
    cache: EmbeddingCache | None = None,
) -> Tensor | list[Tensor] | dict[str, Tensor] | dict[str, list[Tensor]]:
    """See ``NexVar.embed``. cache: pooled embeddings that other runs computed, and keep."""
    seqs = arguments.a_list(seqs, "seqs")
    settings = check(loaded, layer, pool, strand)
    if batch_tokens is not None:
        batch_tokens = arguments.whole(batch_tokens, "batch_tokens", 1)
    texts = [clean(loaded, seq, f"seqs[{i}]") for i, seq in enumerate(seqs)]
    compute = partial(vectors, loaded, settings=settings, batch_tokens=batch_tokens or default_batch_tokens(loaded))
    embedded = compute(texts) if cache is None or pool == "none" else _kept(cache, texts, settings, compute)
    if pool == "none":
        lists = {name: [each[name] for each in embedded] for name in settings.layers}
        return lists if layer is not None and not isinstance(layer, str) else lists[settings.layers[0]]
    stacks = {name: _stack([each[name] for each in embedded]) for name in settings.layers}
    return stacks if layer is not None and not isinstance(layer, str) else stacks[settings.layers[0]]


def _stack(rows: list[Tensor]) -> Tensor:
    return torch.stack(rows) if rows else torch.empty(0, 0)


def _kept(
    cache: EmbeddingCache, texts: Sequence[str], settings: EmbedSettings, compute: Callable[[list[str]], list[Vectors]]
) -> list[Vectors]:
    """Those that ``cache`` has, and the others computed and put there."""
    keys = {text: [(settings.pool, settings.strand, layer, text) for layer in settings.layers] for text in texts}
    known = iter(cache.get([key for each in keys.values() for key in each]))
    found: dict[str, Vectors] = {}
    for text in keys:
        stored = {layer: next(known) for layer in settings.layers}
        whole = {layer: vector for layer, vector in stored.items() if vector is not None}
        if len(whole) == len(stored):
            found[text] = whole
    missing = [text for text in keys if text not in found]
    computed = dict(zip(missing, compute(missing), strict=True))
    cache.put(
        [key for text in missing for key in keys[text]],
        [computed[text][layer] for text in missing for layer in settings.layers],
    )
    found |= computed
    return [found[text] for text in texts]


def vectors(loaded: Loaded, texts: Sequence[str], settings: EmbedSettings, batch_tokens: int) -> list[Vectors]:
    """The embeddings of clean texts (``sequences.clean``), in order."""
    if settings.strand == "forward":
        return _one_strand(loaded, texts, settings, batch_tokens)
    reverse = _one_strand(loaded, [other_strand(text) for text in texts], settings, batch_tokens)
    if settings.pool == "none":  # rows go from the forward strand's left to its right
        reverse = [{name: rows.flip(0) for name, rows in each.items()} for each in reverse]
    if settings.strand == "reverse":
        return reverse
    if settings.pool == "none":
        for i, text in enumerate(texts):
            _check_alignment(loaded, text, settings.layers, i)
    forward = _one_strand(loaded, texts, settings, batch_tokens)
    return [{name: (f[name] + r[name]) / 2 for name in settings.layers} for f, r in zip(forward, reverse, strict=True)]


def spans(loaded: Loaded, text: str, layer: str, strand: str = "forward") -> list[tuple[int, int]]:
    """The bases, 0-based half-open on the forward strand, of each row that ``pool="none"`` gives for ``layer``."""
    reverse = strand == "reverse"
    read = other_strand(text) if reverse else text
    stride = loaded.module.tap_stride.get(layer, 1)
    tokens = encoding(loaded, read)
    special = loaded.tokenizer.special_ids
    real = [span if id_ not in special else None for id_, span in zip(tokens.ids, tokens.spans, strict=True)]
    covered = []
    for start in range(0, len(real), stride):
        inside = [span for span in real[start : start + stride] if span is not None]
        if inside:
            covered.append((inside[0][0], inside[-1][1]))
    L = len(text)
    return [(L - end, L - start) for start, end in reversed(covered)] if reverse else covered


def _check_alignment(loaded: Loaded, text: str, layers: Sequence[str], index: int) -> None:
    for layer in layers:
        if spans(loaded, text, layer) != spans(loaded, text, layer, "reverse"):
            raise NexVarError(
                f"the tokens of the two strands of sequence {index} cover different bases: they cannot be averaged",
                where="strand",
                fix="embed 'forward' and 'reverse', or pool",
            )


# -- one strand ---------------------------------------------------------------------------------------------------


def _one_strand(loaded: Loaded, texts: Sequence[str], settings: EmbedSettings, batch_tokens: int) -> list[Vectors]:
    """Equal texts are computed once."""
    special = loaded.card.special_tokens or settings.pool == "cls"
    unique = list(dict.fromkeys(texts))
    rows = [token_ids(loaded.tokenizer, text, special=special) for text in unique]
    lengths = [len(row) for row in rows]
    for text, row in zip(unique, rows, strict=True):
        if loaded.tokenizer.special_ids.issuperset(row):
            raise NexVarError(f"{text[:40]!r} holds no base to pool", where=f"seqs[{texts.index(text)}]")
    by_text: dict[str, Vectors] = {}

    def compute(batch: list[int]) -> list[Vectors]:
        return _forward(loaded, [rows[i] for i in batch], settings)

    for batch in equal_batches(lengths, batch_tokens, pads=loaded.module.pads_safely):
        results = run_fitting(loaded, batch, compute, lambda i: [i], lambda parts: parts[0], lambda i: lengths[i])
        by_text.update((unique[i], result) for i, result in zip(batch, results, strict=True))
    return [by_text[text] for text in texts]


@torch.inference_mode()
def _forward(loaded: Loaded, rows: Sequence[Sequence[int]], settings: EmbedSettings) -> list[Vectors]:
    """One batch through the model, in pieces if it is long and the model can continue from a cache."""
    module, tokenizer = loaded.module, loaded.tokenizer
    ids_BL, mask_BL = padded(loaded, rows)
    L = ids_BL.shape[1]
    strides = {name: module.tap_stride.get(name, 1) for name in settings.layers}
    if settings.pool == "cls":
        pooled_BL = torch.zeros_like(mask_BL)
        pooled_BL[:, 0] = True
    else:
        special = torch.tensor(sorted(tokenizer.special_ids), device=loaded.device)
        pooled_BL = mask_BL & ~torch.isin(ids_BL, special)
    causal = loaded.card.objective == "causal"
    cache = cache_for_pieces(module, len(rows), L) if causal else None
    step = piece_tokens(module, L) if causal else L
    pools = {name: _Pool(settings.pool) for name in settings.layers}
    for start in range(0, L, step):
        piece = slice(start, start + step)
        # NOTE: right padding changes nothing in a causal model, and a cache takes no mask with padding behind tokens
        mask = None if causal else mask_BL
        taps = module(ids_BL[:, piece], mask_BL=mask, taps=settings.layers, cache=cache, logits=False).taps
        for name, collected in pools.items():
            collected.add(taps[name], coarser(pooled_BL[:, piece], strides[name]))
    results = {name: collected.rows() for name, collected in pools.items()}
    for name, vectors_B in results.items():
        if not all(bool(torch.isfinite(vector).all()) for vector in vectors_B):
            raise NexVarError(
                f"layer {name} overflows in {str(loaded.dtype).removeprefix('torch.')}", where="dtype", fix="float32"
            )
    return [{name: results[name][b] for name in settings.layers} for b in range(len(rows))]


class _Pool:
    """Pools hidden states that arrive in pieces of the length."""

    def __init__(self, method: str) -> None:
        self.method = "mean" if method == "cls" else method  # cls: the mean over one token
        self.parts: list[list[Tensor]] = []
        self.value_BD: Tensor | None = None
        self.count_B: Tensor | None = None

    def add(self, hidden_BTD: Tensor, pooled_BT: Tensor) -> None:
        """One piece: its hidden states, and which of its positions are pooled."""
        pooled_BT = pooled_BT.to(hidden_BTD.device)  # a model over several devices has its layers on all of them
        if self.method == "none":
            rows = [hidden[pooled].float().cpu() for hidden, pooled in zip(hidden_BTD, pooled_BT, strict=True)]
            self.parts.append(rows)
            return
        new, count = pool(hidden_BTD, pooled_BT, self.method), pooled_BT.sum(1)
        if self.value_BD is None or self.count_B is None:
            self.value_BD, self.count_B = new, count
            return
        here, before = (count > 0)[:, None], (self.count_B > 0)[:, None]
        if self.method == "mean":
            total = self.count_B + count
            share = (count / total.clamp(min=1))[:, None]
            self.value_BD = self.value_BD + share * (new - self.value_BD)
        elif self.method == "max":
            self.value_BD = torch.where(here & before, self.value_BD.maximum(new), new.where(here, self.value_BD))
        else:  # last
            self.value_BD = new.where(here, self.value_BD)
        self.count_B = self.count_B + count

    def rows(self) -> list[Tensor]:
        if self.method == "none":
            return [torch.cat(pieces) for pieces in zip(*self.parts, strict=True)]
        assert self.value_BD is not None
        return list(self.value_BD.cpu())


# -- attention maps -----------------------------------------------------------------------------------------------


@torch.inference_mode()
def attention_maps(loaded: Loaded, seqs: Sequence[str], layers: Sequence[int]) -> dict[int, list[Tensor]]:
    """See ``NexVar.attention_maps``."""
    seqs = arguments.a_list(seqs, "seqs")
    layers = [arguments.whole(layer, "layers", 0) for layer in arguments.a_list(layers, "layers", "whole numbers")]
    if "attentions" not in inspect.signature(loaded.module.forward).parameters:
        raise NexVarError(
            f"{loaded.card.architecture} has no attention maps", where="layers", fix="a transformer, such as nt_v2_50m"
        )
    maps: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    for i, seq in enumerate(seqs):
        ids = encoding(loaded, clean(loaded, seq, f"seqs[{i}]")).ids
        out = loaded.module(torch.tensor([ids], device=loaded.device), logits=False, attentions=tuple(layers))
        for layer in layers:
            maps[layer].append(out.extras["attentions"][layer][0].cpu())
    return maps


def jax_attention_map(attentions: dict[int, Tensor], layer: int, number: int) -> Tensor:
    """The Nucleotide Transformer's ``attention_map_layer_{layer}_number_{number}`` in its JAX package: (B, L, L).

    NOTE: it counts layers from 1 and returns head number + 1 (from 0), clamped to the last head: its users never see
    head 0. Use ``attentions[layer]`` for true heads.
    """
    maps_BHLL = attentions[layer - 1]
    return maps_BHLL[:, min(number + 1, maps_BHLL.shape[1] - 1)]


def jax_attention_maps(
    loaded: Loaded, seqs: Sequence[str], attention_maps_to_save: Sequence[tuple[int, int]]
) -> dict[str, list[Tensor]]:
    """See ``NexVar.attention_maps``."""
    pairs = arguments.pairs(attention_maps_to_save, "attention_maps_to_save")
    layers = sorted({layer - 1 for layer, _ in pairs})
    maps = attention_maps(loaded, seqs, layers)
    return {
        f"attention_map_layer_{layer}_number_{number}": [
            jax_attention_map({layer - 1: one[None]}, layer, number)[0] for one in maps[layer - 1]
        ]
        for layer, number in pairs
    }

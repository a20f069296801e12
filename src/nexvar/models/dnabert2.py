"""DNABERT-2: a BERT encoder over byte-pair tokens of DNA, masked language model. ALiBi instead of positions.

    ids (B, L) ── drop padding ── word + token_type[0] ── LayerNorm ── x (N, D)           N real tokens of all rows
    encoder.layer.i, post-norm:   a = LN(dense(attention(Wqkv(x))) + x)
                                  x = LN(wo(GELU(g) * h) + a),   g, h = gated_layers(a)
    ── put padding back as zeros ── (B, L, D) ── cls.predictions: dense, GELU, LN, decoder ── logits (B, L, V)
                                              └─ pooling ── classifier ── extras["class_logits"] (B, labels)

Unusual:
- Padding costs nothing: everything but attention runs on the N real tokens, attention runs once per set of rows of
  equal length, and padded positions come out exactly zero (their logits are the head of a zero vector), as in the
  original, whose attention however computes padding too.
- Positions are ALiBi biases alone, -slope_h * |i - j|, in both directions: any length works, whatever
  ``alibi_starting_size`` and ``max_position_embeddings`` in config.json say.
- The decoder is tied to the word embeddings; only its bias is a parameter of its own.
- NOTE: the released checkpoint has no pooler (the official ``model(x)[1]`` is random). Classifiers pool by the mean
  over real tokens unless ``pooling="cls"`` asks for the official tanh pooler over [CLS].
- NOTE: the official MLM loss drops labels <= 0, so an [UNK] (id 0) is never a target.
- No Triton: the official fast path casts to float16 even in float32 models and needs a removed Triton API.

Sources: hf.co/zhihan1996/DNABERT-2-117M (revision 7bce263b, its PyTorch path); Zhou et al. 2024, arXiv:2306.15006.
B batch, L length, N real tokens, D width, F MLP width, H heads, d head width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexvar.errors import NexVarError
from nexvar.models import (
    GenomicModel,
    Ia3,
    Memory,
    Output,
    check_attentions,
    check_masked,
    check_taps,
    given_input,
    look_up,
)
from nexvar.ops.attention import attention, attention_naive
from nexvar.ops.linear import Linear
from nexvar.ops.mlp import gated_mlp
from nexvar.ops.tracing import tracing

KEEP_FLOAT32: tuple[str, ...] = ()
QUANTIZED = ("*.Wqkv.weight", "*.attention.output.dense.weight", "*.mlp.gated_layers.weight", "*.mlp.wo.weight")
HEADS = ("cls.", "classifier.", "bert.pooler.")
LORA_TARGETS = ("Wqkv", "gated_layers", "wo")  # PEFT's defaults name no layer of this model
LORA_NAMES = {
    **dict.fromkeys(("query", "key", "value"), ("Wqkv",)),
    "dense": ("attention.output.dense", "gated_layers", "wo"),
}
IA3 = Ia3(fused=(r"attention\.self\.Wqkv",), inputs=(r"mlp\.wo",))
MEMORY = Memory(25, mlp=0, fixed=32e6)
PAD_ID = 3


@dataclass(frozen=True)
class Config:
    """Names as in the official config.json.

    mlm_head: whether the checkpoint has ``cls.predictions``. num_labels: > 0 adds a sequence classifier.
    pooling: what the classifier reads, "mean" over the real tokens or the official "cls" pooler.
    """

    vocab_size: int = 4096
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    mlm_head: bool = True
    num_labels: int = 0
    pooling: str = "mean"

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise NexVarError(
                f"hidden_size {self.hidden_size} is not a multiple of {self.num_attention_heads} heads",
                where="config",
            )
        if self.pooling not in ("mean", "cls"):
            raise NexVarError(f"no pooling {self.pooling!r}", where="config", fix="'mean' or 'cls'")

    tokenizer = context = None  # the cards say it

    @property
    def width(self) -> int:
        return self.hidden_size

    @property
    def mlp_width(self) -> int:
        return self.intermediate_size

    @property
    def vocabulary(self) -> int:
        return self.vocab_size


def alibi_slopes(heads: int) -> list[float]:
    """2^(-8/n), 2^(-16/n), … for n heads, n the power of two below; then every other slope of 2n heads."""

    def powers(n: int) -> list[float]:
        return [2.0 ** (-8.0 * (i + 1) / n) for i in range(n)]

    below = 2 ** math.floor(math.log2(heads))
    return powers(below) + powers(2 * below)[0::2][: heads - below]


class Group(NamedTuple):
    """Rows with equally many real tokens: packed tokens ``start .. start + rows * length``, row after row.

    positions_l: the columns of these tokens if a mask has holes (then there is one row), else None.
    mask_rl: what is real, in a traced graph, which packs nothing, else None.
    """

    start: int
    rows: int
    length: int
    positions_l: Tensor | None
    mask_rl: Tensor | None = None


def pack(mask_BL: Tensor) -> tuple[Tensor, list[Group]]:
    """Where the real tokens are: flat positions b * L + i in packed order (N,), and the groups of rows."""
    B, L = mask_BL.shape
    if tracing():
        return torch.arange(B * L, device=mask_BL.device), [Group(0, B, L, None, mask_BL)]
    columns = torch.arange(L, device=mask_BL.device)
    lengths = mask_BL.sum(1)
    first = columns.where(mask_BL, L).amin(1)
    last = columns.where(mask_BL, -1).amax(1)
    by_length: dict[tuple[int, int], list[int]] = {}
    for row, (length, gaps) in enumerate(zip(lengths.tolist(), (last - first + 1 - lengths).tolist(), strict=True)):
        if length:
            by_length.setdefault((length, row + 1 if gaps else 0), []).append(row)
    flat = torch.arange(B * L, device=mask_BL.device).view(B, L)
    pieces, groups, start = [], [], 0
    for (length, gaps), rows in sorted(by_length.items()):
        chosen = mask_BL[rows]
        pieces.append(flat[rows][chosen])
        groups.append(Group(start, len(rows), length, columns[chosen[0]] if gaps else None))
        start += len(rows) * length
    return (torch.cat(pieces) if pieces else flat.flatten()[:0]), groups


class _SelfAttention(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.Wqkv = Linear(config.hidden_size, 3 * config.hidden_size)

    def forward(
        self, x_ND: Tensor, groups: Sequence[Group], slopes_H: Tensor, maps: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Mixed values (N, D) and, if asked for, each group's attention maps (rows, H, length, length)."""
        qkv_NTHd = self.Wqkv(x_ND).unflatten(-1, (3, self.heads, -1))
        mixed, kept = [], []
        for group in groups:
            own = qkv_NTHd[group.start : group.start + group.rows * group.length]
            q, k, v = own.view(group.rows, group.length, *own.shape[1:]).unbind(2)
            alibi_H: Tensor | None = slopes_H
            bias_HLM = None
            if group.positions_l is not None:
                position = group.positions_l.float()
                alibi_H, bias_HLM = None, -slopes_H[:, None, None] * (position[:, None] - position).abs()
            if maps:
                out, weights = attention_naive(q, k, v, alibi_H=alibi_H, bias_HLM=bias_HLM, mask_BM=group.mask_rl)
                kept.append(weights)
            else:
                out = attention(q, k, v, alibi_H=alibi_H, bias_HLM=bias_HLM, mask_BM=group.mask_rl)
            mixed.append(out.reshape(group.rows * group.length, -1))
        return (torch.cat(mixed) if len(mixed) != 1 else mixed[0]) if mixed else x_ND, kept


class _SelfOutput(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, mixed_ND: Tensor, x_ND: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(mixed_ND)) + x_ND)


class _Attention(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.self = _SelfAttention(config)
        self.output = _SelfOutput(config)


class _Mlp(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.gated_layers = Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.wo = Linear(config.intermediate_size, config.hidden_size)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x_ND: Tensor) -> Tensor:
        out_ND = gated_mlp(x_ND, self.gated_layers, lambda h: self.wo(self.dropout(h)), "gelu")
        return self.layernorm(out_ND + x_ND)


class _Layer(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.attention = _Attention(config)
        self.mlp = _Mlp(config)

    def forward(
        self, x_ND: Tensor, groups: Sequence[Group], slopes_H: Tensor, maps: bool
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """x after this layer; attention's output, x after it, and its maps."""
        mixed_ND, weights = self.attention.self(x_ND, groups, slopes_H, maps)
        after_ND = self.attention.output(mixed_ND, x_ND)
        return self.mlp(after_ND), mixed_ND, after_ND, weights


class _Embeddings(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, ids: Tensor) -> Tensor:
        return self.finish(self.word_embeddings(ids))

    def finish(self, words_ND: Tensor) -> Tensor:
        """Word embeddings -> what the first layer reads."""
        return self.dropout(self.LayerNorm(words_ND + self.token_type_embeddings.weight[0]))


class _Encoder(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))


class _Pooler(nn.Module):
    """The official pooler: tanh(dense(hidden state of [CLS]))."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        return torch.tanh(self.dense(hidden_BLD[:, 0]))


class _Bert(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config)
        if config.num_labels and config.pooling == "cls":
            self.pooler = _Pooler(config)


class _Transform(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


class _Decoder(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))


class _Predictions(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.transform = _Transform(config)
        self.decoder = _Decoder(config)

    def forward(self, x: Tensor, embeddings_VD: Tensor) -> Tensor:
        x = self.transform.LayerNorm(F.gelu(self.transform.dense(x)))
        return F.linear(x, embeddings_VD, self.decoder.bias)


class Model(GenomicModel):
    """See the module's docstring. Hidden states are zero at padding."""

    config: Config
    causal = False
    token_embedding = "bert.embeddings.word_embeddings"
    pads_safely = True
    rc_equivariant = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.bert = _Bert(config)
        if config.mlm_head:
            self.cls = nn.ModuleDict({"predictions": _Predictions(config)})
        if config.num_labels:
            self.classifier_dropout = nn.Dropout(config.hidden_dropout_prob)
            self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        layers = [f"bert.encoder.layer.{i}" for i in range(config.num_hidden_layers)]
        parts = (".attention.self", ".attention", ".mlp", "")
        self.tap_names: tuple[str, ...] = ("bert.embeddings", *(layer + part for layer in layers for part in parts))
        self.last_hidden = self.tap_names[-1]
        self.register_buffer("slopes_H", torch.tensor(alibi_slopes(config.num_attention_heads)), persistent=False)

    @property
    def has_head(self) -> bool:
        """Whether it has the masked-LM head; a classifier may have none."""
        return self.config.mlm_head and "cls." not in self.without

    def reset_buffers(self) -> None:
        """Recompute the ALiBi slopes (float32) on the parameters' device."""
        device = self.bert.embeddings.word_embeddings.weight.device
        self.slopes_H = torch.tensor(alibi_slopes(self.config.num_attention_heads), device=device)

    def forward(
        self,
        ids_BL: Tensor | None = None,
        *,
        embeds_BLD: Tensor | None = None,
        mask_BL: Tensor | None = None,
        taps: Sequence[str] = (),
        cache: None = None,
        logits: bool | slice = True,
        attentions: Sequence[int] = (),
    ) -> Output:
        """ids (B, L) -> masked-LM logits (B, L, V), None without an MLM head.

        embeds_BLD: what ``word_embeddings`` gives, in place of the ids; without ids no token is [PAD].
        mask_BL: True for real tokens, of any pattern; None means every token but [PAD].
        attentions: layers, counted from 0, whose attention maps (B, H, L, L, float32, zero at padding) go to
        ``extras["attentions"][layer]``; only these layers form the score matrix.
        A classifier adds ``extras["class_logits"]`` (B, labels) and ``extras["pooled"]`` (B, D).
        Raises NexVarError for an unknown tap or layer, or a cache.
        """
        check_taps(taps, self.tap_names)
        check_attentions(attentions, self.config.num_hidden_layers)
        check_masked(cache)
        given = given_input(ids_BL, embeds_BLD, self.config.width)
        B, L = given.shape[:2]
        if mask_BL is not None:
            mask_BL = mask_BL.bool()
        elif ids_BL is not None:
            mask_BL = ids_BL != PAD_ID
        else:
            mask_BL = torch.ones(B, L, dtype=torch.bool, device=given.device)
        index_N, groups = pack(mask_BL)
        kept: dict[str, Tensor] = {}

        def padded(x_ND: Tensor) -> Tensor:
            flat = x_ND.new_zeros(B * L, x_ND.shape[-1]).index_copy(0, index_N, x_ND)
            flat = flat.view(B, L, x_ND.shape[-1])
            return flat.where(mask_BL[..., None], 0.0) if tracing() else flat

        def tap(name: str, x_ND: Tensor) -> None:
            if name in taps:
                kept[name] = padded(x_ND)

        words_BLD = look_up(self.bert.embeddings.word_embeddings, ids_BL, embeds_BLD)
        x_ND = self.bert.embeddings.finish(words_BLD.flatten(0, 1)[index_N])
        tap("bert.embeddings", x_ND)
        maps: dict[int, Tensor] = {}
        for i, module in enumerate(self.bert.encoder.layer):
            name = f"bert.encoder.layer.{i}"
            x_ND, mixed_ND, after_ND, weights = module(x_ND, groups, self.slopes_H, i in attentions)
            if i in attentions:
                maps[i] = _padded_maps(weights, groups, index_N, (B, L), self.config.num_attention_heads)
            tap(f"{name}.attention.self", mixed_ND)
            tap(f"{name}.attention", after_ND)
            tap(f"{name}.mlp", x_ND)
            tap(name, x_ND)

        hidden_BLD = padded(x_ND)
        extras: dict[str, Any] = {"attentions": maps} if attentions else {}
        if self.config.num_labels and not {"classifier.", "bert.pooler."}.intersection(self.without):
            extras["pooled"] = self._pool(hidden_BLD, mask_BL)
            extras["class_logits"] = self.classifier(self.classifier_dropout(extras["pooled"]))
        scores = None
        if self.config.mlm_head and logits is not False:
            part = slice(None) if logits is True else logits
            scores = self._predict(hidden_BLD[:, part], mask_BL[:, part])
        return Output(scores, {name: kept[name] for name in taps}, extras)

    def _predict(self, hidden_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """The MLM head over the real tokens; padding gets the head of a zero vector, as in the original."""
        head = self.cls["predictions"] if self.has_head else self.cls
        embeddings_VD = self.bert.embeddings.word_embeddings.weight
        if tracing() or bool(mask_BL.all()):  # hidden states are zero at padding: this is the head of them
            return head(hidden_BLD, embeddings_VD)
        empty_V = head(hidden_BLD.new_zeros(1, hidden_BLD.shape[-1]), embeddings_VD)[0]
        scores = empty_V.expand(*mask_BL.shape, -1).clone()
        scores[mask_BL] = head(hidden_BLD[mask_BL], embeddings_VD)
        return scores

    def _pool(self, hidden_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        if self.config.pooling == "cls":
            return self.bert.pooler(hidden_BLD)
        # Padding is zero already, so the sum needs no mask.
        return hidden_BLD.float().sum(1).div(mask_BL.sum(1, keepdim=True).clamp(min=1)).to(hidden_BLD.dtype)


def _padded_maps(
    weights: Sequence[Tensor], groups: Sequence[Group], index_N: Tensor, shape: tuple[int, int], heads: int
) -> Tensor:
    """The groups' maps (rows, H, l, l) at their places in (B, H, L, L), zero elsewhere."""
    B, L = shape
    full_BHLL = torch.zeros(B, heads, L, L, dtype=torch.float32, device=index_N.device)
    for group, maps in zip(groups, weights, strict=True):
        own = index_N[group.start : group.start + group.rows * group.length].view(group.rows, group.length)
        row, column = own[:, :1, None] // L, own % L
        full_BHLL[row, :, column[:, :, None], column[:, None]] = maps.permute(0, 2, 3, 1)
    return full_BHLL

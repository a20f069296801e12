"""Nucleotide Transformer v1, v2 and AgroNT: BERT-like encoders over k-mers, masked language models.

    ids (B, L) ── word_embeddings ──[x 0.88/(1 - masked share)]──[+ learned positions]── x (B, L, D)
    encoder.layer.i, pre-norm:    x + dense(attention(rotary?(q, k), v)(LN(x)))
                                  x + dense(act(dense(LN(x))))
    emb_layer_norm_after ── lm_head: dense, GELU, LN, decoder ── logits (B, L, V)

                  positions   MLP                       token_dropout
    v1            learned     GELU, biases              yes
    AgroNT        learned     GELU, biases              no
    v2, 3-mer     rotary      SiLU-gated, no biases     no

Unusual:
- token_dropout scales all embeddings by 0.88 = 1 - 0.15 * 0.8 at inference too (more when tokens are masked), and
  rows of <mask> are zero: v1 embeds a mask as nothing but its position.
- Positions count real tokens from pad_token_id + 1 = 2; the rows below belong to padding.
- The JAX package's LayerNorms always have epsilon 1e-5, the hub's config.json says 1e-12 (3-mer: 1e-5): logits differ
  by up to 2e-3. The config is followed; ``set_layer_norm_eps(1e-5)`` gives the JAX numbers.
- v2 checkpoints hold a position table that nothing reads; ``convert`` drops it with the contact head.

Sources: github.com/instadeepai/nucleotide-transformer (JAX); transformers' ESM (v1); Dalla-Torre et al. 2024,
doi:10.1038/s41592-024-02523-z; Mendoza-Revilla et al. 2024, doi:10.1038/s42003-024-06465-2 (AgroNT).
B batch, L tokens, D width, F MLP width, H heads, d head width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
    padding_mask,
)
from nexvar.ops.attention import attention, attention_naive
from nexvar.ops.linear import Linear
from nexvar.ops.mlp import gated_mlp
from nexvar.ops.rotary import apply_rotary, inverse_frequencies, rotary_tables

KEEP_FLOAT32: tuple[str, ...] = ()
QUANTIZED = ("*.self.query.weight", "*.self.key.weight", "*.self.value.weight", "*.layer.*.dense.weight")
HEADS = ("lm_head.",)
LORA_TARGETS = ("query", "key", "value", "dense")  # the authors' baselines: rank 8, alpha 16
IA3 = Ia3(outputs=(r"attention\.self\.(key|value)",), inputs=(r"output\.dense",))
MEMORY = Memory(6.3, mlp=0, rows=1024, block=4.5)
ROTARY_BASE = 10_000.0
MASKED_IN_TRAINING = 0.15 * 0.8  # the share of tokens that were <mask> in training
JAX_LAYER_NORM_EPS = 1e-5


@dataclass(frozen=True)
class Config:
    """Names as in the official config.json. gated_mlp: SiLU-gated (v2) instead of GELU (v1, AgroNT)."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    position_embedding_type: str = "rotary"  # "rotary" | "absolute" (learned)
    gated_mlp: bool = True
    mlp_bias: bool = False
    token_dropout: bool = False
    emb_layer_norm_before: bool = False
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 1
    mask_token_id: int = 2

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise NexVarError(
                f"hidden_size {self.hidden_size} is not a multiple of {self.num_attention_heads} heads",
                where="config",
            )
        if self.position_embedding_type not in ("rotary", "absolute"):
            raise NexVarError(
                f"position_embedding_type {self.position_embedding_type!r}",
                where="config",
                fix="'rotary' or 'absolute'",
            )

    @property
    def width(self) -> int:
        return self.hidden_size

    @property
    def mlp_width(self) -> int:
        return self.intermediate_size

    @property
    def vocabulary(self) -> int:
        return self.vocab_size

    @property
    def head_width(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def kmer(self) -> tuple[int, str] | None:
        """(k, "v1" | "v2") that makes a vocabulary of this size: 4^k k-mers, A T C G N, 4 or 6 special tokens."""
        for k in range(1, 9):
            if self.vocab_size - 4**k in (9, 11):
                return k, "v1" if self.vocab_size - 4**k == 9 else "v2"
        return None

    @property
    def tokenizer(self) -> str | None:
        """The tokenizer's name in ``nexvar.tokenizers.make``."""
        return None if self.kmer is None else f"kmer{self.kmer[0]}_{self.kmer[1]}"

    @property
    def context(self) -> int:
        """The longest input in bases: <cls> and as many k-mers as there are positions (two belong to padding)."""
        k = self.kmer[0] if self.kmer else 1
        return k * (self.max_position_embeddings - 3)


class _SelfAttention(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.query = Linear(width, width)
        self.key = Linear(width, width)
        self.value = Linear(width, width)

    def forward(
        self, x_BLD: Tensor, rope: tuple[Tensor, Tensor] | None, mask_BL: Tensor | None, maps: bool
    ) -> tuple[Tensor, Tensor | None]:
        q, k, v = (p(x_BLD).unflatten(-1, (self.heads, -1)) for p in (self.query, self.key, self.value))
        if rope is not None:
            q, k = apply_rotary(q, *rope), apply_rotary(k, *rope)
        if maps:
            out, weights = attention_naive(q, k, v, mask_BM=mask_BL)
            return out.flatten(2), weights
        return attention(q, k, v, mask_BM=mask_BL).flatten(2), None


class _Dense(nn.Module):
    """A linear layer one level down, as the official names have it (``output.dense``)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.dense = Linear(inputs, outputs, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x)


class _Attention(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.self = _SelfAttention(config)
        self.output = _Dense(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


class _Layer(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.gated = config.gated_mlp
        inner = config.intermediate_size
        self.attention = _Attention(config)
        self.intermediate = _Dense(config.hidden_size, inner * (2 if self.gated else 1), bias=config.mlp_bias)
        self.output = _Dense(inner, config.hidden_size, bias=config.mlp_bias)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self, x_BLD: Tensor, rope: tuple[Tensor, Tensor] | None, mask_BL: Tensor | None, maps: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """x after this layer; attention's output, x after it, and its maps."""
        mixed, weights = self.attention.self(self.attention.LayerNorm(x_BLD), rope, mask_BL, maps)
        after_BLD = x_BLD + self.attention.output(mixed)
        return after_BLD + self.mlp(after_BLD), mixed, after_BLD, weights

    def mlp(self, x_BLD: Tensor) -> Tensor:
        normed = self.LayerNorm(x_BLD)
        if self.gated:
            return gated_mlp(normed, self.intermediate, self.output, "silu")
        return self.output(F.gelu(self.intermediate(normed)))


class _Embeddings(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        if config.position_embedding_type == "absolute":
            self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        if config.emb_layer_norm_before:
            self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, ids_BL: Tensor | None, embeds_BLD: Tensor | None, mask_BL: Tensor | None) -> Tensor:
        config = self.config
        x_BLD = look_up(self.word_embeddings, ids_BL, embeds_BLD)
        B, L = x_BLD.shape[:2]
        not_padding_BL = x_BLD.new_ones(B, L, dtype=torch.long) if mask_BL is None else mask_BL.long()
        if config.token_dropout:
            masked_BL = not_padding_BL < 0 if ids_BL is None else ids_BL == config.mask_token_id
            share_B = masked_BL.sum(-1).float() / not_padding_BL.sum(-1)
            scale_B = (1 - MASKED_IN_TRAINING) / (1 - share_B)
            x_BLD = x_BLD.masked_fill(masked_BL[..., None], 0.0) * scale_B[:, None, None].to(x_BLD.dtype)
        if config.position_embedding_type == "absolute":
            longest = config.max_position_embeddings - config.pad_token_id - 1
            if longest < L:
                raise NexVarError(
                    f"{L} tokens, but the model knows {longest} positions",
                    where="input_ids",
                    fix=f"cut the sequence to about {config.context} bases",
                )
            positions = not_padding_BL.cumsum(-1) * not_padding_BL + config.pad_token_id
            x_BLD = x_BLD + self.position_embeddings(positions)
        if config.emb_layer_norm_before:
            x_BLD = self.layer_norm(x_BLD)
        return x_BLD if mask_BL is None else x_BLD * mask_BL[..., None]


class _Encoder(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.emb_layer_norm_after = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


class _Esm(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config)


class _LMHead(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = Linear(config.hidden_size, config.vocab_size)

    def forward(self, x_BLD: Tensor) -> Tensor:
        return self.decoder(self.layer_norm(F.gelu(self.dense(x_BLD))))


class Model(GenomicModel):
    """See the module's docstring. Taps besides the official module names: ``embeddings_k``, k = 1 .. layers, as the
    JAX package numbers them; the last one is the output of emb_layer_norm_after, not of the last block."""

    config: Config
    last_hidden = "esm.encoder.emb_layer_norm_after"
    token_embedding = "esm.embeddings.word_embeddings"
    causal = False
    pads_safely = True
    rc_equivariant = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.esm = _Esm(config)
        self._make_head(config)
        layers = range(config.num_hidden_layers)
        self._alias = {f"embeddings_{i + 1}": f"esm.encoder.layer.{i}" for i in layers}
        self._alias[f"embeddings_{config.num_hidden_layers}"] = self.last_hidden
        self.tap_names: tuple[str, ...] = (
            "esm.embeddings",
            *(f"esm.encoder.layer.{i}{part}" for i in layers for part in (".attention.self", ".attention", "")),
            self.last_hidden,
            *self._alias,
        )
        if config.position_embedding_type == "rotary":
            self.register_buffer("inv_freq", inverse_frequencies(config.head_width, ROTARY_BASE), persistent=False)

    def _make_head(self, config: Config) -> None:
        self.lm_head = _LMHead(config)

    def reset_buffers(self) -> None:
        """Recompute the rotary frequencies (float32) on the parameters' device."""
        if self.config.position_embedding_type == "rotary":
            device = self.esm.embeddings.word_embeddings.weight.device
            self.inv_freq = inverse_frequencies(self.config.head_width, ROTARY_BASE).to(device)

    def rope(self, tokens: int) -> tuple[Tensor, Tensor] | None:
        """cos and sin for so many tokens; None for learned positions."""
        if self.config.position_embedding_type != "rotary":
            return None
        return rotary_tables(self.inv_freq, 0, tokens)

    def set_layer_norm_eps(self, eps: float) -> None:
        """Epsilon of every LayerNorm from now on; ``JAX_LAYER_NORM_EPS`` gives the JAX package's numbers."""
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = eps

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
        """ids (B, L) -> masked-LM logits (B, L, V).

        embeds_BLD: what ``word_embeddings`` gives, in place of the ids; without ids no token is <mask> or <pad>.
        mask_BL: True for real tokens; None means every token but <pad>. Padded positions come out as garbage.
        attentions: layers, counted from 0, whose attention maps (B, H, L, L, float32) go to
        ``extras["attentions"][layer]``; only these layers form the score matrix.
        Raises NexVarError for an unknown tap or layer, a cache, or more tokens than there are learned positions.
        """
        x_BLD, _, kept, extras = self.trunk(ids_BL, embeds_BLD, mask_BL, taps, cache, attentions)
        scores = None
        if logits is not False:
            scores = self.lm_head(x_BLD if logits is True else x_BLD[:, logits])
        return Output(scores, kept, extras)

    def trunk(
        self,
        ids_BL: Tensor | None,
        embeds_BLD: Tensor | None,
        mask_BL: Tensor | None,
        taps: Sequence[str],
        cache: None,
        attentions: Sequence[int],
    ) -> tuple[Tensor, Tensor | None, dict[str, Tensor], dict[str, Any]]:
        """The final hidden states (B, L, D), the mask that was used, the taps, and maps as ``extras``."""
        check_taps(taps, self.tap_names)
        check_attentions(attentions, self.config.num_hidden_layers)
        check_masked(cache)
        L = given_input(ids_BL, embeds_BLD, self.config.width).shape[1]
        if mask_BL is not None:
            mask_BL = mask_BL.bool()
        elif ids_BL is not None:
            mask_BL = padding_mask(ids_BL, self.config.pad_token_id)
        wanted = {self._alias.get(name, name) for name in taps}
        kept: dict[str, Tensor] = {}

        def tap(name: str, x: Tensor) -> None:
            if name in wanted:
                kept[name] = x

        x_BLD = self.esm.embeddings(ids_BL, embeds_BLD, mask_BL)
        tap("esm.embeddings", x_BLD)
        rope = self.rope(L)
        maps: dict[int, Tensor] = {}
        layer: Any
        for i, layer in enumerate(self.esm.encoder.layer):
            name = f"esm.encoder.layer.{i}"
            x_BLD, mixed, after, weights = layer(x_BLD, rope, mask_BL, i in attentions)
            if weights is not None:
                maps[i] = weights
            tap(f"{name}.attention.self", mixed)
            tap(f"{name}.attention", after)
            tap(name, x_BLD)
        x_BLD = self.esm.encoder.emb_layer_norm_after(x_BLD)
        tap(self.last_hidden, x_BLD)
        extras = {"attentions": maps} if attentions else {}
        return x_BLD, mask_BL, {name: kept[self._alias.get(name, name)] for name in taps}, extras

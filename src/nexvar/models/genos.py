"""Genos: a causal mixture-of-experts transformer over single bases; on disk a Mixtral.

    ids (B, L) ── embed_tokens ── x (B, L, D)
    layers.i, pre-norm:   x + o_proj(attention(rotary(q), rotary(k), v))     causal, H query heads share K key heads
                          x + sum over the 2 best of 8 experts of weight * w2(SiLU(w1 x) * w3 x)
    norm ── lm_head ── logits (B, L, V)

Unusual:
- RoPE base 50,000,000; angles are float32 products of float32 positions, up to 1,048,576 (transformers' numbers:
  float64 angles would differ at far positions).
- The router stays float32 in every dtype (its logits decide, they do not just weigh), softmax over all experts first,
  the two best renormalised. transformers computes its logits in the hidden dtype: bfloat16 may choose differently at
  near ties; in float32 there is no difference.
- An expert computes its own tokens and no others (``ops/moe.py``), forward and backward.
- The vocabulary is padded (18 real tokens in 128 or 256 rows); nothing masks the padding's logits.
- Training losses come with every uncached forward, but for exported graphs: ``extras["router_logits"]`` (per layer,
  (B, L, E) float32), ``extras["aux_loss"]`` (load balancing) and ``extras["z_loss"]``, both unscaled; the published run
  used 1e-3 each.
- Megatron checkpoints (Genos-Megatron-*) are not read: no source that documents their tensor names was found.

Sources: github.com/BGI-HangzhouAI/Genos; transformers' Mixtral (Jiang et al. 2024, arXiv:2401.04088); Genos team 2025,
doi:10.1093/gigascience/giaf132. B batch, L length, M cached length, D width, H heads, K key heads, d head width,
E experts, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexvar.errors import NexVarError
from nexvar.models import GenomicModel, Ia3, Memory, Output, Split, check_attentions, check_taps, given_input, look_up
from nexvar.ops.attention import attention, attention_naive
from nexvar.ops.linear import Linear
from nexvar.ops.moe import load_balancing_loss, moe, route, z_loss
from nexvar.ops.rotary import apply_rotary, inverse_frequencies, rotary_tables
from nexvar.ops.tracing import tracing

KEEP_FLOAT32: tuple[str, ...] = ("*.block_sparse_moe.gate.weight",)
QUANTIZED = ("*.experts.*.w?.weight", "*.self_attn.?_proj.weight")
HEADS = ("lm_head.",)
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
LORA_NAMES = {"query": ("q_proj",), "key": ("k_proj",), "value": ("v_proj",), "dense": ("o_proj",)}
IA3 = Ia3(outputs=(r"self_attn\.[kv]_proj",), inputs=(r"block_sparse_moe\.experts\.\d+\.w2",))
MEMORY = Memory(12, mlp=7, cache_grows=False)  # at worst every token goes to the same experts


SPLIT = Split(
    rows=dict.fromkeys(("q_proj.weight", "k_proj.weight", "v_proj.weight", "w1.weight", "w3.weight"), 1),
    columns=("o_proj.weight", "w2.weight"),
    copies=("self_attn",),
    sums=("self_attn.o_proj",),
)


@dataclass(frozen=True)
class Config:
    """Names as in the official config.json. head_dim: None is hidden_size / num_attention_heads."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    num_local_experts: int = 8
    num_experts_per_tok: int = 2
    head_dim: int | None = None
    rms_norm_eps: float = 1e-5
    rope_theta: float = 5e7
    max_position_embeddings: int = 1_048_576

    def __post_init__(self) -> None:
        if self.num_attention_heads % self.num_key_value_heads:
            raise NexVarError(
                f"{self.num_attention_heads} heads cannot share {self.num_key_value_heads} key heads", where="config"
            )
        if not 0 < self.num_experts_per_tok <= self.num_local_experts:
            raise NexVarError(
                f"{self.num_experts_per_tok} of {self.num_local_experts} experts per token", where="config"
            )

    tokenizer = None  # the cards say it

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
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def context(self) -> int:
        """The longest input in bases: one token is one base."""
        return self.max_position_embeddings


@dataclass
class Cache:
    """Keys and values of ``length`` tokens; tensors (B, max_length, K, d) per layer, filled from the left.

    visible_BM: False for cached padding; None while there was none.
    NOTE: for inference. Keys and values are written in place, so backward through two cached calls raises.
    """

    keys: list[Tensor]
    values: list[Tensor]
    length: int = 0
    visible_BM: Tensor | None = None

    @property
    def max_length(self) -> int:
        return self.keys[0].shape[1]

    def select(self, rows: Tensor) -> Cache:
        """A new cache whose batch rows are ``rows`` of this one (repeats allowed: branching)."""

        def chosen(old: Tensor) -> Tensor:
            new = old.new_zeros(len(rows), *old.shape[1:])
            new[:, : self.length] = old[:, : self.length].index_select(0, rows)
            return new

        visible = None if self.visible_BM is None else self.visible_BM.index_select(0, rows)
        return Cache([chosen(k) for k in self.keys], [chosen(v) for v in self.values], self.length, visible)

    def extend(self, layer: int, k_BLKd: Tensor, v_BLKd: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new keys and values of a layer; all of that layer so far, (B, M, K, d) each."""
        stop = self.length + k_BLKd.shape[1]
        self.keys[layer][:, self.length : stop] = k_BLKd
        self.values[layer][:, self.length : stop] = v_BLKd
        return self.keys[layer][:, :stop], self.values[layer][:, :stop]

    def extend_mask(self, rows: int, tokens: int, mask_BL: Tensor | None) -> Tensor | None:
        """Which of all tokens so far are real, (B, M); None if all are."""
        if self.visible_BM is None and mask_BL is not None and not bool(mask_BL.all()):
            self.visible_BM = torch.ones(rows, self.max_length, dtype=torch.bool, device=mask_BL.device)
        if self.visible_BM is None:
            return None
        stop = self.length + tokens
        self.visible_BM[:, self.length : stop] = True if mask_BL is None else mask_BL
        return self.visible_BM[:, :stop]


class _Attention(nn.Module):
    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.layer, self.d = layer, config.head_width
        D, H, K = config.hidden_size, config.num_attention_heads, config.num_key_value_heads
        self.q_proj = Linear(D, H * self.d, bias=False)
        self.k_proj = Linear(D, K * self.d, bias=False)
        self.v_proj = Linear(D, K * self.d, bias=False)
        self.o_proj = Linear(H * self.d, D, bias=False)
        self.attend = attention  # another one where train/split.py cuts a sequence

    def forward(
        self,
        x_BLD: Tensor,
        rope: tuple[Tensor, Tensor],
        mask_BM: Tensor | None,
        cache: Cache | None,
        maps: bool,
    ) -> tuple[Tensor, Tensor | None]:
        q, k, v = (p(x_BLD).unflatten(-1, (-1, self.d)) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = apply_rotary(q, *rope), apply_rotary(k, *rope)
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)
        weights = None
        if maps:
            mixed, weights = attention_naive(q, k, v, causal=True, mask_BM=mask_BM)
        else:
            mixed = self.attend(q, k, v, causal=True, mask_BM=mask_BM)
        return self.o_proj(mixed.flatten(2)), weights


class _Expert(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.w1 = Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.w2 = Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.w3 = Linear(config.hidden_size, config.intermediate_size, bias=False)

    def forward(self, x_ND: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x_ND)) * self.w3(x_ND))


class _SparseMoe(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.k = config.num_experts_per_tok
        self.gate = nn.Linear(config.hidden_size, config.num_local_experts, bias=False)
        self.experts = nn.ModuleList(_Expert(config) for _ in range(config.num_local_experts))
        self.dispatch = moe  # another one where train/split.py deals out the experts

    def forward(self, x_BLD: Tensor) -> tuple[Tensor, Tensor]:
        """The experts' weighted sum (B, L, D) and the router logits (B, L, E) in float32."""
        with torch.autocast(x_BLD.device.type, enabled=False):  # the router is float32 in mixed precision too
            logits_BLE = F.linear(x_BLD.float(), self.gate.weight.float())
        weights_Nk, experts_Nk = route(logits_BLE.flatten(0, 1), self.k)
        out_ND = self.dispatch(x_BLD.flatten(0, 1), weights_Nk, experts_Nk, cast(Sequence[_Expert], self.experts))
        return out_ND.view_as(x_BLD), logits_BLE


class _Layer(nn.Module):
    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.self_attn = _Attention(config, layer)
        self.block_sparse_moe = _SparseMoe(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(
        self, x_BLD: Tensor, rope: tuple[Tensor, Tensor], mask_BM: Tensor | None, cache: Cache | None, maps: bool
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
        """x after this layer; attention's output and maps; the experts' output and the router logits."""
        mixed, weights = self.self_attn(self.input_layernorm(x_BLD), rope, mask_BM, cache, maps)
        x_BLD = x_BLD + mixed
        chosen, routed = self.block_sparse_moe(self.post_attention_layernorm(x_BLD))
        return x_BLD + chosen, mixed, weights, chosen, routed


class _Body(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(_Layer(config, i) for i in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)


class Model(GenomicModel):
    """See the module's docstring."""

    config: Config
    last_hidden = "model.norm"
    token_embedding = "model.embed_tokens"
    causal = True
    pads_safely = True
    rc_equivariant = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.model = _Body(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        self.first_position = 0  # another one where train/split.py cuts a sequence
        self.tap_names: tuple[str, ...] = (
            "model.embed_tokens",
            *(
                f"model.layers.{i}{part}"
                for i in range(config.num_hidden_layers)
                for part in (".self_attn", ".block_sparse_moe.gate", ".block_sparse_moe", "")
            ),
            self.last_hidden,
        )
        self.register_buffer("inv_freq", self._frequencies(), persistent=False)

    def _frequencies(self) -> Tensor:
        return inverse_frequencies(self.config.head_width, self.config.rope_theta)

    def reset_buffers(self) -> None:
        """Recompute the rotary frequencies (float32) on the parameters' device."""
        device = self.model.embed_tokens.weight.device
        self.inv_freq = self._frequencies().to(device)

    @classmethod
    def layers_by_kind(cls, config: Config) -> list[tuple[int, Config]]:
        """All layers are alike."""
        return [(config.num_hidden_layers, replace(config, num_hidden_layers=1))]

    def new_cache(self, batch_size: int, max_length: int) -> Cache:
        """Room for ``max_length`` tokens: 2 * layers * max_length * K * d numbers a row."""
        shape = (batch_size, max_length, self.config.num_key_value_heads, self.config.head_width)
        like, layers = self.model.embed_tokens.weight, range(self.config.num_hidden_layers)
        keys, values = ([like.new_zeros(shape).detach() for _ in layers] for _ in range(2))
        return Cache(keys, values)

    def forward(
        self,
        ids_BL: Tensor | None = None,
        *,
        embeds_BLD: Tensor | None = None,
        mask_BL: Tensor | None = None,
        taps: Sequence[str] = (),
        cache: Cache | None = None,
        logits: bool | slice = True,
        attentions: Sequence[int] = (),
        start: int = 0,
    ) -> Output:
        """ids (B, L) -> next-token logits (B, L, V).

        mask_BL: True for real tokens; padding is never attended to and does not count in the losses. Right padding
        needs no mask but for the losses.
        cache: continues it, with any number of tokens. attentions: layers, counted from 0, whose maps
        (B, H, L, M, float32) go to ``extras["attentions"][layer]``. start: the first token's position, for windows
        far from a sequence's beginning (RoPE is relative: only rounding depends on it).
        Raises NexVarError for an unknown tap or layer, a full cache, or positions beyond the context.
        """
        config = self.config
        check_taps(taps, self.tap_names)
        check_attentions(attentions, config.num_hidden_layers)
        B, L = given_input(ids_BL, embeds_BLD, config.width).shape[:2]
        first = start + self.first_position + (cache.length if cache is not None else 0)
        self._check_room(first, L, cache)
        mask_BL = None if mask_BL is None else mask_BL.bool()
        if cache is not None:
            mask_BM = cache.extend_mask(B, L, mask_BL)
        else:  # causal attention never looks right, so right padding needs no mask
            mask_BM = None if mask_BL is None or _is_right_padded(mask_BL) else mask_BL
        kept: dict[str, Tensor] = {}

        def tap(name: str, x: Tensor) -> None:
            if name in taps:
                kept[name] = x

        x_BLD = look_up(self.model.embed_tokens, ids_BL, embeds_BLD)
        tap("model.embed_tokens", x_BLD)
        rope = rotary_tables(self.inv_freq, first, L)
        router_logits, maps = [], {}
        for i, module in enumerate(self.model.layers):
            name = f"model.layers.{i}"
            x_BLD, mixed, weights, chosen, routed = module(x_BLD, rope, mask_BM, cache, i in attentions)
            if weights is not None:
                maps[i] = weights
            router_logits.append(routed)
            tap(f"{name}.self_attn", mixed)
            tap(f"{name}.block_sparse_moe.gate", routed)
            tap(f"{name}.block_sparse_moe", chosen)
            tap(name, x_BLD)
        x_BLD = self.model.norm(x_BLD)
        tap(self.last_hidden, x_BLD)

        extras: dict[str, Any] = {"attentions": maps} if attentions else {}
        extras["router_logits"] = tuple(router_logits)
        if cache is None and not tracing():
            extras["aux_loss"] = load_balancing_loss(router_logits, config.num_experts_per_tok, mask_BL)
            extras["z_loss"] = z_loss(router_logits, mask_BL)
        if cache is not None:
            cache.length += L
        scores = None
        if logits is not False:
            scores = self.lm_head(x_BLD if logits is True else x_BLD[:, logits])
        return Output(scores, {name: kept[name] for name in taps}, extras)

    def _check_room(self, first: int, length: int, cache: Cache | None) -> None:
        if first + length > self.config.max_position_embeddings:
            raise NexVarError(
                f"{first + length:,} positions, but the context is {self.config.max_position_embeddings:,}",
                where="input_ids",
                fix="cut the sequence",
            )
        if cache is not None and cache.length + length > cache.max_length:
            raise NexVarError(
                f"{cache.length + length:,} tokens, but the cache has room for {cache.max_length:,}",
                where="cache",
                fix="new_cache(batch_size, max_length) with a larger max_length",
            )


def _is_right_padded(mask_BL: Tensor) -> bool:
    """Whether no real token follows padding."""
    return not tracing() and not bool((mask_BL[:, 1:] & ~mask_BL[:, :-1]).any())

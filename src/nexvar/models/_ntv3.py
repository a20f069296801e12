"""The parts of NTv3 between and behind its towers (ops/unet.py): the transformer, and the heads of tokens and tracks.

    transformer block   x = x + attention(LN x);  x = x + gate * fc2(silu(a) * b), a | b = fc1(LN x)
    heads               gelu ── lm_head ── tokens;   LN ── linear ── softplus ── tracks, or two classes an element

How they are put together, and whose numbers where the official codes differ, is in ntv3.py. Module names are those of
the checkpoints. B batch, L bases (in the transformer: positions of 2^n bases), C channels, D width, T tracks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexvar.models import given_input, look_up
from nexvar.ops.attention import attention, attention_naive
from nexvar.ops.conv1d import conv1d
from nexvar.ops.linear import Linear
from nexvar.ops.mlp import gated_mlp
from nexvar.ops.rotary import apply_rotary
from nexvar.ops.tracing import surely_all
from nexvar.ops.unet import AdaptiveLayerNorm, Conditions, add_gated, gelu, modulations

HEAD_EPS = {"hf": 1e-5, "jax": 1e-6}  # of the track heads' LayerNorm, by official code


class Head(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_head = Head(width)
        self.key_head = Head(width)
        self.value_head = Head(width)
        self.mha_output = Linear(width, width)

    def forward(
        self, x_BLD: Tensor, rope: tuple[Tensor, Tensor], mask_BL: Tensor | None, maps: bool
    ) -> tuple[Tensor, Tensor | None]:
        heads = (self.query_head, self.key_head, self.value_head)
        q, k, v = (head(x_BLD).unflatten(-1, (self.heads, -1)) for head in heads)
        q, k = apply_rotary(q, *rope), apply_rotary(k, *rope)
        if maps:
            out, weights = attention_naive(q, k, v, mask_BM=mask_BL)
            return self.mha_output(out.flatten(2)), weights
        return self.mha_output(attention(q, k, v, mask_BM=mask_BL).flatten(2)), None


class TransformerBlock(nn.Module):
    """conditions: the width of each condition's embedding. eps: of the LayerNorms."""

    def __init__(self, width: int, heads: int, mlp_width: int, conditions: Sequence[int], eps: float) -> None:
        super().__init__()
        self.self_attention_layer_norm = AdaptiveLayerNorm(width, conditions, eps)
        self.final_layer_norm = AdaptiveLayerNorm(width, conditions, eps)
        self.sa_layer = SelfAttention(width, heads)
        self.fc1 = Linear(width, 2 * mlp_width, bias=False)
        self.fc2 = Linear(mlp_width, width, bias=False)
        self.modulation_layers = modulations(conditions, width)

    def forward(
        self,
        x_BLD: Tensor,
        rope: tuple[Tensor, Tensor],
        conditions: Conditions | None,
        mask_BL: Tensor | None,
        maps: bool,
    ) -> tuple[Tensor, Tensor | None]:
        normed = self.self_attention_layer_norm(x_BLD, conditions)
        mixed, weights = self.sa_layer(normed, rope, mask_BL, maps)
        x_BLD = x_BLD + mixed
        inner = gated_mlp(self.final_layer_norm(x_BLD, conditions), self.fc1, self.fc2, "silu")
        return add_gated(x_BLD, inner, self.modulation_layers, conditions), weights


class TrackHead(nn.Module):
    """LayerNorm and a linear layer over the central bases."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(width, eps=HEAD_EPS["hf"])
        self.head = Linear(width, outputs)

    def forward(self, x_BLC: Tensor) -> Tensor:
        return self.head(self.layer_norm(x_BLC))

    def some(self, x_BLC: Tensor, outputs: Sequence[int]) -> Tensor:
        """These columns of ``forward`` alone."""
        return F.linear(self.layer_norm(x_BLC), self.head.weight[list(outputs)], self.head.bias[list(outputs)])


class BigwigHead(nn.Module):
    """One head per species; a row's tracks come from its own, zeros up to the widest."""

    def __init__(self, width: int, tracks: list[int]) -> None:
        super().__init__()
        self.widest = max(tracks)
        heads = [TrackHead(width, count) if count else nn.Identity() for count in tracks]
        self.species_heads = nn.ModuleList(heads)

    def forward(self, x_BLC: Tensor, species: list[int]) -> Tensor:
        """(B, L, T), T of the widest species; species: of each row, the index of its head."""
        rows = []
        for x_LC, index in zip(x_BLC, species, strict=True):
            head = self.species_heads[index]
            if isinstance(head, nn.Identity):
                rows.append(x_LC.new_zeros(len(x_LC), self.widest))
            else:
                tracks_LT = F.softplus(head(x_LC))
                rows.append(F.pad(tracks_LT, (0, self.widest - tracks_LT.shape[-1])))
        return torch.stack(rows)


class Stem(nn.Module):
    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width_in, width, 15)

    def forward(self, x_BLE: Tensor) -> Tensor:
        return gelu(conv1d(x_BLE, self.conv.weight, self.conv.bias))


class LMHead(nn.Module):
    def __init__(self, width: int, hidden_layers: int, vocabulary: int) -> None:
        super().__init__()
        self.hidden_layers = nn.ModuleList(Linear(width, width) for _ in range(hidden_layers))
        self.head = Linear(width, vocabulary)

    def forward(self, x_BLC: Tensor) -> Tensor:
        x_BLC = gelu(x_BLC)
        for layer in self.hidden_layers:
            x_BLC = gelu(layer(x_BLC))
        return self.head(x_BLC)


def fill_up(
    table: nn.Embedding, n_id: int, unit: int, ids_BL: Tensor | None, embeds_BLD: Tensor | None, mask_BL: Tensor | None
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """Every row filled up with N to a multiple of ``unit``: its ids, if given, and embeddings; and what lies inside its
    own multiple (None: all)."""
    length = given_input(ids_BL, embeds_BLD, table.embedding_dim).shape[1]
    whole = -(-length // unit) * unit
    if ids_BL is not None:
        ids_BL = ids_BL if mask_BL is None else ids_BL.masked_fill(~mask_BL.bool(), n_id)
        ids_BL = F.pad(ids_BL, (0, whole - length), value=n_id)
    if embeds_BLD is None:
        x_BLC = table(ids_BL)
    else:
        n_C = table.weight[n_id]
        x_BLC = look_up(table, None, embeds_BLD)
        x_BLC = x_BLC if mask_BL is None else x_BLC.where(mask_BL.bool()[..., None], n_C)
        x_BLC = torch.cat([x_BLC, n_C.expand(len(x_BLC), whole - length, -1)], 1)
    if mask_BL is None:
        return ids_BL, x_BLC, None
    position = torch.arange(1, mask_BL.shape[1] + 1, device=mask_BL.device)
    length_B = (mask_BL * position).amax(-1)
    inside_B = -(-length_B // unit) * unit
    if surely_all(inside_B == whole):
        return ids_BL, x_BLC, None
    return ids_BL, x_BLC, torch.arange(whole, device=mask_BL.device) < inside_B[:, None]


def at_stride(inside_BL: Tensor | None, stride: int) -> Tensor | None:
    """``inside_BL`` of positions of ``stride`` bases."""
    return None if inside_BL is None else inside_BL[:, ::stride]


def central(length: int, fraction: float, reference: str = "hf") -> slice:
    """The central part of ``length`` bases that has tracks; the official codes round differently."""
    if reference == "jax":
        margin = int((1.0 - fraction) * length) // 2
        return slice(margin, length - margin)
    kept = int(length * fraction)
    start = (length - kept) // 2
    return slice(start, start + kept)


def tap_places(downsamples: int, layers: int) -> tuple[dict[str, int], dict[str, str]]:
    """How many bases one position of each tap stands for, and which taps are other names of others.

    downsamples: blocks of a tower, each halving or doubling the length. layers: of the transformer.
    """
    n, unit = downsamples, 2**downsamples
    stride, alias = {"core.stem": 1}, {}
    for i in range(n):
        stride[f"core.conv_tower_blocks.{i}.res_conv"] = 2**i
        stride[f"core.conv_tower_blocks.{i}"] = 2 ** (i + 1)
        alias[f"hidden_states.{i}"] = f"core.conv_tower_blocks.{i}.res_conv"
    alias["before_transformer_embedding"] = f"core.conv_tower_blocks.{n - 1}"
    for i in range(layers):
        stride[f"core.transformer_blocks.{i}"] = unit
        alias[f"embeddings_{i + 1}"] = f"core.transformer_blocks.{i}"
        alias[f"hidden_states.{n + i}"] = f"core.transformer_blocks.{i}"
    alias["after_transformer_embedding"] = f"core.transformer_blocks.{layers - 1}"
    for i in range(n):
        stride[f"core.deconv_tower_blocks.{i}"] = 2 ** (n - i - 1)
        stride[f"embeddings_deconv_{i + 1}"] = 2 ** (n - i - 1)
        alias[f"hidden_states.{n + layers + i}"] = f"embeddings_deconv_{i + 1}"
    alias["embedding"] = f"embeddings_deconv_{n}"
    return {**stride, **{name: stride[of] for name, of in alias.items()}}, alias

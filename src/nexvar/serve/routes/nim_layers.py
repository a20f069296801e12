"""What /forward of the Evo 2 NIM is asked for, and its answer: names of layers -> taps -> arrays -> the archive.

Two dialects name the same layers, and both are read, in one request too: Vortex, the official Evo 2 code, whose names
are NexVar's taps; and Megatron, the NIM from version 2 on. Arrays are (1, L, D) under Vortex names, (L, 1, D) under
Megatron's. See docs/serving.md.

L tokens (one a base), D columns, V vocabulary.
"""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nexvar.errors import NexVarError, printable
from nexvar.models import block_taps
from nexvar.tokenizers import ByteTokenizer
from nexvar.weights.load import Loaded

LOGIT_COLUMNS = 512  # ASCII, and as many again that Evo 2 does not use
NO_TOKEN = -1e4  # the logit of a column that the model does not have; JSON has no infinity
LOGITS = ("output_layer", "unembed")
MEGATRON = {  # behind decoder.layers.N -> behind blocks.N, side by side
    "": ("",),
    ".mlp": (".mlp",),
    ".mlp.linear_fc1": (".mlp.l1", ".mlp.l2"),
    ".mlp.linear_fc2": (".mlp.l3",),
    ".self_attention": (".inner_mha_cls",),
    ".self_attention.linear_qkv": (".inner_mha_cls.Wqkv",),
    ".mixer": (".out_filter_dense",),
    ".mixer.dense_projection": (".projections",),
}


@dataclass(frozen=True)
class Layer:
    """A layer as it was asked for. taps: what it is made of, side by side; () for the logits."""

    name: str
    taps: tuple[str, ...]
    megatron: bool = False


def layers(loaded: Loaded, names: Sequence[str]) -> list[Layer]:
    """The layers of these names, each once; NexVarError for one that the model does not have."""
    return [_layer(loaded, name) for name in dict.fromkeys(names)]


def _layer(loaded: Loaded, name: str) -> Layer:
    module = loaded.module
    if name in module.tap_names:
        return Layer(name, (name,))
    if name in LOGITS:
        loaded.need_head(f"output_layers: {name}")
        return Layer(name, (), megatron=name == "output_layer")
    megatron = name == "embedding" or name.startswith("decoder.")
    taps = _taps(loaded, name)
    if taps and set(taps) <= set(module.tap_names):
        return Layer(name, taps, megatron)
    near = difflib.get_close_matches(name, module.tap_names, n=2, cutoff=0.6) or [module.last_hidden]
    blocks = len(block_taps(module.tap_names))
    raise NexVarError(
        f"{loaded.card.name} has no attribute '{printable(name, 80)}'",
        where="output_layers",
        fix=f"it has {blocks} layers, from 0 to {blocks - 1}, and names such as {', '.join(near)}, unembed",
    )


def _taps(loaded: Loaded, name: str) -> tuple[str, ...]:
    """The taps that a name would mean, whether they exist or not."""
    module = loaded.module
    if name in ("embedding", "embedding_layer"):
        return tuple(tap for tap in module.tap_names if module.token_embedding.startswith(tap))[:1]
    if name in ("decoder.final_norm", "norm"):
        return (module.last_hidden,)
    match = re.fullmatch(r"decoder\.layers\.(\d+)((?:\.\w+)*)", name)
    return () if match is None else tuple(f"blocks.{match[1]}{rest}" for rest in MEGATRON.get(match[2], ()))


def ids_of(loaded: Loaded, sequence: str) -> Tensor:
    """(1, L) token ids, one a base; NexVarError for a model whose tokens span several."""
    if loaded.tokenizer.base_ids() is None:
        what = f"the tokens of {loaded.card.name} span several bases, and /forward answers for each base"
        raise NexVarError(what, where="model", fix="a model of single bases, or POST /api/v1/embed")
    return torch.tensor([loaded.tokenizer.encode(sequence, special=False).ids], device=loaded.device)


@torch.inference_mode()
def forward(loaded: Loaded, sequence: str, wanted: Sequence[Layer], max_bytes: int) -> dict[str, np.ndarray]:
    """``<name>.output`` -> float32 array, of each layer for a clean sequence.

    max_bytes: of all arrays together. Raises NexVarError: more than these, a value that is not finite.
    """
    ids_1L = ids_of(loaded, sequence)
    one = sum(array.nbytes for array in _arrays(loaded, ids_1L[:, :1], wanted).values())
    if one * ids_1L.shape[1] > max_bytes:
        what = f"{ids_1L.shape[1]:,} bases of these layers are {one * ids_1L.shape[1] / 1e6:,.0f} MB"
        fix = f"fewer layers or bases ({max_bytes / 1e6:,.0f} MB at most), or `nexvar serve --nim-max-mb`"
        raise NexVarError(what, where="output_layers", fix=fix)
    arrays = _arrays(loaded, ids_1L, wanted)
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            layer, dtype = name.removesuffix(".output"), str(loaded.dtype).removeprefix("torch.")
            raise NexVarError(f"layer {layer} overflows in {dtype}", where="output_layers", fix="serve in float32")
    return arrays


def _arrays(loaded: Loaded, ids_1L: Tensor, wanted: Sequence[Layer]) -> dict[str, np.ndarray]:
    taps = tuple(dict.fromkeys(tap for layer in wanted for tap in layer.taps))
    out = loaded.module(ids_1L, taps=taps, logits=any(not layer.taps for layer in wanted))
    arrays = {}
    for layer in wanted:
        if layer.taps:
            values_1LD = torch.cat([out.taps[tap] for tap in layer.taps], -1).float().cpu()
        else:
            values_1LD = ascii_logits(loaded, out.logits.float().cpu())
        arrays[f"{layer.name}.output"] = (values_1LD.transpose(0, 1) if layer.megatron else values_1LD).numpy()
    return arrays


def ascii_logits(loaded: Loaded, logits_V: Tensor) -> Tensor:
    """Logits (…, V) over 512 columns, that of a letter at its ASCII code.

    Evo 2's are this already. Of other models, the columns of A, C, G, T and N; the rest is ``NO_TOKEN``.
    """
    if isinstance(loaded.tokenizer, ByteTokenizer) and logits_V.shape[-1] == LOGIT_COLUMNS:
        return logits_V
    columns = logits_V.new_full((*logits_V.shape[:-1], LOGIT_COLUMNS), NO_TOKEN)
    for letter in "ACGTN":
        ids = loaded.tokenizer.encode(letter, special=False).ids
        if len(ids) == 1 and loaded.tokenizer.detokenize(ids) == letter:
            columns[..., ord(letter)] = logits_V[..., ids[0]]
    return columns


def archive(arrays: Mapping[str, np.ndarray], *, compress: bool) -> bytes:
    """An .npz of the arrays, stored: to compress what looks random takes thirty times as long (docs/serving.md)."""
    with io.BytesIO() as file:
        (np.savez_compressed if compress else np.savez)(file, **arrays)  # type: ignore[arg-type]
        return file.getvalue()

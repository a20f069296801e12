"""The sound tiny StripedHyena 2 folder that every attack starts from, and the register of attacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

CONFIG = {
    "vocab_size": 512, "hidden_size": 16, "num_layers": 4, "num_attention_heads": 2, "inner_mlp_size": 32,
    "hcs_layer_idxs": [0], "hcm_layer_idxs": [1], "hcl_layer_idxs": [2], "attn_layer_idxs": [3],
    "hcs_filter_groups": 4, "hcm_filter_groups": 4, "hcs_filter_length": 7, "hcm_filter_length": 128,
    "short_filter_length": 3, "state_size": 4, "eps": 1e-6, "interleave": True, "column_split": True,
    "column_split_hyena": False, "qkv_proj_bias": False, "evo2_style_activations": True, "rotary_emb_base": 10000,
    "max_seqlen": 512, "tie_embeddings": True, "use_fp8_input_projections": False,
}  # fmt: skip
ATTACKS: dict[str, Callable[[Path, Path], None]] = {}


def attack(write: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    """Register ``write(folder, marker)``; the folder already holds config.json."""
    ATTACKS[write.__name__] = write
    return write


def tensors() -> dict[str, Tensor]:
    """A sound state dict for ``CONFIG``, in the official names, shapes and dtypes."""
    generator = torch.Generator().manual_seed(0)
    D, inner, heads, poles = 16, 32, 2, 4
    shapes = {"embedding_layer.weight": (512, D), "unembed.weight": (512, D), "norm.scale": (D,)}
    for i in range(4):
        shapes |= {f"blocks.{i}.pre_norm.scale": (D,), f"blocks.{i}.post_norm.scale": (D,)}
        shapes |= {f"blocks.{i}.mlp.l1.weight": (inner, D), f"blocks.{i}.mlp.l2.weight": (inner, D)}
        shapes |= {f"blocks.{i}.mlp.l3.weight": (D, inner)}
    for i in range(3):
        shapes |= {f"blocks.{i}.projections.weight": (3 * D, D), f"blocks.{i}.out_filter_dense.weight": (D, D)}
        shapes |= {f"blocks.{i}.filter.short_filter_weight": (3 * D, 1, 3), f"blocks.{i}.out_filter_dense.bias": (D,)}
    shapes |= {"blocks.0.filter.h": (4, 1, 7), "blocks.1.filter.h": (4, 1, 128)}
    shapes |= {"blocks.1.filter.D": (D,), "blocks.2.filter.D": (D,)}
    shapes |= {"blocks.2.filter.log_poles": (D, poles, 1), "blocks.2.filter.residues": (D, poles)}
    mha = "blocks.3.inner_mha_cls"
    shapes |= {f"{mha}.Wqkv.weight": (3 * D, D), f"{mha}.out_proj.weight": (D, D), f"{mha}.out_proj.bias": (D,)}
    shapes |= {f"{mha}.rotary_emb.inv_freq": (D // heads // 2,)}
    state = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator) * 0.1
        state[name] = -value.abs() if name.endswith(("log_poles", "residues")) else value.bfloat16()
    return state


def write_sound(folder: Path) -> None:
    """The folder every attack starts from, which loads."""
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(save(tensors()))

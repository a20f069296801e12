"""LoRA adapters in PEFT's layout: adapter_config.json and adapter_model.safetensors, read and written.

    base_model.model.<official layer>.lora_A.weight (r, in)   .lora_B.weight (out, r)      W + alpha / r * B A

Layers have the original project's names, and the rows of B its order: what ``to_official`` does to a weight is done to
B. An adapter is added to the weights as they are loaded. What changes the arithmetic and is not known is refused.
Layout: https://github.com/huggingface/peft, ``PeftModel.save_pretrained``.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.files import at_home, check_inside, disk_errors, read_json, write_bytes
from nexvar.models import Architecture
from nexvar.weights import checkpoint
from nexvar.weights.checkpoint import safetensors
from nexvar.weights.names import FOREIGN, renaming

CONFIG, WEIGHTS = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")
WRAPPER = "base_model.model."
NEUTRAL = {  # values with which a key changes nothing; any key that is not here must be empty or false
    "peft_type": ("LORA",),
    "bias": ("none",),
    "init_lora_weights": (True, "gaussian", "eva", "orthogonal"),  # others change the base weights too
    "megatron_core": ("megatron.core",),
}
HARMLESS = {
    "r", "lora_alpha", "target_modules", "use_rslora", "base_model_name_or_path", "task_type", "inference_mode",
    "lora_dropout", "revision", "auto_mapping", "peft_version", "modules_to_save", "exclude_modules",
    "ensure_weight_tying", "eva_config", "qalora_group_size", "loftq_config", "runtime_config",
    "layers_to_transform", "layers_pattern",
}  # fmt: skip


@dataclass(frozen=True)
class Adapter:
    """updates: layer as the file names it -> (A (r, in), B (out, r)). left_out: tensors of other heads."""

    path: Path
    scale: float
    updates: dict[str, tuple[Tensor, Tensor]]
    left_out: list[str]

    @property
    def line(self) -> str:
        """What of the file is not used, for people; empty where all of it is."""
        return f"of the adapter, {', '.join(self.left_out[:3])} is left out" if self.left_out else ""


def read(folder: str | Path) -> Adapter:
    """A folder that PEFT wrote; NexVarError names what is missing, damaged or of a kind that is not known."""
    folder = at_home(arguments.path(folder, "adapter"))
    if not folder.is_dir():
        raise NexVarError("no such folder", where=folder, fix="adapter= is a folder with adapter_config.json")
    path = folder / CONFIG
    if not path.is_file():
        raise NexVarError(f"no {CONFIG} in this folder", where=folder, fix="a folder that PEFT wrote")
    values = read_json(check_inside(path))
    rank, scale = _scale(values, path)
    files = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if not files:
        raise NexVarError(f"neither {' nor '.join(WEIGHTS)} in this folder", where=folder)
    state = checkpoint.read([check_inside(files[0])])
    return Adapter(files[0], scale, *_updates(state, rank, files[0]))


def _scale(values: dict[str, Any], path: Path) -> tuple[int, float]:
    for key, value in values.items():
        neutral = NEUTRAL.get(key, ())
        if key not in HARMLESS and value not in neutral and (value or key in NEUTRAL):
            fix = f"{key} {' or '.join(map(repr, neutral))}" if neutral else "plain LoRA"
            raise NexVarError(f"{key} is {value!r}, which is not supported"[:200], where=path, fix=fix)
    if values.get("peft_type") != "LORA":
        raise NexVarError("peft_type is missing", where=path, fix='"LORA"')
    rank, alpha = values.get("r"), values.get("lora_alpha")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 0 < rank <= 1 << 20:
        raise NexVarError(f"r is {arguments.described(rank)}", where=path, fix="a rank of 1 or more")
    if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or not math.isfinite(alpha):
        raise NexVarError(f"lora_alpha is {arguments.described(alpha)}", where=path, fix="a number")
    rooted = values.get("use_rslora", False)
    if not isinstance(rooted, bool):
        raise NexVarError(f"use_rslora is {arguments.described(rooted)}", where=path, fix="true or false")
    return rank, alpha / (math.sqrt(rank) if rooted else rank)


def _updates(state: dict[str, Tensor], rank: int, path: Path) -> tuple[dict[str, tuple[Tensor, Tensor]], list[str]]:
    halves: dict[str, dict[str, Tensor]] = {}
    other = []
    for name, tensor in state.items():
        match = re.fullmatch(r"(.+)\.lora_([AB])(?:\.default)?\.weight", name)
        if match is None:
            other.append(name)
            continue
        if tensor.ndim != 2 or tensor.shape[match[2] == "B"] != rank or not tensor.is_floating_point():
            what = f"{name} is {tuple(tensor.shape)} {tensor.dtype}"
            raise NexVarError(what, where=path, fix=f"of rank {rank}, as {CONFIG} says")
        if not torch.isfinite(tensor).all():
            raise NexVarError(f"{name} holds NaN or infinite values", where=path, fix="damaged adapter")
        halves.setdefault(match[1], {})[match[2]] = tensor
    for layer, both in halves.items():
        if len(both) < 2:
            raise NexVarError(f"{layer} has no lora_{'B' if 'A' in both else 'A'}", where=path, fix="damaged adapter")
    for name in other:
        if not FOREIGN.search(name) or "lm_head" in name or "lora" in name:
            raise NexVarError(
                f"the tensor {name} is not supported", where=path, fix="lora_A and lora_B of linear layers"
            )
    if not halves:
        raise NexVarError("it holds no lora_A and lora_B", where=path)
    return {layer: (both["A"], both["B"]) for layer, both in halves.items()}, other


def merged(
    adapter: Adapter, state: dict[str, Tensor], arch: Architecture, module: nn.Module, config: Any
) -> dict[str, Tensor]:
    """The weights (by the module's names), those the adapter changes in float32; NexVarError for a layer it lacks."""
    linear = {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear)}
    tied = arch.tied_layers(config) if arch.tied_layers else {}
    places: dict[str, tuple[str, Tensor]] = {}
    for name in [*linear, *tied]:
        mine = tied.get(name, name)
        theirs, rows = _official_rows(name, linear[mine].out_features, arch, config)
        places[f"{theirs}.weight"] = (f"{mine}.weight", rows)
    trunk = {theirs for theirs, (mine, _) in places.items() if not mine.startswith(arch.HEADS or ("\0",))}
    names = renaming([f"{layer}.weight" for layer in adapter.updates], trunk, adapter.path, set(places))
    result, done, times = dict(state), dict[str, Tensor](), Counter[str]()
    for layer, (a, b) in adapter.updates.items():
        theirs = names[f"{layer}.weight"]
        if theirs not in places:
            fix = "is it of this model? its linear layers are supported, experts, convolutions and embeddings are not"
            raise NexVarError(f"no linear layer {layer}", where=adapter.path, fix=fix)
        mine, rows = places[theirs]
        if mine not in result:
            raise NexVarError(f"it changes {layer}, which this checkpoint does not have", where=adapter.path)
        if result[mine].shape != (b.shape[0], a.shape[1]):
            what = f"{layer} is {b.shape[0]} x {a.shape[1]}, the model's {tuple(result[mine].shape)}"
            raise NexVarError(what, where=adapter.path, fix="an adapter of this model")
        update = b.float()[rows.argsort()] @ a.float()
        times[mine] += 1
        if mine in done:
            if torch.equal(done[mine], update):
                continue
            what = f"{layer} has another update than the layer that it is tied to"
            raise NexVarError(what, where=adapter.path, fix="an adapter of a model with tied weights")
        done[mine] = update
        result[mine] = result[mine].float() + adapter.scale * update
    if any(times[f"{kept}.weight"] == 1 for kept in tied.values()):
        what = "it changes one of two layers that this model's config ties"
        raise NexVarError(what, where=adapter.path, fix="target both directions' layers, with the same update")
    return result


def _official_rows(layer: str, rows: int, arch: Architecture, config: Any) -> tuple[str, Tensor]:
    """(the layer's official name, which of our rows each official one is)."""
    if arch.to_official is None:
        return layer, torch.arange(rows)
    moved = arch.to_official({f"{layer}.weight": torch.arange(rows)[:, None]}, config)
    name, order = next(iter(moved.items()))
    return name.removesuffix(".weight"), order[:, 0]


def write(
    folder: Path,
    updates: Mapping[str, tuple[Tensor, Tensor]],
    alpha: float,
    arch: Architecture,
    config: Any,
    *,
    base: str,
) -> None:
    """A folder that PEFT and ``read`` read, of {layer of the module: (A (r, in), B (out, r))}, all of one rank."""
    tensors, layers = {}, []
    tied = arch.tied_layers(config) if arch.tied_layers else {}
    copies = {copy: updates[kept] for copy, kept in tied.items() if kept in updates}
    for layer, (a, b) in {**updates, **copies}.items():
        theirs, rows = _official_rows(layer, b.shape[0], arch, config)
        layers.append(theirs)
        tensors[f"{WRAPPER}{theirs}.lora_A.weight"] = a.clone()
        tensors[f"{WRAPPER}{theirs}.lora_B.weight"] = b[rows.to(b.device)].contiguous()
    values = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "r": next(iter(updates.values()))[0].shape[0],
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "target_modules": layers,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "inference_mode": True,
    }
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    safetensors.write(tensors, folder / WEIGHTS[0], {"format": "pt"})
    write_bytes(folder / CONFIG, f"{json.dumps(values, indent=2)}\n".encode())

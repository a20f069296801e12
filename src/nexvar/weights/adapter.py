"""LoRA and (IA)3 adapters in PEFT's layout: adapter_config.json and adapter_model.safetensors, read and written.

    base_model.model.<official layer>.lora_A.weight (r, in)   .lora_B.weight (out, r)      W + alpha / r * B A
    base_model.model.<official layer>.ia3_l (out, 1)          the layer's output, its bias too, times this
                                            (1, in)           its input times this: of feed-forward layers

Layers have the original project's names, and rows and columns its order: what ``to_official`` does to a weight is done
to B and to the scales. An adapter is added to the weights as they are loaded. What changes the arithmetic and is not
known is refused.
Layout: https://github.com/huggingface/peft, ``PeftModel.save_pretrained``.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    "peft_type": ("LORA", "IA3"),
    "init_ia3_weights": (True,),
    "bias": ("none",),
    "init_lora_weights": (True, "gaussian", "eva", "orthogonal"),  # others change the base weights too
    "megatron_core": ("megatron.core",),
}
HARMLESS = {
    "r", "lora_alpha", "target_modules", "use_rslora", "base_model_name_or_path", "task_type", "inference_mode",
    "lora_dropout", "revision", "auto_mapping", "peft_version", "modules_to_save", "exclude_modules",
    "ensure_weight_tying", "eva_config", "qalora_group_size", "loftq_config", "runtime_config",
    "layers_to_transform", "layers_pattern", "feedforward_modules",
}  # fmt: skip


@dataclass(frozen=True)
class Adapter:
    """updates: layer as the file names it -> (A (r, in), B (out, r)). scales: layer -> (out, 1) or (1, in).

    left_out: tensors of other heads.
    """

    path: Path
    scale: float
    updates: dict[str, tuple[Tensor, Tensor]]
    left_out: list[str]
    scales: dict[str, Tensor] = field(default_factory=dict)

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
    _check_known(values, path)
    files = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if not files:
        raise NexVarError(f"neither {' nor '.join(WEIGHTS)} in this folder", where=folder)
    state = checkpoint.read([check_inside(files[0])])
    if values["peft_type"] == "IA3":
        scales, other = _scales(state, files[0])
        return Adapter(files[0], 1.0, {}, other, scales)
    rank, scale = _scale(values, path)
    return Adapter(files[0], scale, *_updates(state, rank, files[0]))


def _check_known(values: dict[str, Any], path: Path) -> None:
    """NexVarError for what changes the arithmetic and is not known."""
    for key, value in values.items():
        neutral = NEUTRAL.get(key, ())
        if key not in HARMLESS and value not in neutral and (value or key in NEUTRAL):
            fix = f"{key} {' or '.join(map(repr, neutral))}" if neutral else "plain LoRA or (IA)3"
            raise NexVarError(f"{key} is {value!r}, which is not supported"[:200], where=path, fix=fix)
    if values.get("peft_type") not in NEUTRAL["peft_type"]:
        raise NexVarError("peft_type is missing", where=path, fix='"LORA" or "IA3"')


def _scale(values: dict[str, Any], path: Path) -> tuple[int, float]:
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
    _check_foreign(other, path, "lora_A and lora_B of linear layers")
    if not halves:
        raise NexVarError("it holds no lora_A and lora_B", where=path)
    return {layer: (both["A"], both["B"]) for layer, both in halves.items()}, other


def _scales(state: dict[str, Tensor], path: Path) -> tuple[dict[str, Tensor], list[str]]:
    scales: dict[str, Tensor] = {}
    for name, tensor in state.items():
        match = re.fullmatch(r"(.+)\.ia3_l(?:\.default)?", name)
        if match is None:
            continue
        if tensor.ndim != 2 or 1 not in tensor.shape or not tensor.is_floating_point():
            what = f"{name} is {tuple(tensor.shape)} {tensor.dtype}"
            raise NexVarError(what, where=path, fix="one number for each output, or each input, of a linear layer")
        if not torch.isfinite(tensor).all():
            raise NexVarError(f"{name} holds NaN or infinite values", where=path, fix="damaged adapter")
        scales[match[1]] = tensor
    other = [name for name in state if not re.search(r"\.ia3_l(\.default)?$", name)]
    _check_foreign(other, path, "ia3_l of linear layers")
    if not scales:
        raise NexVarError("it holds no ia3_l", where=path)
    return scales, other


def _check_foreign(names: list[str], path: Path, fix: str) -> None:
    """Tensors beside the updates may be another task's head, nothing else."""
    for name in names:
        if not FOREIGN.search(name) or "lm_head" in name or "lora" in name or "ia3" in name:
            raise NexVarError(f"the tensor {name} is not supported", where=path, fix=fix)


def merged(
    adapter: Adapter, state: dict[str, Tensor], arch: Architecture, module: nn.Module, config: Any
) -> dict[str, Tensor]:
    """The weights (by the module's names), those the adapter changes in float32; NexVarError for a layer it lacks."""
    places = _places(adapter, arch, module, config)
    result, done, times = dict(state), dict[str, Tensor](), Counter[str]()
    tied = arch.tied_layers(config) if arch.tied_layers else {}
    for layer, place in places.items():
        weight = f"{place.layer}.weight"
        if weight not in result:
            raise NexVarError(f"it changes {layer}, which this checkpoint does not have", where=adapter.path)
        shape = tuple(result[weight].shape)
        change = _change(adapter, layer, place, shape)
        times[weight] += 1
        if weight in done:
            if torch.equal(done[weight], change):
                continue
            what = f"{layer} has another update than the layer that it is tied to"
            raise NexVarError(what, where=adapter.path, fix="an adapter of a model with tied weights")
        done[weight] = change
        if layer in adapter.updates:
            result[weight] = result[weight].float() + change
            continue
        result[weight] = result[weight].float() * change
        bias = f"{place.layer}.bias"
        if bias in result and change.shape[1] == 1:
            result[bias] = result[bias].float() * change[:, 0]
    if any(times[f"{kept}.weight"] == 1 for kept in tied.values()):
        what = "it changes one of two layers that this model's config ties"
        raise NexVarError(what, where=adapter.path, fix="target both directions' layers, with the same update")
    return result


@dataclass(frozen=True)
class _Place:
    """A linear layer of the module, and which of its rows and columns each official one is."""

    layer: str
    rows: Tensor
    columns: Tensor


def _places(adapter: Adapter, arch: Architecture, module: nn.Module, config: Any) -> dict[str, _Place]:
    """Layer as the adapter names it -> where it is; NexVarError for one that is not there."""
    linear = {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear)}
    tied = arch.tied_layers(config) if arch.tied_layers else {}
    mine = {_official_name(name, linear[tied.get(name, name)], arch, config): name for name in [*linear, *tied]}
    heads = arch.HEADS or ("\0",)
    trunk = {f"{theirs}.weight" for theirs, name in mine.items() if not tied.get(name, name).startswith(heads)}
    changed = [*adapter.updates, *adapter.scales]
    every = {f"{theirs}.weight" for theirs in mine}
    names = renaming([f"{layer}.weight" for layer in changed], trunk, adapter.path, every)
    places = {}
    for layer in changed:
        theirs = names[f"{layer}.weight"].removesuffix(".weight")
        if theirs not in mine:
            fix = "is it of this model? its linear layers are supported, experts, convolutions and embeddings are not"
            raise NexVarError(f"no linear layer {layer}", where=adapter.path, fix=fix)
        kept = tied.get(mine[theirs], mine[theirs])
        shape = (linear[kept].out_features, linear[kept].in_features)
        places[layer] = _Place(kept, *_official_order(mine[theirs], shape, arch, config)[1:])
    return places


def _change(adapter: Adapter, layer: str, place: _Place, shape: tuple[int, ...]) -> Tensor:
    """What is added to the weight, (out, in), or what it is multiplied by, (out, 1) or (1, in); in our order."""
    if layer in adapter.updates:
        a, b = adapter.updates[layer]
        said, sound = f"{b.shape[0]} x {a.shape[1]}", shape == (b.shape[0], a.shape[1])
    else:
        scale = adapter.scales[layer]
        said, sound = f"{scale.shape[0]} x {scale.shape[1]}", tuple(scale.shape) in ((shape[0], 1), (1, shape[1]))
    if not sound:
        raise NexVarError(f"{layer} is {said}, the model's {shape}", where=adapter.path, fix="an adapter of this model")
    if layer in adapter.updates:
        return adapter.scale * (b.float()[place.rows.argsort()] @ a.float()[:, place.columns.argsort()])
    if scale.shape[1] == 1:
        return scale.float()[place.rows.argsort()]
    return scale.float()[:, place.columns.argsort()]


def _official_name(layer: str, module: nn.Linear, arch: Architecture, config: Any) -> str:
    return _official_order(layer, (module.out_features, 1), arch, config)[0]


def _official_order(layer: str, shape: tuple[int, int], arch: Architecture, config: Any) -> tuple[str, Tensor, Tensor]:
    """(the layer's official name, which of our rows each official one is, and which of our columns)."""
    rows, columns = torch.arange(shape[0])[:, None], torch.arange(shape[1])[None]
    if arch.to_official is None:
        return layer, rows[:, 0], columns[0]
    key = f"{layer}.weight"
    name, order = next(iter(arch.to_official({key: rows}, config).items()))
    across = next(iter(arch.to_official({key: columns.expand(shape)}, config).values())) if shape[1] > 1 else columns
    return name.removesuffix(".weight"), order[:, 0], across[0]


def write(
    folder: Path,
    updates: Mapping[str, tuple[Tensor, Tensor]],
    alpha: float,
    arch: Architecture,
    config: Any,
    *,
    base: str,
    dropout: float = 0.0,
) -> None:
    """A folder that PEFT and ``read`` read, of {layer of the module: (A (r, in), B (out, r))}, all of one rank.

    dropout: as it was in training, for whoever goes on.
    """
    tensors, layers = {}, []
    tied = arch.tied_layers(config) if arch.tied_layers else {}
    copies = {copy: updates[kept] for copy, kept in tied.items() if kept in updates}
    for layer, (a, b) in {**updates, **copies}.items():
        theirs, rows, columns = _official_order(layer, (b.shape[0], a.shape[1]), arch, config)
        layers.append(theirs)
        tensors[f"{WRAPPER}{theirs}.lora_A.weight"] = a[:, columns.to(a.device)].contiguous()
        tensors[f"{WRAPPER}{theirs}.lora_B.weight"] = b[rows.to(b.device)].contiguous()
    values = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "r": next(iter(updates.values()))[0].shape[0],
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "target_modules": layers,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "inference_mode": True,
    }
    _write(folder, tensors, values)


def write_scales(
    folder: Path,
    outputs: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor],
    shapes: Mapping[str, torch.Size],
    arch: Architecture,
    config: Any,
    *,
    base: str,
) -> None:
    """The same of (IA)3: {layer of the module: (out,)}, {layer: (in,)}; shapes: (out, in) of each layer's weight."""
    tensors, forward = {}, []
    for layer, scale in {**outputs, **inputs}.items():
        theirs, rows, columns = _official_order(layer, (shapes[layer][0], shapes[layer][1]), arch, config)
        name = f"{WRAPPER}{theirs}.ia3_l"
        if layer in outputs:
            tensors[name] = scale[rows.to(scale.device)][:, None].contiguous()
        else:
            tensors[name] = scale[columns.to(scale.device)][None].contiguous()
            forward.append(theirs)
    values = {
        "peft_type": "IA3",
        "task_type": None,
        "base_model_name_or_path": base,
        "target_modules": [name.removeprefix(WRAPPER).removesuffix(".ia3_l") for name in tensors],
        "feedforward_modules": forward,
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "init_ia3_weights": True,
        "inference_mode": True,
    }
    _write(folder, tensors, values)


def _write(folder: Path, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    safetensors.write(tensors, folder / WEIGHTS[0], {"format": "pt"})
    write_bytes(folder / CONFIG, f"{json.dumps(values, indent=2)}\n".encode())

"""Weight files -> {official name: tensor}, without executing anything in them.

    *.safetensors (one, or shards with an index.json)      \\
    *.bin / *.pt  (torch.save: zip or legacy, index, parts) }-> mapped file -> views -> {name: Tensor}

Tensors are views of a private memory map: nothing is copied until a caller converts it, so a 40B
checkpoint costs no more memory than what is used of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.files import check_inside, read_json
from nexvar.weights.checkpoint import pickles, safetensors, torchsave
from nexvar.weights.checkpoint.mapped import Bytes

WRAPPERS = ("module", "state_dict", "model_state_dict", "model")
SINGLE = (
    "model.safetensors",
    "weights.safetensors",
    "pytorch_model.safetensors",
    "pytorch_model.bin",
    "model.pt",
)
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
MAX_NAME = 512  # characters; the longest of a released checkpoint has 75
MAX_SHARING = 8
PART = re.compile(r"(.+\.(?:pt|bin|ckpt))\.part(\d+)$")


def read(parts: Sequence[Path]) -> dict[str, Tensor]:
    """{name: tensor} of one weight file, or of the parts it was cut into; NexVarError if it is not sound."""
    file = Bytes(parts, parts[0])
    if file.size == 0:
        raise NexVarError("the file is empty", where=file.where, fix="download it again")
    if parts[0].name.endswith(".safetensors"):
        state: Any = safetensors.read(file)
    else:
        state = torchsave.read(file)
    for _ in range(2):
        inner = next((state[w] for w in WRAPPERS if isinstance(state, dict) and isinstance(state.get(w), dict)), None)
        state = inner if inner is not None else state
    if not isinstance(state, dict):
        raise NexVarError("it holds no table of tensors", where=file.where)
    tensors = {k: v for k, v in state.items() if isinstance(k, str) and isinstance(v, Tensor)}
    tensors |= _fp8_scales(state, file.size, file.where)
    tensors = {k: v for k, v in tensors.items() if not k.endswith("_extra_state")}
    long = next((name for name in tensors if len(name) > MAX_NAME), None)
    if long is not None:
        raise NexVarError(f"a tensor's name has {len(long)} characters: {long[:80]}…", where=file.where)
    claimed = sum(t.numel() * t.dtype.itemsize for t in tensors.values())
    if claimed > MAX_SHARING * file.size:  # tied weights share their bytes; thousands that do would fill the memory
        raise NexVarError(f"its tensors are {claimed} bytes, views of a file of {file.size}", where=file.where)
    return tensors


def _fp8_scales(state: dict[str, Any], size: int, where: object) -> dict[str, Tensor]:
    """``X._extra_state`` of TransformerEngine -> ``X.fp8_scale_fwd`` (3,) float32; of the projections alone.

    TransformerEngine 1.x stores an ``io.BytesIO`` with a torch.save'd dict, 2.x a uint8 tensor with a
    pickled one. Other modules' states and empty ones are left-overs of training.
    """
    scales = {}
    for name, value in state.items():
        if not isinstance(name, str) or not name.endswith("projections._extra_state"):
            continue
        is_tensor = isinstance(value, Tensor) and value.dtype == torch.uint8
        if not is_tensor and not isinstance(value, pickles.ByteFile):
            continue
        size -= value.numel() if is_tensor else len(value.content)
        if size < 0:  # one state under many names
            raise NexVarError("its _extra_states are longer than the file", where=where)
        content = value.contiguous().numpy().tobytes() if is_tensor else value.content
        table = torchsave.read_bytes(content, f"{where}: {name}") if content else None
        scale = table.get("scale_fwd") if isinstance(table, dict) else None
        if isinstance(scale, Tensor):
            scales[name.replace("_extra_state", "fp8_scale_fwd")] = scale.float().clone()
    return scales


def read_folder(folder: Path) -> dict[str, Tensor]:
    """The weights of an official-style folder; NexVarError where it does not say which file they are in."""
    return read_files(find_weights(folder))


def read_files(files: Sequence[Sequence[Path]]) -> dict[str, Tensor]:
    """Several weight files (each a list of its parts) as one state dict; a tensor may occur only once."""
    state: dict[str, Tensor] = {}
    for parts in files:
        for name, tensor in read(parts).items():
            if name in state:
                raise NexVarError(f"{name} occurs in two files", where=parts[0])
            state[name] = tensor
    return state


def convert_to_safetensors(source: str | Path, target: str | Path) -> Path:
    """Rewrite the weights of ``source`` (a folder or one file; ``x.pt.part0`` means all parts) as safetensors.

    Names stay the official ones; TransformerEngine's states become ``fp8_scale_fwd`` tensors, and what is not a
    tensor is left out. Returns ``target``.
    """
    source, target = Path(source), Path(target)
    files = find_weights(source) if source.is_dir() else [parts_of(source)]
    safetensors.write(read_files(files), target, {"format": "pt"})
    return target


def parts_of(path: Path) -> list[Path]:
    """All parts of the file that ``path`` (``x.pt.part0``) is a part of; itself where it is whole."""
    part = PART.match(path.name)
    if part is None:
        return [path]
    names = group_parts((p.name for p in path.parent.iterdir()), path.parent)[part[1]]
    return [path.parent / name for name in names]


def find_weights(folder: Path) -> list[list[Path]]:
    """The weight files of a folder, each as the list of its parts.

    Precedence: an index of shards, the well-known single names, a lone ``*.pt``, its ``.partN``, then a lone
    ``*.safetensors``, ``*.bin`` or ``*.ckpt``. Links that lead out of the folder are refused.
    """
    files = _find_weights(folder)
    for parts in files:
        for path in parts:
            check_inside(path)
    return files


def _find_weights(folder: Path) -> list[list[Path]]:
    """The weight files of a folder, each as its parts: an index before a file of a usual name before the only file."""
    for name in INDEXES:
        if (folder / name).is_file():
            files = [[folder / shard] for shard in shards(folder / name)]
            for (path,) in files:
                if not path.is_file():
                    raise NexVarError(f"the shard {path.name} is missing", where=folder, fix="download all files")
            return files
    for name in SINGLE:
        if (folder / name).is_file():
            return [[folder / name]]
    names = sorted(p.name for p in folder.iterdir() if p.is_file())
    for suffix in (".pt", ".part", ".safetensors", ".bin", ".ckpt"):
        if suffix == ".part":
            candidates = group_parts(names, folder)
        else:
            candidates = {name: [name] for name in names if name.endswith(suffix)}
        if len(candidates) > 1:
            raise NexVarError(
                f"{len(candidates)} files could be the weights: {', '.join(list(candidates)[:3])}",
                where=folder,
                fix="keep one, or name it model.safetensors",
            )
        if candidates:
            return [[folder / part for part in parts] for parts in candidates.values()]
    raise NexVarError("no weights in this folder", where=folder, fix="it needs a .safetensors, .bin or .pt file")


def group_parts(names: Iterable[str], folder: Path) -> dict[str, list[str]]:
    """{"x.pt": ["x.pt.part0", "x.pt.part1"]}; NexVarError if one is missing."""
    groups: dict[str, dict[int, str]] = {}
    for name in names:
        if match := PART.match(name):
            groups.setdefault(match[1], {})[int(match[2])] = name
    for whole, parts in groups.items():
        if sorted(parts) != list(range(len(parts))):
            missing = next(i for i in range(len(parts) + 1) if i not in parts)
            raise NexVarError(f"{whole}.part{missing} is missing", where=folder, fix="all parts are needed")
    return {whole: [parts[i] for i in range(len(parts))] for whole, parts in groups.items()}


def shards(path: Path) -> list[str]:
    """The file names an index.json lists; NexVarError for one that would lead out of its folder."""
    weight_map = read_json(check_inside(path)).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise NexVarError("no weight_map of file names", where=path)
    names = sorted(set(weight_map.values()))
    for name in names:
        if not is_plain_name(name) or not name.endswith((".safetensors", ".bin")):
            raise NexVarError(f"the shard {name[:80]!r} is not a weight file of this folder", where=path)
    return names


def is_plain_name(name: str) -> bool:
    """A bare file name: no folder, no drive, no way out."""
    return bool(name) and name not in (".", "..") and not re.search(r"[/\\:\x00]", name)

"""A model out again: in the original project's own layout, in the hub's, or in ours.

    official      what the original code reads: vortex' .pt and config.yml for StripedHyena 2, else the hub's files
    huggingface   config.json, model.safetensors and the tokenizer's files, as in the hub repository
    safetensors   our own folder (``load.save``)

The way back of ``load``: tensors go through ``to_official`` with the dtypes they have, not through a model. What the
original file held and no forward reads is copied from an official source, and named where there is none.
"""

from __future__ import annotations

import fnmatch
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nexvar import arguments, models
from nexvar.cards import Card
from nexvar.errors import NexVarError
from nexvar.files import at_home, check_inside, read_bytes, read_json, replacing
from nexvar.weights import adapter as adapters
from nexvar.weights.assemble import check_finite, check_tensors
from nexvar.weights.checkpoint import safetensors
from nexvar.weights.hub import SMALL_FILES
from nexvar.weights.load import fitted, save
from nexvar.weights.names import unwrapped
from nexvar.weights.sources import DTYPES, Opened, open_source

FORMATS = ("official", "safetensors", "huggingface")
TASK = ("head.safetensors", "task.json")  # a fine-tuned head: ours alone
DERIVED = ("inv_freq", "position_ids", "decoder.weight", "unembed.weight", "complement_map")
SAID = (
    "tokenizer", "objective", "readout", "span", "windowing", "special_tokens", "bos_id", "window", "context", "fp8",
    "species", "licence", "citation", "notes",
)  # fmt: skip


@dataclass(frozen=True)
class Exported:
    """notes: what could not go along, one line each."""

    folder: Path
    files: tuple[str, ...]
    notes: tuple[str, ...]


def export(
    source: str | Path,
    output: str | Path,
    format: str = "official",
    *,
    dtype: str = "auto",
    architecture: str | None = None,
    adapter: str | Path | None = None,
) -> Exported:
    """Write ``source`` (a folder, a model's name) as the new folder ``output``, whole or not at all.

    dtype: "auto" leaves every tensor as it is stored; others convert all but those that must stay in float32.
    adapter: a LoRA adapter in PEFT's layout, added to the weights first.
    Raises NexVarError: an unknown format or dtype, an existing output, a source that does not load.
    """
    output = at_home(arguments.path(output, "output"))
    if format not in FORMATS:
        raise NexVarError(f"no format {format!r}", where="format", fix=f"one of {', '.join(FORMATS)}")
    if dtype != "auto" and dtype not in DTYPES:
        raise NexVarError(f"no dtype {dtype!r}", where="dtype", fix="auto, float32, bfloat16 or float16")
    check_new(output)
    opened, where = open_source(source, architecture=architecture)
    arch = models.get(opened.card.architecture)
    if format != "safetensors" and (arch.to_official is None or arch.official_values is None):
        what = f"the package {arch.package} does not say how {arch.name} is written in its original layout"
        raise NexVarError(what, where="format", fix="format safetensors")
    module, state, left_out = fitted(opened, where)
    if adapter is not None:
        update = adapters.read(adapter)
        state = adapters.merged(update, state, arch, module, opened.config)
        left_out = "; ".join(filter(None, [left_out, update.line]))
    check_tensors(module.state_dict(), state, where)
    for name, tensor in state.items():
        check_finite(name, tensor, where)
    if dtype != "auto":
        state = {n: _cast(t, n, DTYPES[dtype], arch.KEEP_FLOAT32) for n, t in state.items()}
    notes = [left_out] if left_out else []
    with replacing(output) as temporary:
        temporary.unlink()
        temporary.mkdir()
        if format == "safetensors":
            module.load_state_dict(state, strict=True, assign=True)
            save(temporary, module, architecture=arch.name, config=opened.config, card=_facts(opened.card))
            _copy(opened.folder, temporary, (*SMALL_FILES[1:], *TASK))
        else:
            official, lost = _official(opened, module, state, whole=adapter is None and dtype == "auto")
            notes += lost
            _write(temporary, official, _values(opened, dtype), pt=_is_vortex(arch.name, format))
            _copy(opened.folder, temporary, SMALL_FILES[1:])
            if opened.folder is not None and any((opened.folder / name).is_file() for name in TASK):
                notes.append(f"{' and '.join(TASK)}, the head of a [task] run, are NexVar's own: left out")
        files = tuple(sorted(path.name for path in temporary.iterdir()))
        check_new(output)
    return Exported(output, files, tuple(notes))


def check_new(output: Path) -> None:
    """NexVarError for a path where something is already."""
    if os.path.lexists(output):
        raise NexVarError("it exists already", where=output, fix="another -o: nothing is overwritten")


def _cast(tensor: Tensor, name: str, dtype: torch.dtype, keep: tuple[str, ...]) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    return tensor.to(torch.float32 if any(fnmatch.fnmatch(name, pattern) for pattern in keep) else dtype)


def _is_vortex(architecture: str, format: str) -> bool:
    return architecture == "striped_hyena2" and format == "official"


def _official(
    opened: Opened, module: Any, state: Mapping[str, Tensor], *, whole: bool
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by their official names, and lines on what is lost. whole: with all that an official source has."""
    arch = models.get(opened.card.architecture)
    assert arch.to_official is not None
    official = arch.to_official(dict(state), opened.config)
    kept: dict[str, Tensor] = {}
    if not opened.native:
        before, heads = unwrapped(opened.state, arch, module, opened.config, opened.folder)
        if all(name.endswith(DERIVED) for name in set(official) - set(before)):  # else: a layout of somebody else
            scales = {n: t for n, t in before.items() if n.endswith("fp8_scale_fwd")}
            kept = {n: t for n, t in before.items() if n not in official} | scales | heads
    if not whole:
        kept = {n: t for n, t in kept.items() if not n.endswith(DERIVED)}
    lost = [p for p in arch.UNREAD if not any(fnmatch.fnmatch(n, p) for n in (*kept, *official))]
    notes = [f"{', '.join(lost)}: not in this file, and read by no forward"] if lost else []
    if opened.native and any(name.endswith("fp8_scale") for name in state):
        notes.append(
            "of the FP8 scales, those of the inputs and weights: the outputs' are written as 1, nothing reads them"
        )
    return official | kept, notes


def _values(opened: Opened, dtype: str) -> dict[str, Any]:
    """config.json: the source's own where it is official, else from the config; torch_dtype: what it computes in."""
    arch = models.get(opened.card.architecture)
    assert arch.official_values is not None
    stored = str(DTYPES[opened.card.dtype if dtype == "auto" else dtype]).removeprefix("torch.")
    path = None if opened.native or opened.folder is None else opened.folder / "config.json"
    if path is not None and path.is_file() and models.infer(theirs := read_json(check_inside(path))) == arch.name:
        return theirs if dtype == "auto" else {**theirs, "torch_dtype": stored}
    return {**arch.official_values(opened.config), "torch_dtype": stored}


def _facts(card: Card) -> dict[str, Any]:
    """What the folder will say of itself: the card's own words, less those of one released file."""
    return {name: getattr(card, name) for name in SAID if getattr(card, name) is not None}


# -- files


def _write(folder: Path, tensors: dict[str, Tensor], values: dict[str, Any], *, pt: bool) -> None:
    if pt:
        torch.save(_with_scales(tensors), folder / "model.pt")
        lines = "".join(f"{name}: {_yaml(value)}\n" for name, value in values.items())
        (folder / "config.yml").write_text(lines, encoding="utf-8")
    else:
        plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
        safetensors.write(plain, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _yaml(value: Any) -> str:
    """JSON is YAML but for numbers such as 1e-06, which YAML 1.1 reads as text."""
    text = json.dumps(value)
    return text.replace("e", ".0e", 1) if isinstance(value, float) and "e" in text and "." not in text else text


def _with_scales(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """FP8 scales as TransformerEngine 1.x keeps them: a torch.save'd table in an ``io.BytesIO``."""
    state: dict[str, Any] = {}
    for name, tensor in tensors.items():
        if not name.endswith("fp8_scale_fwd"):
            state[name] = tensor.detach().clone()
            continue
        table = {
            "scale_fwd": tensor.clone(),
            "scale_inv_fwd": 1 / tensor,
            "amax_history_fwd": torch.zeros(16, 3),
            "scale_bwd": torch.ones(2),
            "scale_inv_bwd": torch.ones(2),
            "amax_history_bwd": torch.zeros(16, 2),
            "extra_fp8_variables": {"fp8_checkpoint": True, "num_gemms": 1, "fp8_max_fwd": 448, "fp8_max_bwd": 57344},
        }
        content = io.BytesIO()
        torch.save(table, content)
        content.seek(0)
        state[name.replace("fp8_scale_fwd", "_extra_state")] = content
    return state


def _copy(source: Path | None, target: Path, names: tuple[str, ...]) -> None:
    for name in names if source is not None else ():
        path = source / name  # type: ignore[operator]
        if path.is_file():
            (target / name).write_bytes(read_bytes(check_inside(path)))

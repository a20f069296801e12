"""The only door for bytes: card or folder -> files -> tensors -> convert -> strict assign -> buffers.

    load("nexvar_7b")     card: config values from the card, files from the hub at a pinned revision
    load("path/to/dir")   folder: config.json + weights + tokenizer files; nothing in it is executed

``sources`` finds card and tensors, ``checkpoint`` reads the files, ``assemble`` builds the model, ``hub`` downloads.
"""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nexvar import arguments, cards, models, tokenizers
from nexvar.cards import Card
from nexvar.errors import NexVarError
from nexvar.files import at_home, write_bytes
from nexvar.models import GenomicModel
from nexvar.ops.arithmetic import in_float32
from nexvar.weights import adapter as adapters
from nexvar.weights import offload
from nexvar.weights import quantize as quantized
from nexvar.weights.assemble import Put, assign, build, convert, make_config
from nexvar.weights.checkpoint import safetensors
from nexvar.weights.hub import cache_dir
from nexvar.weights.names import unwrapped
from nexvar.weights.sources import DTYPES, Opened, as_folder, open_folder, open_source


@dataclass(frozen=True)
class Loaded:
    """One model in memory. dtype is that of its activations; ``KEEP_FLOAT32`` parameters stay float32.

    folder: where its files lie, if in one: a trained head may lie beside them.
    """

    module: Any  # an nn.Module that follows models.GenomicModel
    tokenizer: tokenizers.Tokenizer
    card: Card
    device: torch.device
    dtype: torch.dtype
    quantize: str | None = None
    folder: Path | None = None

    def need_head(self, what: str) -> None:
        """NexVarError where the model is a trunk without a language-model head; ``what`` would need it."""
        if not self.module.has_head:
            why, fix = "its file held none", "embeddings and embedding readouts work; or the checkpoint with its head"
            if self.module.elements and not self.module.without:
                why, fix = "it annotates", "nexvar annotate; embeddings and embedding readouts work, too"
            raise NexVarError(
                f"{self.card.name} has no language-model head ({why}), and {what} needs its probabilities",
                where=what,
                fix=fix,
            )

    @property
    def precision(self) -> str:
        """ "bfloat16", or "bfloat16, int8" where weights are quantised; and the arithmetic, where it is not dtype's."""
        name = str(self.dtype).removeprefix("torch.")
        named = name if self.quantize is None else f"{name}, {self.quantize}"
        return f"{named} (products in float32)" if in_float32(self.dtype, self.device) else named


def load(
    source: str | Path,
    *,
    architecture: str | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
    weights: str | Path | None = None,
    quantize: str | None = None,
    device_map: str | Mapping[str, str | int | torch.device] | None = None,
    offload_folder: str | Path | None = None,
    allow_wrong_fp8: bool = False,
    adapter: str | Path | None = None,
) -> Loaded:
    """A model from a card's name, alias or hub repository, or from a folder.

    architecture: for folders whose config.json does not tell it; a file name in ``nexvar/models``.
    device: "auto" is the first of cuda, mps, cpu that exists.
    dtype: "auto" is the checkpoint's own.
    revision: a hub revision instead of the card's pinned one.
    weights: the card's official weight file (or the first of its parts) where it is already here: no download.
    quantize: "int8", "int4" or "nf4": the architecture's large linear layers in 8 or 4 bits (``quantize.py``).
    device_map: "auto", or {part of the model: device or "disk"}: where weights lie (``offload.py``).
    offload_folder: for what the loader had to reorder before it could lie on disk; default: NexVar's cache.
    adapter: a folder with a LoRA adapter in PEFT's layout, which is added to the weights (``adapter.py``).
    allow_wrong_fp8: load 20B/40B where their FP8 numbers cannot be had (or NEXVAR_ALLOW_WRONG_FP8=1).
    Raises NexVarError for anything wrong with the source: one line, nothing executed, nothing deleted.
    """
    for name, value in (("architecture", architecture), ("revision", revision), ("quantize", quantize)):
        if value is not None:
            arguments.text(value, name)
    for name, given in (("weights", weights), ("offload_folder", offload_folder), ("adapter", adapter)):
        if given is not None:
            arguments.path(given, name)
    arguments.flag(allow_wrong_fp8, "allow_wrong_fp8")
    if device_map is not None and not isinstance(device_map, (str, Mapping)):
        what = f"device_map is {arguments.described(device_map)}"
        raise NexVarError(what, where="device_map", fix='"auto", or {part: device}')
    where_to = pick_device(device)
    if as_folder(source) is None:  # before a download
        _refuse_wrong_fp8(cards.get(str(source)), where_to, allow_wrong_fp8)
    opened, where = open_source(source, architecture=architecture, revision=revision, weights=weights)
    card = opened.card
    _refuse_wrong_fp8(card, where_to, allow_wrong_fp8)
    wanted = _pick_dtype(dtype, card)
    arch = models.get(card.architecture)
    module, state, left_out = fitted(opened, where)
    if adapter is not None:
        update = adapters.read(adapter)
        state = adapters.merged(update, state, arch, module, opened.config)
        left_out = "; ".join(filter(None, [left_out, update.line]))
    if left_out:
        warnings.warn(left_out, stacklevel=2)
    put = _putter(module, opened, quantize, device_map, offload_folder, where_to, wanted)
    assign(module, state, device=where_to, dtype=wanted, keep=arch.KEEP_FLOAT32, put=put, where=where)
    tokenizer = tokenizers.make(card.tokenizer, opened.folder)
    _check_tokens(tokenizer, module.config.vocabulary, where)
    return Loaded(module, tokenizer, card, where_to, wanted, quantize, opened.folder)


def fitted(opened: Opened, where: object) -> tuple[GenomicModel, dict[str, Tensor], str]:
    """A model on the meta device, its tensors under its own names, and a line on what does not go together.

    A trunk alone loads, without its heads; tensors of other people's heads are left out. Nothing else may be missing.
    """
    card, arch = opened.card, models.get(opened.card.architecture)
    module = build(card.architecture, opened.config, where)
    state, foreign = opened.state, list[str]()
    if not opened.native:
        official, heads = unwrapped(state, arch, module, opened.config, where)
        other = tuple(h for h in arch.HEADS[1:] if not any(n.startswith(h) for n in module.state_dict()))
        foreign = [*heads, *(name for name in official if other and name.startswith(other))]
        state = convert(arch, official, opened.config, where)
    missing = [name for name in module.state_dict() if name not in state]
    for head in arch.HEADS:
        named = [name for name in module.state_dict() if name.startswith(head)]
        if named and all(name in missing for name in named):
            module.drop(head)
    return module, state, _left_out(card.name, foreign, module)


def _check_tokens(tokenizer: tokenizers.Tokenizer, rows: int, where: object) -> None:
    """Refuse a tokenizer that gives tokens which the model does not have."""
    ids = 128 if isinstance(tokenizer, tokenizers.ByteTokenizer) else tokenizer.vocab_size  # text is ASCII
    if ids > rows:
        what = f"its tokenizer gives ids up to {ids - 1:,}, its model has {rows:,} tokens"
        raise NexVarError(what, where=where, fix="tokenizer and weights are not of the same model")


def _left_out(name: str, foreign: list[str], module: GenomicModel) -> str:
    parts = []
    if module.without and not module.has_head:
        parts = ["loaded without a language-model head: it gives embeddings, no likelihoods"]
    if foreign:
        tops = sorted({".".join(tensor.split(".")[:2]) for tensor in foreign})
        more = f" and {len(tops) - 4} more" if len(tops) > 4 else ""
        parts.append(f"{len(foreign)} tensor(s) of other heads are left out: {', '.join(tops[:4])}{more}")
    return f"{name}: {'; '.join(parts)}" if parts else ""


def outline(
    source: str | Path, *, device: str | torch.device = "auto", dtype: str | torch.dtype = "auto",
    quantize: str | None = None,
) -> Loaded:  # fmt: skip
    """``load`` without weights: the module is on the meta device, and nothing is downloaded.

    For plans: how many tokens, how much work. A BPE tokenizer whose file is not here is one of bases in its place.
    """
    where_to, folder = pick_device(device), as_folder(source)
    if folder is not None:
        opened = open_folder(folder, None)
        card = opened.card
        module, _, _ = fitted(opened, folder)  # it may have no head
    else:
        card = cards.get(str(source))
        config = make_config(card.architecture, card.config, f"card {card.name}")
        module = build(card.architecture, config, card.label)
    missing = card.tokenizer == "bpe" and folder is None
    tokenizer = tokenizers.make("byte" if missing else card.tokenizer, folder)
    return Loaded(module, tokenizer, card, where_to, _pick_dtype(dtype, card), quantize)


def _putter(
    module: nn.Module,
    opened: Opened,
    quantize: str | None,
    device_map: str | Mapping[str, str | int | torch.device] | None,
    offload_folder: str | Path | None,
    device: torch.device,
    dtype: torch.dtype,
) -> Put | None:
    """Who stores parameters in place of ``assign``: a quantizer, an offloader or nobody."""
    quantizer = quantized.quantizer(quantize, opened.card.architecture, device, dtype)
    if device_map is None:
        if offload_folder is not None:
            raise NexVarError("offload_folder without device_map", where="offload_folder", fix='device_map="auto"')
        return None if quantizer is None else quantizer.put
    if quantizer is not None:
        raise NexVarError("quantize and device_map do not go together", fix="choose one of them")
    device = torch.empty(0, device=device).device  # "cuda" -> "cuda:0", as device maps say it
    if isinstance(device_map, str):
        if device_map != "auto":
            raise NexVarError(f"no device_map {device_map!r}", where="device_map", fix='"auto", or {part: device}')
        sizes = {n: t.numel() * float(dtype.itemsize) for n, t in module.named_parameters()}
        places = offload.auto(module, device, sizes)
    else:
        places = offload.parse(device_map, module, device)
    folder = cache_dir() / "offload"
    if offload_folder is not None:
        folder = at_home(offload_folder)
        offload.check_folder(folder)
    return offload.Offloader(places, device, opened.state.values(), folder).put


# -- choices


def pick_device(device: str | torch.device) -> torch.device:
    """ "auto" -> the first of cuda, mps, cpu that exists; NexVarError for one that does not."""
    if not isinstance(device, (str, torch.device)):
        what = f"device is {arguments.described(device)}"
        raise NexVarError(what, where="device", fix='a name such as "cpu" or "cuda:0", or "auto"')
    if str(device) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        what = str(error).splitlines()[0]
        raise NexVarError(f"no device {str(device)!r} here ({what})", where="device", fix='"auto" picks one') from error


def _pick_dtype(dtype: str | torch.dtype, card: Card) -> torch.dtype:
    if not isinstance(dtype, (str, torch.dtype)):
        what = f"dtype is {arguments.described(dtype)}"
        raise NexVarError(what, where="dtype", fix="auto, float32, bfloat16 or float16")
    name = card.dtype if dtype == "auto" else str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise NexVarError(f"no dtype {name!r}", where="dtype", fix="auto, float32, bfloat16 or float16")
    return DTYPES[name]


def _refuse_wrong_fp8(card: Card, device: torch.device, allow: bool) -> None:
    hopper = device.type == "cuda" and torch.cuda.get_device_capability(device) == (9, 0)
    allow = allow or os.environ.get("NEXVAR_ALLOW_WRONG_FP8") == "1"
    if card.fp8 == "hopper" and not hopper and not allow:
        raise NexVarError(
            f"{card.name} gives wrong numbers on {device}: it was trained with the FP8 accumulator of "
            "Hopper GPUs (H100, H200), which nothing else reproduces at speed",
            where="device",
            fix="use such a GPU, or nexvar_7b; allow_wrong_fp8=True or NEXVAR_ALLOW_WRONG_FP8=1 loads it anyway",
        )


# -- saving


def save(folder: str | Path, module: nn.Module, *, architecture: str, config: Any, card: dict[str, Any]) -> Path:
    """Write a folder that ``load`` reads: config.json and model.safetensors, each replaced atomically.

    card: what the folder says of itself, ``Card`` fields such as tokenizer, objective, context, species.
    Tensors keep the module's names and dtypes; such a folder is loaded without ``convert``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.write(module.state_dict(), folder / "model.safetensors")
    values = {"architecture": architecture, **dataclasses.asdict(config), "card": card}
    write_bytes(folder / "config.json", f"{json.dumps(values, indent=1)}\n".encode())
    return folder

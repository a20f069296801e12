"""What a user names, opened: a card's checkpoint or a folder, as card, config and tensors, before a model is built."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nexvar import arguments, cards, models
from nexvar.cards import Card
from nexvar.errors import NexVarError
from nexvar.files import at_home
from nexvar.weights import checkpoint
from nexvar.weights.assemble import make_config, official_config
from nexvar.weights.typed import check_types

DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


@dataclass(frozen=True)
class Opened:
    """A source before its model is built. native: the tensors have the module's own names (we wrote them)."""

    card: Card
    config: Any
    state: dict[str, Tensor]
    native: bool
    folder: Path | None


def as_folder(source: str | Path) -> Path | None:
    """The folder that ``source`` means, or None for a name; NexVarError for a path where there is none."""
    path = arguments.path(source, "source")
    looks_like_path = isinstance(source, Path) or path.is_absolute() or str(source).startswith((".", "~"))
    path = at_home(path)
    if looks_like_path or (path.is_dir() and not cards.is_known(str(source))):
        if path.is_dir():
            return path
        if path.exists():
            raise NexVarError("this is a file", where=path, fix="give the folder that holds it and its config.json")
        raise NexVarError("no such folder", where=path)
    return None


def open_source(
    source: str | Path,
    *,
    architecture: str | None = None,
    revision: str | None = None,
    weights: str | Path | None = None,
) -> tuple[Opened, object]:
    """A folder's or a card's config and tensors, and what to call it in a message; arguments as in ``load``."""
    folder = as_folder(source)
    if folder is not None:
        if weights is not None:
            raise NexVarError("weights= goes with a model's name, not with a folder", where=folder)
        return open_folder(folder, architecture), folder
    card = cards.get(str(source))
    return (_open_card(card, revision) if weights is None else _open_file(card, Path(weights))), card.label


def open_folder(folder: Path, architecture: str | None) -> Opened:
    """A folder that ``save`` or an official repository wrote."""
    path = folder / "config.json"
    if not path.is_file():
        raise NexVarError("no config.json in this folder", where=folder)
    checkpoint.check_inside(path)
    values = checkpoint.read_json(path)
    native = isinstance(values.get("architecture"), str)
    if native:  # ours: architecture, Config fields, and a card if it was saved with one
        described = values.pop("card", {})
        name = values.pop("architecture")
        config = make_config(name, values, path)
    else:
        name = architecture or models.infer(values)
        if name is None:
            raise NexVarError(
                "config.json is of none of the known architectures",
                where=path,
                fix=f'give architecture="…", one of {", ".join(models.names())}',
            )
        config = official_config(name, values, path)
        described = {}
    state = checkpoint.read_folder(folder)
    card = _folder_card(folder, str(name), config, values, described, state)
    return Opened(card, config, state, native, folder)


def _folder_card(
    folder: Path,
    architecture: str,
    config: Any,
    values: dict[str, Any],
    described: Any,
    state: dict[str, Tensor],
) -> Card:
    """A card for a folder: what it says of itself, else what the architecture's released checkpoints say."""
    family = next((c for c in cards.all_cards().values() if c.architecture == architecture), None)  # own ones first
    model = models.get(architecture).Model
    twins = (c for c in cards.own_cards().values() if c.fp8 and c.architecture == architecture)
    twin = next((c for c in twins if make_config(architecture, c.config, c.name) == config), None)
    known: dict[str, Any] = {
        "tokenizer": config.tokenizer or (family.tokenizer if family else "byte"),
        "objective": family.objective if family else "causal" if model.causal else "masked",
        "readout": family.readout if family else "llr",
        "bos_id": family.bos_id if family else None,
        "special_tokens": bool(family and family.special_tokens),
        "context": config.context or (family.context if family else 8192),
        "fp8": twin.fp8 if twin else None,
        "licence": "as the folder says",
        "citation": "",
        "parity": "none",
        "parity_note": "a folder, not a released checkpoint",
        "dtype": values.get("torch_dtype") or values.get("dtype") or _common_dtype(state),
    }
    ours = {"config", "files", "repo", "revision", "weights", "package", "folder"}  # not for a folder to say
    fields = {f.name for f in dataclasses.fields(Card)} - ours
    if not isinstance(described, dict) or not set(described) <= fields:
        raise NexVarError("the card in config.json has unknown fields", where=folder / "config.json")
    check_types(Card, described, folder / "config.json: card", most=1 << 40)
    known["window"] = min(known["context"], family.window if family else 8192)
    known |= {"name": folder.resolve().name, "architecture": architecture, **described}
    if not isinstance(known["dtype"], str) or known["dtype"] not in DTYPES:
        known["dtype"] = "float32"
    known["aliases"] = tuple(known.get("aliases", ()))
    known.setdefault("parameters", sum(t.numel() for t in state.values() if t.is_floating_point()))
    return Card(config=dataclasses.asdict(config), **known)


def _common_dtype(state: dict[str, Tensor]) -> str:
    count: dict[str, int] = {}
    for tensor in state.values():
        name = str(tensor.dtype).removeprefix("torch.")
        count[name] = count.get(name, 0) + (tensor.numel() if name in DTYPES else 0)
    return max(count, key=lambda name: count[name], default="float32")


def _open_card(card: Card, revision: str | None) -> Opened:
    config = make_config(card.architecture, card.config, card.label)
    if card.weights is not None:
        path = card.beside(card.weights)
        return Opened(card, config, checkpoint.read([path]), True, path.parent)
    from nexvar.weights import hub

    folder = hub.fetch(card, revision)
    config = compare_config(card, config, folder / "config.json")
    return Opened(card, config, hub.read_weights(card, folder), False, folder)


def _open_file(card: Card, path: Path) -> Opened:
    """A card's official weights in a file of the user's; its config values come from the card."""
    path = at_home(path)
    if not path.is_file():
        raise NexVarError("no such file", where=path)
    config = make_config(card.architecture, card.config, card.label)
    if card.config_file:
        config = compare_config(card, config, path.parent / "config.json")
    return Opened(card, config, checkpoint.read(checkpoint.parts_of(path)), False, path.parent)


def compare_config(card: Card, config: Any, path: Path) -> Any:
    """The config to build: the card's. The downloaded config.json must agree with it; it is compared, not used.

    Cards with ``config_file`` take from config.json what they do not say themselves.
    """
    if not path.is_file():
        if card.config_file:
            raise NexVarError(f"the card {card.name} needs it", where=path, fix="download it again")
        return config
    values = checkpoint.read_json(path)
    name = models.infer(values)
    if name is None:  # some repositories hold a place-holder config.json
        if card.config_file:
            raise NexVarError(f"this is no {card.architecture} config", where=path, fix="another revision?")
        return config
    theirs = official_config(name, values, path) if name == card.architecture else None
    fields = [f.name for f in dataclasses.fields(config)] if theirs is not None else []
    said = [f for f in fields if not card.config_file or f in card.config]
    different = [f for f in said if getattr(theirs, f) != getattr(config, f)]
    if theirs is None or different:
        detail = f"architecture is {name}, the card says {card.architecture}"
        if different:
            detail = "; ".join(
                f"{f} is {getattr(theirs, f)!r}, the card says {getattr(config, f)!r}" for f in different[:3]
            )
        raise NexVarError(
            f"not the checkpoint the card {card.name} describes: {detail}"[:600],
            where=path,
            fix=f"another revision? load the folder itself: NexVar({str(path.parent)!r})",
        )
    return theirs if card.config_file else config

"""Cards: one TOML per released checkpoint. ``get`` finds one by its name, an alias or its hub repository."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from nexvar import arguments
from nexvar.errors import NexVarError

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]


@dataclass(frozen=True)
class File:
    """One weight or tokenizer file of the hub repository; sha256 and size where they are published."""

    name: str
    sha256: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Card:
    """Everything NexVar knows about one checkpoint without opening it.

    weights: a file of ``nexvar/cards`` that ships with the package (the module's own names); no network.
    fp8: "any" if the checkpoint needs FP8 input projections and float32 accumulation serves it, "hopper" if only
        the accumulator of Hopper GPUs gives its numbers; None where it needs no FP8.
    config: the architecture's own values (``models/<architecture>.py: Config``), never read from the hub.
    config_file: the checkpoint's config.json completes ``config`` (track names by the thousand); read as data, and
        what the card says must agree.
    context: the longest input in bases.
    parameters: floating-point numbers of the checkpoint, tied ones counted once.
    parity: what was verified, in a word (``parity_note`` says how).
    oracles: values recorded from the real checkpoint, for ``nexvar verify``.
    """

    name: str
    architecture: str
    tokenizer: str
    objective: str  # causal | masked
    context: int
    parameters: int
    licence: str
    citation: str
    parity: str
    parity_note: str
    config: dict[str, Any]
    config_file: bool = False
    aliases: tuple[str, ...] = ()
    repo: str | None = None
    revision: str | None = None
    files: tuple[File, ...] = ()
    weights: str | None = None
    dtype: str = "float32"
    fp8: str | None = None  # None | any | hopper
    readout: str = "llr"
    span: int = 0  # of the readout, see score.Options
    special_tokens: bool = False  # official scoring adds the tokenizer's [CLS], [SEP], …
    window: int = 8192  # bases around a variant, unless the user says otherwise
    bos_id: int | None = None  # the token that the official scoring puts before a sequence, if any
    species: str | None = None  # set when the model knows only part of biology, e.g. "mitochondria"
    notes: str = ""
    oracles: dict[str, Any] = field(default_factory=dict)


def parse(text: str) -> Card:
    """A card from its TOML text."""
    values = tomllib.loads(text)
    values["files"] = tuple(File(**f) for f in values.get("files", ()))
    values["aliases"] = tuple(values.get("aliases", ()))
    return Card(**values)


@cache
def all_cards() -> dict[str, Card]:
    """Every shipped card by name, sorted."""
    files = (f for f in resources.files(__package__).iterdir() if f.name.endswith(".toml"))
    cards = (parse(f.read_text(encoding="utf-8")) for f in files)
    return {card.name: card for card in sorted(cards, key=lambda c: c.name)}


@cache
def _names() -> dict[str, Card]:
    names: dict[str, Card] = {}
    for card in all_cards().values():
        for key in (card.name, *card.aliases, *((card.repo,) if card.repo else ())):
            names.setdefault(key.lower(), card)
    return names


def is_known(name: str) -> bool:
    """Whether ``get(name)`` finds a card."""
    return name.lower() in _names()


def get(name: str) -> Card:
    """The card called ``name`` (name, alias or hub repository, in any case); NexVarError if there is none."""
    wanted, known = arguments.text(name, "model").lower(), _names()
    if wanted not in known:
        near = ", ".join(difflib.get_close_matches(wanted, known, n=3, cutoff=0.4))
        hint = f"did you mean {near}? " if near else ""
        raise NexVarError(f"no model called {name!r}", fix=f"{hint}`nexvar models` lists them; a folder works too")
    return known[wanted]

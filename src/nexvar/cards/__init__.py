"""Cards: one TOML per released checkpoint. ``get(name)`` finds one by its name, an alias or its hub repository."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

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

    config: the architecture's own values (``models/<architecture>.py: Config`` fields), never read from the hub.
    context: the longest input in bases.
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
    aliases: tuple[str, ...] = ()
    repo: str | None = None
    revision: str | None = None
    files: tuple[File, ...] = ()
    dtype: str = "float32"
    readout: str = "llr"
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


def get(name: str) -> Card:
    """The card called ``name`` (a name, an alias or a hub repository, in any case); NexVarError if there is none."""
    wanted = name.lower()
    known: dict[str, Card] = {}
    for card in all_cards().values():
        for key in (card.name, *card.aliases, *((card.repo,) if card.repo else ())):
            known.setdefault(key.lower(), card)
    if wanted not in known:
        near = ", ".join(difflib.get_close_matches(wanted, known, n=3, cutoff=0.4))
        hint = f"did you mean {near}? " if near else ""
        raise NexVarError(f"no model called {name!r}", fix=f"{hint}`nexvar models` lists them; a folder works too")
    return known[wanted]

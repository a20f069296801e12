"""Cards: one TOML per released checkpoint. ``get`` finds one by its name, an alias or its hub repository.

NexVar's own lie in this folder. Other packages bring theirs by the entry point ``nexvar.cards`` (``outside.py``); no
name, alias or repository of a card of NexVar's can be taken, and a card that is wrong is one line and left out.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from functools import cache

from nexvar import arguments
from nexvar.cards import outside
from nexvar.cards.card import HERE, Card, File, parse
from nexvar.errors import NexVarError

__all__ = ["Card", "File", "all_cards", "get", "is_known", "own_cards", "parse"]


@dataclass
class _Catalogue:
    """cards: by name, NexVar's first. keys: every name, alias and repository in lower case. refused: why not."""

    cards: dict[str, Card] = field(default_factory=dict)
    keys: dict[str, Card] = field(default_factory=dict)
    refused: dict[str, NexVarError] = field(default_factory=dict)

    def add(self, card: Card, keys: tuple[str, ...]) -> None:
        self.cards[card.name] = card
        for key in keys:
            self.keys.setdefault(key.lower(), card)


@cache
def own_cards() -> dict[str, Card]:
    """NexVar's own cards by name, sorted."""
    cards = (parse(path.read_text(encoding="utf-8")) for path in HERE.glob("*.toml"))
    return {card.name: card for card in sorted(cards, key=lambda c: c.name)}


@cache
def _catalogue() -> _Catalogue:
    everything = _Catalogue()
    for card in own_cards().values():
        everything.add(card, card.keys)
    theirs, everything.refused = outside.read_all(dict(everything.keys))
    for card, keys in theirs:
        everything.add(card, keys)
    return everything


def all_cards() -> dict[str, Card]:
    """Every card by name: NexVar's own, sorted, then those of other packages."""
    return dict(_catalogue().cards)


def is_known(name: str) -> bool:
    """Whether ``get(name)`` finds a card."""
    return name.lower() in _catalogue().keys


def get(name: str) -> Card:
    """The card called ``name`` (name, alias or hub repository, in any case); NexVarError if there is none."""
    wanted, catalogue = arguments.text(name, "model").lower(), _catalogue()
    if wanted in catalogue.keys:
        return catalogue.keys[wanted]
    if wanted in catalogue.refused:
        raise catalogue.refused[wanted]
    near = ", ".join(difflib.get_close_matches(wanted, catalogue.keys, n=3, cutoff=0.4))
    hint = f"did you mean {near}? " if near else ""
    raise NexVarError(f"no model called {name!r}", fix=f"{hint}`nexvar models` lists them; a folder works too")

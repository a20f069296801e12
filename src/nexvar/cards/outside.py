"""Cards of other packages: TOML files in the folders that the entry points ``nexvar.cards`` name. Read as data.

A name that two cards claim is nobody's: which model computes a score must not depend on an order of packages.
"""

from __future__ import annotations

import re
from collections import defaultdict

from nexvar import plugins
from nexvar.cards.card import Card, parse
from nexvar.errors import NexVarError
from nexvar.files import read_text

LARGEST = 1_000_000  # bytes of a card

Keyed = tuple[Card, tuple[str, ...]]  # a card and the names it goes by


def read_all(taken: dict[str, Card]) -> tuple[list[Keyed], dict[str, NexVarError]]:
    """The cards of other packages with the names each goes by, and the names that were refused with the reason.

    taken: NexVar's own names in lower case.
    """
    refused: dict[str, NexVarError] = {}
    cards: list[Keyed] = []
    for offer in plugins.offers(plugins.CARDS):
        for card in _cards_of(offer, refused):
            if owner := taken.get(card.name.lower()):
                plugins.warn(offer.package, f"its card {card.name} is left out: that is a name of {owner.name}")
                continue
            lost = [key for key in card.keys if key.lower() in taken]
            if lost:
                owner = taken[lost[0].lower()]
                plugins.warn(offer.package, f"its card {card.name} is not {', '.join(lost)}: a name of {owner.name}")
            cards.append((card, tuple(key for key in card.keys if key not in lost)))
    return _undisputed(cards, refused), refused


def _cards_of(offer: plugins.Offer, refused: dict[str, NexVarError]) -> list[Card]:
    """What one folder holds; a file that is no card is one line, and the error of whoever asks for it by its name."""
    cards = []
    try:
        folder = plugins.folder_of(offer)
        paths = sorted(folder.glob("*.toml"))
    except (NexVarError, OSError) as error:
        plugins.warn(offer.package, error.what if isinstance(error, NexVarError) else str(error))
        return []
    if not paths:
        plugins.warn(offer.package, f"it offers cards in {offer.target}, where there is no TOML file")
    for path in paths:
        try:
            card = parse(read_text(path, LARGEST), package=offer.package, folder=folder)
            _check_weights(card)
            cards.append(card)
        except NexVarError as error:
            said = plugins.broken(offer.package, f"{path.name} is no card: {error.what}", error.fix)
            plugins.warn(offer.package, f"{path.name} is no card and is left out: {error.what}")
            refused[path.stem.lower()] = said
    return cards


def _check_weights(card: Card) -> None:
    """What NexVar promises of downloads, and that files that should lie beside a card do."""
    if card.weights is not None and not card.beside(card.weights).is_file():
        raise NexVarError(f"its weights {card.weights} are not beside it")
    if card.repo is not None and re.fullmatch("[0-9a-f]{40}", card.revision or "") is None:
        raise NexVarError(f"revision is {card.revision!r}: the 40 digits of a commit of {card.repo}")
    if "file" in card.oracles:
        raise NexVarError("oracles.file: give the values in the card itself")


def _undisputed(cards: list[Keyed], refused: dict[str, NexVarError]) -> list[Keyed]:
    """The cards without the names that several of them claim; one whose own name is disputed is left out."""
    claims: dict[str, list[Card]] = defaultdict(list)
    for card, keys in cards:
        for key in {key.lower() for key in keys}:
            claims[key].append(card)
    for key, several in claims.items():
        if len(several) > 1:
            packages = sorted({str(card.package) for card in several})
            what = f"{' and '.join(packages)} bring {len(several)} cards called {key}, and none is used"
            refused[key] = plugins.broken(packages[-1], what, "uninstall one of them")
            plugins.warn(packages[-1], what)
    left = [(card, tuple(k for k in keys if len(claims[k.lower()]) == 1)) for card, keys in cards]
    return [(card, keys) for card, keys in left if card.name in keys]

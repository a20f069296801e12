"""At most three checkpoints for variants of nuclear DNA, by what the cards record: nobody wants a list of twenty.

Candidates are the models of all of biology whose card records a published zero-shot AUROC on BRCA1 of ``GOOD`` or more
(``oracles.brca1_auroc``; 0.5 is chance): the smallest and the best that fit, and the largest that needs a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from nexvar.cards import Card, all_cards
from nexvar.weights import footprint, machine

GOOD = 0.7


@dataclass(frozen=True)
class Suggestion:
    """role: why this one. bytes: the memory that one window takes. fits: this machine, as it is."""

    role: str
    card: Card
    bytes: float
    fits: bool

    @property
    def auroc(self) -> float:
        return float(self.card.oracles["brca1_auroc"])


@cache
def candidates() -> tuple[Card, ...]:
    """The checkpoints with a published result, smallest first."""
    good = [c for c in all_cards().values() if c.species is None and c.oracles.get("brca1_auroc", 0.0) >= GOOD]
    return tuple(sorted(good, key=lambda card: card.parameters))


def suggestions() -> list[Suggestion]:
    """At most three, no card twice."""
    sizes = {card.name: footprint.footprint(card).total for card in candidates()}
    budget = footprint.SHARE * machine.free_memory()
    fitting = [c for c in candidates() if footprint.hindrance(c) is None and sizes[c.name] <= budget]
    chosen: dict[str, Suggestion] = {}

    def add(role: str, card: Card) -> None:
        chosen.setdefault(card.name, Suggestion(role, card, sizes[card.name], card in fitting))

    if fitting:
        add("smallest", fitting[0])
        add("best here", max(fitting, key=lambda card: float(card.oracles["brca1_auroc"])))
    for card in reversed(candidates()):
        if card not in fitting:
            add("Hopper GPU" if card.fp8 == "hopper" else "larger GPU", card)
            break
    return list(chosen.values())

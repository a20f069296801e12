"""Write the model tables of README.md and docs/models.md from the cards: ``python docs/model_table.py``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from nexvar.cards import Card, own_cards

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- models: written by docs/model_table.py -->", "<!-- /models -->"
FAMILIES = {
    "striped_hyena2": "**NexVar / Evo 2** (StripedHyena 2)",
    "striped_hyena": "**Evo** (StripedHyena)",
    "hyenadna": "**HyenaDNA**",
    "caduceus": "**Caduceus**",
    "dnabert2": "**DNABERT-2**",
    "nucleotide_transformer": "**Nucleotide Transformer** v1, v2",
    "segment_nt": "**SegmentNT**",
    "ntv3": "**Nucleotide Transformer** v3",
    "genos": "**Genos**",
}


def short(number: int) -> str:
    """1,310,720 as 1.3 M."""
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def context(card: Card) -> str:
    """Bases; 131,072 as 131k."""
    return f"{card.context:,}"


def span(values: list[int]) -> str:
    """The smallest and the largest, shortly."""
    low, high = short(min(values)), short(max(values))
    return low if low == high else f"{low} – {high}"


def families() -> list[str]:
    """One row for what is built in, then one for each architecture: README.md."""
    groups: dict[str, list[Card]] = defaultdict(list)
    for card in own_cards().values():
        groups[f"**{card.name}**, built in" if card.weights else card.architecture].append(card)
    order = [name for name in groups if name not in FAMILIES] + [name for name in FAMILIES if name in groups]
    rows = [
        "| models | checkpoints | parameters | context, bases | kind | licence of the weights | parity |",
        "|---|--:|---|---|---|---|---|",
    ]
    for name in order:
        cards = groups[name]
        cells = (
            FAMILIES.get(name, name),
            str(len(cards)),
            span([card.parameters for card in cards]),
            span([card.context for card in cards]),
            _unique(card.objective for card in cards),
            _unique(terms(card) for card in cards),
            _unique(card.parity for card in cards),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def terms(card: Card) -> str:
    """The licence's name, and whether it forbids commercial use; docs/models.md has the whole of it."""
    name = card.licence.split(" (")[0]
    return f"{name} (non-commercial)" if "non-commercial" in card.licence else name


def _unique(values: Iterable[str]) -> str:
    return ", ".join(sorted(set(values)))


def checkpoints() -> list[str]:
    """One row for each checkpoint: docs/models.md."""
    rows = ["| model | also | parameters | context | kind | licence | parity |", "|---|---|--:|--:|---|---|---|"]
    for card in own_cards().values():
        also = ", ".join(f"`{name}`" for name in (*card.aliases, *((card.repo,) if card.repo else ())))
        page = f"models/{card.name}.md"
        name = f"[`{card.name}`]({page})" if (ROOT / "docs" / page).exists() else f"`{card.name}`"
        rows.append(
            f"| {name} | {also or 'built in'} | {short(card.parameters)} | {context(card)} "
            f"| {card.objective} | {card.licence} | {card.parity} |"
        )
    return rows


def notes() -> list[str]:
    """What each parity word means for whom, and whom to cite: docs/models.md."""
    by_note: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for card in own_cards().values():
        by_note[card.parity, card.parity_note, card.citation].append(f"`{card.name}`")
    return [
        f"- {', '.join(names)}: *{parity}*. {note} Cite: {citation}."
        for (parity, note, citation), names in by_note.items()
    ]


def written(text: str, lines: list[str]) -> str:
    """``text`` with what stands between the two markers replaced."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the markers {BEGIN} … {END} are missing")
    return "\n".join([before + BEGIN, *lines, END + after])


def pages() -> dict[Path, str]:
    """{page: what it should be}."""
    readme, models = ROOT / "README.md", ROOT / "docs" / "models.md"
    return {
        readme: written(readme.read_text(encoding="utf-8"), families()),
        models: written(models.read_text(encoding="utf-8"), [*checkpoints(), "", *notes()]),
    }


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")

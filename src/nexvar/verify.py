"""Is this the right checkpoint, and does this installation compute what its authors computed?

    source ── files: size and sha256 ── load: names, shapes, finite values ── forward, cache
           ── every value that the card records of the real checkpoint, each compared

One ``Check`` a step, as it is found. What is recorded, and how it is compared: oracles.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import torch

from nexvar import cards, oracles
from nexvar.cards import Card, File
from nexvar.errors import NexVarError
from nexvar.oracles import Check
from nexvar.weights import checkpoint, hub
from nexvar.weights.load import Loaded, load
from nexvar.weights.sources import as_folder

# 128 bases: some families need a multiple of it
BASES = "ACGTTGCAAGCTCTAGGACTTACGGATCCATGAACGTCCATTTGCGAGTACCTTAGGCATCGAC" * 2


def verify(
    source: str | Path, *, device: str = "auto", dtype: str = "auto", quick: bool = False, revision: str | None = None
) -> Iterator[Check]:
    """Check a card's checkpoint (downloaded first where needed) or a folder; checks come as they are made.

    dtype: "auto" is that of the recorded values. quick: leave out the greedy continuation (2,000 tokens).
    A folder whose weight files have the checksums of a card is that card's checkpoint: its values are compared too.
    Raises NexVarError where there is nothing to check: an unknown name, no such folder.
    """
    folder = as_folder(source)
    other = None  # the revision, where it is not the card's
    card = None if folder is not None else cards.get(str(source))
    try:
        if folder is not None:
            card = yield from _folder_files(folder)
        elif card is not None:
            other = yield from _card_files(card, revision)
        loaded = load(source, device=device, dtype=dtype, revision=revision)
        wanted = oracles.recorded(card or loaded.card).get("dtype", "auto") if dtype == "auto" else dtype
        if wanted != "auto" and str(loaded.dtype) != f"torch.{wanted}":
            loaded = load(source, device=device, dtype=wanted, revision=revision)
    except NexVarError as error:
        yield Check("load", "FAIL", str(error))
        return
    yield from _contents(loaded, card)
    yield from _computes(loaded)
    yield from oracles.compare(loaded, card or loaded.card, revision=other, quick=quick)


# -- files


def _card_files(card: Card, revision: str | None) -> Generator[Check, None, str | None]:
    """Checks of a card's files; returns the commit that they are of, where it is not the card's own."""
    if card.weights is not None:
        yield Check("files", "skipped", f"{card.weights} ships with the package")
        return None
    folder = hub.fetch(card, revision)  # checks sizes, and checksums that it has not checked before
    other = None if revision is None or card.revision in (revision, folder.name) else folder.name
    if not card.files or other is not None:
        yield Check("files", "skipped", "the card knows no checksums of this revision")
        return other
    for file in card.files:
        yield _check_file(file, folder / file.name)
    return None


def _check_file(file: File, path: Path) -> Check:
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return Check(file.name, "FAIL", f"{size:,} bytes, the card says {file.size:,}")
    if file.sha256 is None:
        return Check(file.name, "skipped", "no published checksum" + (f"; {size:,} bytes, right" if file.size else ""))
    digest = hub.sha256(path)
    same = digest == file.sha256
    detail = f"sha256 {digest[:12]}…" + ("" if same else f", the card says {file.sha256[:12]}…")
    return Check(file.name, "ok" if same else "FAIL", detail)


def _folder_files(folder: Path) -> Generator[Check, None, Card | None]:
    """Checks of a folder's weight files; returns the card whose files they are, if any."""
    owners: dict[str, Card] = {f.sha256: c for c in cards.all_cards().values() for f in c.files if f.sha256}
    card_of_file: list[Card | None] = []
    for path in itertools.chain.from_iterable(checkpoint.find_weights(folder)):
        digest = hub.sha256(path)
        owner = owners.get(digest)
        card_of_file.append(owner)
        known = f"is {owner.name}'s" if owner else "is no released file that the cards list"
        yield Check(path.name, "ok" if owner else "skipped", f"sha256 {digest[:12]}… {known}")
    return card_of_file[0] if card_of_file and all(card is card_of_file[0] for card in card_of_file) else None


# -- the model


def _contents(loaded: Loaded, card: Card | None) -> Iterator[Check]:
    module = loaded.module
    count = len(module.state_dict())
    yield Check("tensors", "ok", f"{count:,} tensors have the names and shapes of the config, every value is finite")
    if card is not None:
        numbers = parameter_count(module)
        same = numbers == card.parameters
        detail = f"{numbers:,}" + ("" if same else f", the card says {card.parameters:,}")
        yield Check("parameters", "ok" if same else "FAIL", detail)
    text = loaded.tokenizer.detokenize(loaded.tokenizer.tokenize("ACGTACGTACGT"))
    letters = "".join(c for c in text if c in "ACGT")
    yield Check("tokenizer", "ok" if "ACGT" in letters else "FAIL", f"ACGTACGTACGT reads back as {text[:40]!r}")


def parameter_count(module: Any) -> int:
    """Floating-point numbers of the checkpoint: tied ones once, FP8 scales not."""
    persistent = set(module.state_dict())
    tensors = {id(p): p for p in module.parameters() if p.is_floating_point()}
    for name, buffer in module.named_buffers():
        if name in persistent and buffer.is_floating_point() and not name.endswith("fp8_scale"):
            tensors[id(buffer)] = buffer
    return sum(t.numel() for t in tensors.values())


@torch.no_grad()
def _computes(loaded: Loaded) -> Iterator[Check]:
    """A forward, and for causal models the same forward in two pieces."""
    ids_BL = oracles.plain_ids(loaded, BASES)
    if not loaded.module.has_head:
        tap = loaded.module.last_hidden
        hidden = loaded.module(ids_BL, taps=(tap,), logits=False).taps[tap].float()
        finite = bool(torch.isfinite(hidden).all())
        yield Check("forward", "ok" if finite else "FAIL", f"hidden states {tuple(hidden.shape)}, no head")
        return
    logits = loaded.module(ids_BL).logits.float()
    finite = bool(torch.isfinite(logits).all())
    yield Check("forward", "ok" if finite else "FAIL", f"logits {tuple(logits.shape)}" + (", finite" * finite))
    if loaded.card.objective != "causal":
        return
    cache = loaded.module.new_cache(1, ids_BL.shape[1])
    pieces = [loaded.module(piece, cache=cache).logits.float() for piece in ids_BL.split([50, ids_BL.shape[1] - 50], 1)]
    worst = float((torch.cat(pieces, 1) - logits).abs().max())
    limit = 1e-3 if loaded.dtype == torch.float32 else 0.05
    limit *= max(1.0, float(logits.abs().max()))
    detail = f"in pieces as in one: {worst:.1e} apart, {limit:.1e} allowed"
    yield Check("cache", "ok" if worst <= limit else "FAIL", detail)

"""Tracks that a model predicts along sequences (coverage, accessibility, binding): by name, over any stretch.

    a folder of ``nexvar finetune`` with [task] kind = "tracks"   (track_model.py)   every bin of a window
    post-trained NTv3: species and tracks by name                 (models/ntv3.py)   the centre of a window

``track_predictor(loaded)`` makes one thing of both. Its values are what a bigWig of the track says: of each
bin the mean a base, in the units of the training data (NTv3's: as its heads give them).

How windows slide over stretches of any length: track_windows.py.
B windows, L bases, N bins, K tracks.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from nexvar.cards import all_cards
from nexvar.errors import NexVarError
from nexvar.genome.reference import reverse_complement
from nexvar.inference import track_model as trained
from nexvar.inference.core.batching import Tally, in_batches
from nexvar.inference.core.sequences import token_ids
from nexvar.inference.core.sliding import Rule
from nexvar.models._ntv3 import central
from nexvar.models.ntv3 import WINDOW
from nexvar.weights.fingerprint import fingerprint
from nexvar.weights.load import Loaded

MOST_TRACKS = 64  # that are predicted without being named


class _Heads(Protocol):
    """All tracks of a model (of one species). partners: the track that each is on the other strand, or itself."""

    names: tuple[str, ...]
    partners: tuple[int, ...]
    resolution: int
    unit: int
    window: int
    fingerprint: str  # of what is not in the loaded module

    def margin(self, window: int) -> int:
        """Bases at either end of a window that have no value."""
        ...

    def values(self, texts: Sequence[str], columns: Sequence[int]) -> np.ndarray:
        """(B, N, K) float32 of windows of one length, between the margins. columns: ascending."""
        ...


@dataclass(frozen=True)
class TrackPredictor:
    """Some tracks of a loaded model. columns: their places among all tracks of ``heads``. species: None where the model
    knows none."""

    loaded: Loaded
    heads: _Heads
    species: str | None
    columns: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.heads.names[i] for i in self.columns)

    @property
    def resolution(self) -> int:
        """Bases of a bin."""
        return self.heads.resolution

    @property
    def fingerprint(self) -> str:
        """Of the model's weights and its head's."""
        return f"{fingerprint(self.loaded)} {self.heads.fingerprint}".strip()

    @torch.inference_mode()
    def predict(
        self, texts: Sequence[str], *, strand: str = "both", batch_tokens: int, tally: Tally | None = None
    ) -> list[np.ndarray]:
        """(N, K) float32 of each window, between its margins, the mean over the strands; bins from left to right.

        texts: A, C, G, T and N, in upper case; of lengths that are multiples of ``heads.unit``.
        """
        turned = {"forward": (False,), "reverse": (True,), "both": (False, True)}[strand]
        rows = [(reverse_complement(text) if other else text, other) for text in texts for other in turned]
        ahead = list(self.columns)
        back = [self.heads.partners[i] for i in ahead]
        needed = sorted({*ahead, *back})
        places = {False: [needed.index(i) for i in ahead], True: [needed.index(i) for i in back]}

        def run(batch: list[int]) -> list[np.ndarray]:
            values_BNK = self.heads.values([rows[i][0] for i in batch], needed)
            picked = [values_NK[:, places[rows[i][1]]] for i, values_NK in zip(batch, values_BNK, strict=True)]
            return [values_NK[::-1] if rows[i][1] else values_NK for i, values_NK in zip(batch, picked, strict=True)]

        tally = tally or Tally()
        tally.computed += sum(len(text) for text, _ in rows)
        made = in_batches(self.loaded, [len(text) for text, _ in rows], batch_tokens, run, tally, pads=False)
        per_text = len(turned)
        return [np.stack(made[i : i + per_text]).mean(0) for i in range(0, len(made), per_text)]

    def rule(self, window: int | None = None, overlap: int | None = None) -> Rule:
        """What is read and what of it is computed; NexVarError for what this model cannot read."""
        heads, card = self.heads, self.loaded.card
        unit = heads.unit
        most = card.context // unit * unit
        window = min(heads.window, most) if window is None else window
        if not unit <= window <= most or window % unit:
            nearest = min(max(round(window / unit) * unit, unit), most)
            of = f", in steps of {unit:,}" if unit > 1 else ""
            what = f"a window of {window:,} bases; {card.name} reads {unit:,} to {most:,}{of}"
            raise NexVarError(what, where="window", fix=f"such as {nearest:,}")
        margin, bins = heads.margin(window), heads.resolution
        overlap = max(margin, window // 8 // bins * bins) if overlap is None else overlap
        if overlap < margin:
            what = f"an overlap of {overlap:,}; {card.name} gives no values for the {margin:,} bases at a window's ends"
            raise NexVarError(what, where="overlap", fix=f"{margin:,} or more")
        overlap = -(-overlap // bins) * bins
        if 2 * overlap >= window:
            fix = f"at most {(window - 1) // 2 // bins * bins:,}"
            raise NexVarError(f"{overlap:,} of a window's {window:,} bases, on both sides", where="overlap", fix=fix)
        return Rule(window, overlap, overlap)


# -- which model, which tracks


def has_tracks(loaded: Loaded) -> bool:
    """Whether the model predicts tracks."""
    return _has_trained(loaded) or bool(track_names(loaded))


def track_names(loaded: Loaded) -> dict[str, list[str]]:
    """{species: tracks}; {"": tracks} where they are of no species in particular; {} for a model without tracks."""
    if loaded.folder is not None and _has_trained(loaded):
        return {"": list(trained.TrackFacts.read(loaded.folder / trained.FACTS).names)}
    tracks = getattr(loaded.module.config, "bigwigs_per_species", None) or {}
    return {species: list(names) for species, names in tracks.items() if names}


def _has_trained(loaded: Loaded) -> bool:
    return loaded.folder is not None and (loaded.folder / trained.FACTS).exists()


def listed(loaded: Loaded, species: str | None = None) -> list[str]:
    """For people: a line a track, behind its species. NexVarError as ``track_predictor``."""
    heads, chosen = _heads(loaded, species)
    named = {chosen or "": heads.names} if species else track_names(loaded)
    return [f"{of} {name}" if of else name for of, names in named.items() for name in names]


def track_predictor(loaded: Loaded, species: str | None = None, names: Sequence[str] | None = None) -> TrackPredictor:
    """The tracks of these names, or all of them. A name may be a pattern, with * and ?.

    species: default: the model's own, human for NTv3. Raises NexVarError: a model without tracks, an unknown species or
    track (the nearest names are offered), more than ``MOST_TRACKS`` that nobody named, a damaged head.
    """
    heads, species = _heads(loaded, species)
    if names is not None and not names:
        raise NexVarError("no track was named", where="track", fix="one or more names, or leave it out")
    if names is None and len(heads.names) > MOST_TRACKS:
        what = f"{loaded.card.name} has {len(heads.names):,} tracks{_of(species)} and none was named"
        raise NexVarError(what, where="track", fix="name some; `nexvar tracks --list` shows them")
    wanted = heads.names if names is None else names
    columns = [i for name in wanted for i in _found(heads, name, loaded.card.name, species)]
    return TrackPredictor(loaded, heads, species, tuple(dict.fromkeys(columns)))


def _heads(loaded: Loaded, species: str | None) -> tuple[_Heads, str | None]:
    if loaded.folder is not None and _has_trained(loaded):
        if species is not None:
            raise NexVarError(f"{loaded.card.name} knows no species", where="species", fix="leave it out")
        return _Trained(trained.Tracks.of(loaded, loaded.folder)), None
    known = list(track_names(loaded))
    if not known:
        able = [card.name for card in all_cards().values() if card.config.get("conditions_vocab_size")]
        fix = f'a folder that `nexvar finetune` wrote with kind = "tracks", or {", ".join(able[:2])}'
        raise NexVarError(f"{loaded.card.name} predicts no tracks", where="model", fix=fix)
    if species is None:
        species = loaded.module.config.default_species
        if species is None:
            raise NexVarError("no species was named", where="species", fix=f"one of {', '.join(known)}")
    if species not in known:
        fix = f"did you mean {_nearest(species, known)}? it has tracks of {', '.join(known)}"
        raise NexVarError(f"{loaded.card.name} has no species {species[:60]!r}", where="species", fix=fix)
    return _PostTrained(loaded, species), species


def _found(heads: _Heads, name: str, model: str, species: str | None) -> list[int]:
    """The places of a name, or of all that a pattern fits."""
    if name in heads.names:
        return [heads.names.index(name)]
    found = (
        [i for i, known in enumerate(heads.names) if fnmatch.fnmatchcase(known, name)] if set(name) & {*"*?"} else []
    )
    if not found:
        fix = f"did you mean {_nearest(name, heads.names)}? `nexvar tracks --list` shows all"
        raise NexVarError(f"{model} has no track {name[:80]!r}{_of(species)}", where="track", fix=fix)
    return found


def _nearest(name: str, known: Sequence[str]) -> str:
    lower = {each.lower(): each for each in reversed(known)}
    near = difflib.get_close_matches(name.lower()[:80], lower, n=3, cutoff=0.3)
    return " or ".join([lower[each] for each in near] or list(known[:3]))


def _of(species: str | None) -> str:
    return "" if species is None else f" of {species}"


class _PostTrained:
    """The heads of post-trained NTv3 for one species; ids that end in _P and _M are an experiment's two strands."""

    resolution, fingerprint = 1, ""

    def __init__(self, loaded: Loaded, species: str) -> None:
        self.loaded, self.species = loaded, species
        self.names = tuple(loaded.module.config.bigwigs_per_species[species])
        place = {name: i for i, name in enumerate(self.names)}
        other = {name: re.sub("_[PM]$", lambda m: "_M" if m[0] == "_P" else "_P", name) for name in self.names}
        self.partners = tuple(place.get(other[name], i) for i, name in enumerate(self.names))
        self.unit, self.window = loaded.module.config.unit, WINDOW

    def _centre(self, window: int) -> slice:
        module = self.loaded.module
        return central(window, module.config.keep_target_center_fraction, module.reference)

    def margin(self, window: int) -> int:
        centre = self._centre(window)
        return max(centre.start, window - centre.stop)

    def values(self, texts: Sequence[str], columns: Sequence[int]) -> np.ndarray:
        ids = np.array([token_ids(self.loaded.tokenizer, text, special=False) for text in texts])
        ids_BL = torch.from_numpy(ids).to(self.loaded.device)
        values_BNK = self.loaded.module.predict_tracks(ids_BL, self.species, columns).float().cpu().numpy()
        first = self.margin(ids.shape[1]) - self._centre(ids.shape[1]).start
        return values_BNK[:, first : first + ids.shape[1] - 2 * self.margin(ids.shape[1])]


class _Trained:
    """A head that NexVar trained: it has a value for every bin."""

    def __init__(self, tracks: trained.Tracks) -> None:
        self.tracks, facts = tracks, tracks.facts
        self.names, self.partners = facts.names, facts.partners
        self.resolution = self.unit = facts.resolution
        weights = fingerprint(replace(tracks.loaded, module=tracks.model.head))
        self.fingerprint = f"{weights} {hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}"
        self.window = facts.window // facts.resolution * facts.resolution

    def margin(self, window: int) -> int:
        return 0

    def values(self, texts: Sequence[str], columns: Sequence[int]) -> np.ndarray:
        return self.tracks.values(texts)[..., list(columns)]

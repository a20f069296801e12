"""What an operator's labels make of a score: a probability and a strength of evidence, within a stated scope.

    calibration = Calibration.read("calibration.json")       every value of the file is checked
    use = calibration.on(provenance, fasta)                   refused: another model, readout, window or genome
    use.judged("chrM", 3242, -7.1)                            (probability, evidence points), or None outside of it

Made by ``nexvar calibrate`` (evals/calibration.py). Evidence is told in points, as Tavtigian et al. 2020 count it: 1
supporting, 2 moderate, 4 strong, 8 very strong; below 0 toward class 0; 0 where the bounds reach no strength.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nexvar.errors import NexVarError
from nexvar.files import read_json, write_bytes
from nexvar.genome.bed import Regions
from nexvar.genome.reference import Fasta, Interval
from nexvar.inference.scorers import EMBEDDING
from nexvar.weights.typed import check_types

FORMAT, VERSION = "nexvar calibration", 1
NOTE = "Research output, not a diagnosis: it says how a score went with the labels that it was given."
STRENGTHS = {"supporting": 1, "moderate": 2, "strong": 4, "very_strong": 8}  # points
COLUMNS = {
    "PROBABILITY": "Probability of the labelled class by a logistic calibration, at its prior",
    "EVIDENCE": "Points of evidence by local likelihood ratios: 1 supporting, 2 moderate, 4 strong, 8 very strong, "
    "below 0 for the other class, 0 for neither",
}
MAX_BASES = 1 << 40
_ONLY = {"layer": EMBEDDING, "pool": EMBEDDING, "span": ("site", "pll")}  # settings that other readouts ignore


@dataclass(frozen=True)
class Scope:
    """What scores a calibration is for. column: LLR, COSINE, …; settings: whatever else they depend on.

    contigs: lengths of those with labelled variants. regions: {contig: [[start, end], …], 0-based half-open}, {} for
    everywhere; region_class: what they are, for people.
    """

    model: str
    revision: str
    column: str
    readout: str
    window: str
    strand: str
    settings: dict[str, str]
    assembly: str
    contigs: dict[str, int]
    regions: dict[str, list[list[int]]] = field(default_factory=dict)
    region_class: str = ""


@dataclass(frozen=True)
class Logistic:
    """probability = 1 / (1 + exp(-(intercept + slope x score))); scores outside of [low, high] count as its ends."""

    intercept: float
    slope: float
    low: float
    high: float


@dataclass(frozen=True)
class Evidence:
    """Scores from which on the one-sided bound of the likelihood ratio reaches a strength; None: nowhere.

    one, zero: {strength: score} toward class 1 and class 0. direction: of class 1, "up" or "down" the scores. odds: c,
    the ratio of very strong evidence. confidence: of each bound; window: labelled variants in one window; draws: of the
    bootstrap. curve: [score, ratio, lower bound, upper bound], for plots.
    """

    direction: str
    odds: float
    confidence: float
    window: int
    draws: int
    one: dict[str, float | None]
    zero: dict[str, float | None]
    curve: list[list[float]]

    def points(self, score: float) -> int:
        """-8 … 8."""
        sign = 1.0 if self.direction == "up" else -1.0
        for strength, points in reversed(STRENGTHS.items()):
            one, zero = self.one.get(strength), self.zero.get(strength)
            if one is not None and sign * score >= sign * one:
                return points
            if zero is not None and sign * score <= sign * zero:
                return -points
        return 0


@dataclass(frozen=True)
class Calibration:
    """classes: the names of class 1 and class 0. counts: how many labelled variants of each.

    auroc: value, and its 95 % interval. prior: the share of class 1 that the probability supposes. evidence: None where
    labels are too few; why_no_evidence then says so. scores, labels: the files' names.
    """

    scope: Scope
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    auroc: tuple[float, ...]
    prior: float
    logistic: Logistic
    evidence: Evidence | None
    why_no_evidence: str
    scores: str
    labels: str
    nexvar: str

    @classmethod
    def read(cls, path: str | Path) -> Calibration:
        """The calibration in a file; NexVarError for anything that ``write`` does not write."""
        content = read_json(path)
        if content.get("format") != FORMAT:
            raise NexVarError("not a calibration", where=path, fix="make one with `nexvar calibrate`")
        if content.get("version") != VERSION:
            raise NexVarError(f"a calibration of version {str(content.get('version'))[:20]}", where=path,
                              fix=f"this NexVar reads version {VERSION}: make it again")  # fmt: skip
        values = {name: value for name, value in content.items() if name not in ("format", "version", "note")}
        parts: dict[str, type] = {"scope": Scope, "logistic": Logistic, "evidence": Evidence}
        for name, kind in parts.items():
            if name != "evidence" or values.get(name) is not None:
                values[name] = _made(kind, values.get(name), f"{path}: {name}")
        made: Calibration = _made(cls, values, path)
        made._check(path)
        return made

    def write(self, path: str | Path) -> None:
        """The calibration as JSON; the same labels give the same bytes."""
        content = {"format": FORMAT, "version": VERSION, "note": NOTE, **asdict(self)}
        write_bytes(path, json.dumps(content, indent=1, allow_nan=False).encode() + b"\n")

    def _check(self, path: object) -> None:
        """What types do not say."""
        logistic, evidence = self.logistic, self.evidence
        good = {
            "classes": len(self.classes) == 2 and all(self.classes),
            "counts": len(self.counts) == 2 and min(self.counts) > 0,
            "auroc": len(self.auroc) == 3 and all(0 <= value <= 1 for value in self.auroc),
            "prior": 0 < self.prior < 1,
            "logistic": logistic.low <= logistic.high,
            "scope": bool(self.scope.contigs) and all(
                0 <= start < end for spans in self.scope.regions.values() for start, end in map(_pair, spans)
            ),
            "evidence": evidence is None or (
                evidence.direction in ("up", "down") and 0.5 < evidence.confidence < 1 and evidence.odds > 1
                and {*evidence.one, *evidence.zero} <= set(STRENGTHS)
            ),
        }  # fmt: skip
        for name, is_good in good.items():
            if not is_good:
                raise NexVarError(f"{name} makes no sense", where=path, fix="make it again with `nexvar calibrate`")

    def probability(self, score: float) -> float:
        """Of class 1, at the prior."""
        inside = min(max(score, self.logistic.low), self.logistic.high)
        logit = self.logistic.intercept + self.logistic.slope * inside
        return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0

    def points(self, score: float) -> int | None:
        """Evidence points of a score; None where the labels were too few for any."""
        return None if self.evidence is None else self.evidence.points(score)

    def on(self, how: Mapping[str, str], fasta: Fasta, where: object = "calibration") -> Calibrated:
        """The calibration for scores made like this, on this genome; NexVarError if it is for others.

        how: model, revision, window, strand, readout and settings, as scored files' headers say them.
        """
        scope = self.scope
        made = scope_of(how, scope.column)
        for name in ("model", "revision", "readout", "window", "strand", "settings"):
            wanted, has = getattr(scope, name), made[name]
            if wanted != has:
                raise NexVarError(f"it is for {name} {_told(wanted)}, the scores are of {_told(has)}", where=where,
                                  fix="make one of such scores with `nexvar calibrate`")  # fmt: skip
        names: dict[str, str] = {}
        for contig, length in scope.contigs.items():
            match = fasta.resolve(contig)
            if match is None:
                continue
            has = max(end for _, end in fasta.spans(match.contig))
            if has != length and not (fasta.is_slice(match.contig) and has < length):
                raise self._of_another_genome(f"{contig} has {length:,} bases there, {has:,} here", where)
            names[match.contig] = contig
        if not names:
            raise self._of_another_genome(f"{', '.join(list(scope.contigs)[:3])}: not in {fasta.path.name}", where)
        return Calibrated(self, names)

    def _of_another_genome(self, why: str, where: object) -> NexVarError:
        what = f"it is for another genome, {self.scope.assembly or 'without a name'}: {why}"
        return NexVarError(what, where=where, fix="make one on this genome with `nexvar calibrate`")


class Calibrated:
    """A calibration on one genome. names: {the FASTA's contig: the calibration's}."""

    def __init__(self, calibration: Calibration, names: Mapping[str, str]) -> None:
        self.calibration = calibration
        spans = calibration.scope.regions
        back = {name: contig for contig, name in names.items()}
        self._contigs = set(names)
        self._regions = Regions(
            Interval(back[name], *_pair(span)) for name in spans if name in back for span in spans[name]
        )
        self._everywhere = not spans

    def judged(self, contig: str, pos0: int, score: float | None) -> tuple[float, int | None] | None:
        """(probability, evidence points) of an allele's score; None for what the calibration does not speak of.

        contig: the FASTA's name; pos0: 0-based, of the allele.
        """
        if score is None or contig not in self._contigs:
            return None
        if not (self._everywhere or (contig, pos0) in self._regions):
            return None
        return self.calibration.probability(score), self.calibration.points(score)


def scope_of(how: Mapping[str, str], column: str) -> dict[str, Any]:
    """What of the words in a header a column's values depend on."""
    readouts = how.get("readout", "").split(", ")
    named = column.lower().removesuffix("_tiled")
    ratios = [name for name in readouts if name not in EMBEDDING]
    readout = named if named in readouts and named != "llr" else ("llr" if "llr" in ratios else (ratios or readouts)[0])
    plain = ("model", "revision", "window", "strand")
    settings = {
        name: value
        for name, value in how.items()
        if name not in (*plain, "dtype", "readout") and readout in _ONLY.get(name, (readout,))
    }
    return {**{name: how.get(name, "") for name in plain}, "readout": readout, "settings": settings}


def words_of(description: str) -> dict[str, str]:
    """{name: value} of the ``model=…, revision=…, …`` in a scored file's header; {} where there is none."""
    start = description.find("model=")
    if start < 0:
        return {}
    found = re.findall(r"([A-Za-z][A-Za-z ]*)=(.*?)(?=, [A-Za-z][A-Za-z ]*=|$)", description[start:])
    return {name: value for name, value in found}


def _made(kind: type, values: Any, where: object) -> Any:
    """An object of checked values; NexVarError for one that is missing, unknown or of another type."""
    if not isinstance(values, dict):
        raise NexVarError("a table is missing", where=where, fix="make it again with `nexvar calibrate`")
    names = set(kind.__dataclass_fields__)  # type: ignore[attr-defined]
    if odd := sorted(names ^ set(values)):
        what = f"{odd[0][:40]} is {'missing' if odd[0] in names else 'unknown'}"
        raise NexVarError(what, where=where, fix="make it again with `nexvar calibrate`")
    check_types(kind, values, where, most=MAX_BASES)
    return kind(**{name: tuple(value) if isinstance(value, list) and name in ("classes", "counts", "auroc") else value
                   for name, value in values.items()})  # fmt: skip


def _pair(span: Any) -> tuple[int, int]:
    return (span[0], span[1]) if len(span) == 2 else (0, 0)


def _told(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={text}" for name, text in value.items()) or "none"
    return str(value) or "none"

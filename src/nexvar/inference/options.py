"""How variants are scored: what a user may say, and every choice made for one model and device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from nexvar import arguments
from nexvar.cards import Card
from nexvar.cards.card import WINDOWINGS
from nexvar.errors import NexVarError
from nexvar.genome.windows import tile_step
from nexvar.inference import scorers
from nexvar.inference.core.batching import default_batch_tokens
from nexvar.inference.core.sequences import begin_ids
from nexvar.inference.scorers import protocols
from nexvar.models import check_taps
from nexvar.weights.load import Loaded

STRANDS = ("both", "forward")

T = TypeVar("T")


def _names(value: object, where: str) -> tuple[str, ...]:
    """One name, or a row of them."""
    given = [value] if isinstance(value, str) else arguments.a_list(value, where, "names")
    return tuple(name if isinstance(name, str) else arguments.text(name, where) for name in given)


def _share(value: object, where: str) -> float:
    return arguments.number(value, where, "a share from 0 to 1", 0, 1)


# what each option must be before its value is looked at
OPTION_KINDS: dict[str, Callable[[object, str], Any]] = {
    **dict.fromkeys(("window", "left", "stride", "span", "batch_tokens"), arguments.whole),
    **dict.fromkeys(("strand", "windowing", "layer", "pool", "protocol"), arguments.text),
    **dict.fromkeys(("share", "begin"), arguments.flag),
    "readouts": _names,
    "max_ref_mismatch": _share,
}


@dataclass(frozen=True)
class Options:
    """How variants are scored; None is the protocol's choice, and without one the model's own (its card).

    protocol: a published preset (protocols.py); what is given here overrides it.
    window: bases around a variant. left: how many of them stand before it (default: half).
    windowing: "anchored" windows begin at multiples of ``stride``, so that the variants of a stretch share what stands
    before them, ``left`` bases at least; "tiled" scores them in one common window, which is another score
    (docs/scoring.md). None is "centred", or the card's with the card's readout.
    readouts: see scorers/; the first is the score, the others become columns.
    strand: "both" (default) averages the forward and the reverse-complement strand and keeps each; "forward" is one.
    layer, pool: of the embedding readouts. span: bases that count beside the allele's own,
    on each side of it for ``pll``, behind it for ``site``; None is 0, or the card's with the card's readout.
    begin: put the model's begin token before every window. batch_tokens: tokens in one forward (by device).
    share: compute common beginnings once. max_ref_mismatch: stop when more than this share of the REFs (and at least
    three) is not what the genome has.
    """

    window: int | None = None
    readouts: tuple[str, ...] | None = None
    strand: str | None = None
    layer: str | None = None
    pool: str | None = None
    batch_tokens: int | None = None
    share: bool = True
    max_ref_mismatch: float = 0.05
    protocol: str | None = None
    left: int | None = None
    begin: bool | None = None
    span: int | None = None
    windowing: str | None = None
    stride: int | None = None

    def __post_init__(self) -> None:
        for name, kind in OPTION_KINDS.items():
            value = getattr(self, name)
            if value is not None or name in ("share", "max_ref_mismatch"):
                object.__setattr__(self, name, kind(value, f"--{name.replace('_', '-')}"))
        if self.strand is not None and self.strand not in STRANDS:
            raise NexVarError(f"no strand {self.strand!r}", where="--strand", fix=f"one of {', '.join(STRANDS)}")
        if self.windowing not in (None, *WINDOWINGS):
            fix = f"one of {', '.join(WINDOWINGS)}"
            raise NexVarError(f"no windowing {self.windowing!r}", where="--windowing", fix=fix)
        if self.window is not None and self.window < 2:
            raise NexVarError(f"window of {self.window}", where="--window", fix="2 bases or more")
        if self.left is not None and self.left < 0:
            raise NexVarError(f"{self.left} bases before the variant", where="--left", fix="0 or more")
        if self.left is not None and self.windowing == "tiled":
            raise NexVarError("a tile has its variants anywhere", where="--left", fix="leave it out, or --windowing")
        if self.stride is not None and self.stride < 1:
            raise NexVarError(f"stride of {self.stride} bases", where="--stride", fix="1 or more")
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise NexVarError(f"batch of {self.batch_tokens} tokens", where="--batch-tokens", fix="1 or more")
        if self.span is not None and not 0 <= self.span <= 1_000_000:
            raise NexVarError(f"span of {self.span} bases", where="--span", fix="from 0 to 1,000,000")
        if self.protocol is not None:
            protocols.get(self.protocol)

    def resolve(self, loaded: Loaded) -> ScoreSettings:
        """Every choice made, for this model and device; NexVarError for one that it does not offer.

        The first that says something decides: the user (these options), the protocol, the model's card, the default.

            choice     user        protocol    card                      default
            window     --window    window      window, within its context
            left       --left      left                                  half the window (always so for tiles)
            readouts   --readout   readouts    readout
            windowing  --windowing centred     windowing, of its readout centred
            stride     --stride                                          half of what is behind ``left``
            strand     --strand    strand                                both
            pool       --pool      pool                                  mean
            begin      --begin     begin       bos_id                    none
            span       --span      span        span, of its readout      0; at most the window
            layer      --layer                                           the last hidden state
            special                special     special_tokens
        """
        card = loaded.card
        protocol = protocols.get(self.protocol).chosen(card) if self.protocol else protocols.Chosen()
        if protocol.left is not None and self.window is not None and self.left is None:
            raise NexVarError(
                f"{self.protocol} puts the variant behind {protocol.left} of {protocol.window} bases",
                where="--window",
                fix="give --left too where you give --window",
            )
        named = _first(self.readouts, protocol.readouts)
        windowing = self.windowing or ("centred" if named or self.protocol else card.windowing)
        window, left = self._resolve_window(card, protocol, windowing)
        readouts = tuple(named or (card.readout,))
        scorers.check_readouts(readouts, loaded)
        pool = _first(self.pool, protocol.pool) or "mean"
        scorers.check_pool(pool, loaded)
        if self.layer is not None:
            check_taps([self.layer], loaded.module.tap_names)
        self._check_used(readouts)
        span = _first(self.span, protocol.span)
        if span is None:
            span = 0 if named else min(card.span, window - left - 1)
        stride = self._resolve_stride(windowing, window, left, span)
        readout = scorers.ReadoutSettings(
            names=readouts,
            batch_tokens=self.batch_tokens or default_batch_tokens(loaded),
            share=self.share,
            layer=self.layer,
            pool=pool,
            begin=_begin(loaded, _first(self.begin, protocol.begin)),
            span=min(span, window),
            special=protocol.special,
        )
        strand = _first(self.strand, protocol.strand) or "both"
        return ScoreSettings(window, strand, readout, left, windowing, self.protocol, stride)

    def _resolve_window(self, card: Card, protocol: protocols.Chosen, windowing: str) -> tuple[int, int]:
        """(bases of a window, how many of them stand before the variant)."""
        window = _first(self.window, protocol.window) or min(card.window, card.context)
        if window > card.context:
            raise NexVarError(
                f"window of {window:,} bases, but the context of {card.name} is {card.context:,}",
                where="--window",
                fix=f"at most {card.context:,}",
            )
        left = _first(self.left, protocol.left)
        if left is None or windowing == "tiled":
            left = window // 2
        if left >= window:
            what = f"{left} bases before the variant in a window of {window:,}"
            raise NexVarError(what, where="--left", fix="fewer than the window has")
        return window, left

    def _resolve_stride(self, windowing: str, window: int, left: int, span: int) -> int | None:
        """Bases between anchors; NexVarError where the last allele of a stretch has no room for its span."""
        if windowing != "anchored":
            if self.stride is not None:
                raise NexVarError(f"{windowing} windows have no stride", where="--stride", fix="--windowing anchored")
            return None
        room = window - left - span
        if room < (self.stride or 1):
            what = f"{left:,} bases before an allele" + (f" and {span:,} behind it" if span else "")
            raise NexVarError(
                f"{what} leave {max(room, 0):,} for the stride in a window of {window:,}",
                where="--stride" if room > 0 else "--span" if span else "--left",
                fix=f"at most --stride {room}, or a longer --window" if room > 0 else "fewer, or a longer --window",
            )
        return self.stride or min(max((window - left) // 2, 1), room)

    def _check_used(self, readouts: Sequence[str]) -> None:
        """NexVarError for an option that none of the readouts looks at."""
        distances = any(name in scorers.EMBEDDING for name in readouts)
        for option, given, used in (("layer", self.layer, distances), ("pool", self.pool, distances),
                                    ("span", self.span or None, {"pll", "site"} & set(readouts))):  # fmt: skip
            if given is not None and not used:
                needed = "pll or site" if option == "span" else ", ".join(scorers.EMBEDDING)
                what = f"{given}, but {','.join(readouts)} has no {option}"
                raise NexVarError(what, where=f"--{option}", fix=f"add --readout {needed}")


def _first(user: T | None, otherwise: T | None) -> T | None:
    """The user's word, if there is one."""
    return user if user is not None else otherwise


def _begin(loaded: Loaded, wanted: bool | None) -> tuple[int, ...]:
    """``begin_ids``; NexVarError for a begin token that is wanted and is not there."""
    if wanted and not begin_ids(loaded):
        raise NexVarError(f"{loaded.card.name} has no begin token", where="--begin", fix="leave it out")
    return begin_ids(loaded, wanted)


@dataclass(frozen=True)
class ScoreSettings:
    """``Options`` with every choice made."""

    window: int
    strand: str
    readout: scorers.ReadoutSettings
    left: int
    windowing: str = "centred"
    protocol: str | None = None
    stride: int | None = None

    @property
    def together(self) -> int:
        """Bases whose variants belong in one part: what one pass serves is not computed twice."""
        if not all(name in scorers.ONE_PASS for name in self.readout.names):
            return 1
        return tile_step(self.window) if self.windowing == "tiled" else self.stride or 1

    def settings(self) -> dict[str, str]:
        """What else a reader of the scores must know, name -> value, for headers."""
        notes = {} if self.protocol is None else {"protocol": self.protocol}
        if self.windowing == "tiled":
            notes["windowing"] = "tiled (not the score of a window around the variant)"
        if self.stride is not None:
            notes |= {"windowing": "anchored", "stride": str(self.stride)}
        if self.windowing != "tiled" and self.left != self.window // 2:
            notes["left"] = str(self.left)
        if any(name in scorers.EMBEDDING for name in self.readout.names):
            notes |= {"layer": self.readout.layer or "last hidden", "pool": self.readout.pool}
        if self.readout.begin:
            notes["begin"] = " ".join(map(str, self.readout.begin))
        if self.readout.special is not None:
            notes["special tokens"] = "yes" if self.readout.special else "no"
        if "pll" in self.readout.names or (self.readout.span and "site" in self.readout.names):
            notes["span"] = str(self.readout.span)
        return notes

"""What a card says, and whether it says it rightly."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

from nexvar.errors import NexVarError

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

HERE = Path(__file__).resolve().parent
OBJECTIVES, DTYPES, FP8 = ("causal", "masked"), ("float32", "bfloat16", "float16"), (None, "any", "hopper")
WINDOWINGS = ("centred", "anchored", "tiled")
NAME, REPOSITORY = r"[A-Za-z0-9][\w.+-]{0,99}", r"[\w.-]+/[\w.-]+"


@dataclass(frozen=True)
class File:
    """One weight or tokenizer file of the hub repository; sha256 and size where they are published."""

    name: str
    sha256: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Card:
    """Everything NexVar knows about one checkpoint without opening it.

    weights: a file beside the card, with the module's own names; no network.
    fp8: "any" if the checkpoint needs FP8 input projections and float32 accumulation serves it, "hopper" if only
        the accumulator of Hopper GPUs gives its numbers; None where it needs no FP8.
    config: the architecture's own values (``models/<architecture>.py: Config``), never read from the hub.
    config_file: the checkpoint's config.json completes ``config`` (track names by the thousand); read as data, and
        what the card says must agree.
    context: the longest input in bases.
    parameters: floating-point numbers of the checkpoint, tied ones counted once.
    parity: what was verified, in a word (``parity_note`` says how).
    oracles: values recorded from the real checkpoint, for ``nexvar verify``.
    package, folder: who brings the card (None: NexVar), and where it lies; never said in the TOML.
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
    span: int = 0  # of the readout, see options.Options
    windowing: str = "centred"  # with the readout, see options.Options
    special_tokens: bool = False  # official scoring adds the tokenizer's [CLS], [SEP], …
    window: int = 8192  # bases around a variant, unless the user says otherwise
    bos_id: int | None = None  # the token that the official scoring puts before a sequence, if any
    species: str | None = None  # set when the model knows only part of biology, e.g. "mitochondria"
    notes: str = ""
    oracles: dict[str, Any] = field(default_factory=dict)
    package: str | None = None
    folder: Path = HERE

    @property
    def keys(self) -> tuple[str, ...]:
        """What a user may call it: name, aliases, repository."""
        return (self.name, *self.aliases, *((self.repo,) if self.repo else ()))

    @property
    def origin(self) -> str:
        """Which of its versions it is: the revision it is pinned to, or where it comes from."""
        return self.revision or ("built in" if self.weights else "main" if self.repo else "local folder")

    @property
    def label(self) -> str:
        """For messages: "card x", or "card x of package y"."""
        return f"card {self.name}" + (f" of package {self.package}" if self.package else "")

    def beside(self, name: str) -> Path:
        """A file that ships with the card; NexVarError if the name leads out of its folder."""
        if not is_inside(name):
            raise NexVarError(f"{name!r} leads out of its folder", where=self.label, fix="a file beside the card")
        return self.folder / name


_KINDS: dict[type, dict[str, Any]] = {owner: typing.get_type_hints(owner) for owner in (Card, File)}


def is_inside(name: str) -> bool:
    """Whether a file name from a card stays in the folder it is meant for."""
    path = PurePosixPath(name)
    plain = not any(sign in name for sign in ("\\", ":", "\0"))
    return plain and bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def parse(text: str, *, package: str | None = None, folder: Path = HERE) -> Card:
    """A card from its TOML text; NexVarError (without a place) for anything wrong with it."""
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise NexVarError(f"no TOML ({error})") from None
    known = {f.name for f in fields(Card)} - {"package", "folder"}
    needed = [f.name for f in fields(Card) if f.default is MISSING and f.default_factory is MISSING]
    if unknown := sorted(set(values) - known):
        raise NexVarError(f"unknown: {', '.join(unknown[:3])}", fix="cards/card.py lists what a card says")
    if missing := [name for name in needed if name not in values]:
        raise NexVarError(f"missing: {', '.join(missing)}", fix="cards/card.py lists what a card says")
    try:
        values["files"] = tuple(File(**f) for f in values.get("files", ()))
        values["aliases"] = tuple(values.get("aliases", ()))
    except TypeError as error:
        raise NexVarError(f"files are tables of name, sha256 and size, aliases are a list ({error})") from None
    card = Card(**values, package=package, folder=folder)
    if problem := next(problems(card), None):
        raise NexVarError(problem)
    return card


def problems(card: Card) -> Iterator[str]:
    """What is wrong with the values of a card, by the kind of value and by itself."""
    for owner in (card, *card.files):
        for name, kind in _KINDS[type(owner)].items():
            if not _is(value := getattr(owner, name), kind):
                yield f"{name} is {value!r}"
                return
    if re.fullmatch(NAME, card.name) is None:
        yield f"name is {card.name!r}: letters, digits, '.', '_', '+' and '-'"
    for alias in card.aliases:
        if re.fullmatch(f"{NAME}|{REPOSITORY}", alias) is None:
            yield f"alias {alias!r}: a name or owner/name"
    choices = (("objective", OBJECTIVES), ("dtype", DTYPES), ("fp8", FP8), ("windowing", WINDOWINGS))
    for name, allowed in choices:
        if (value := getattr(card, name)) not in allowed:
            yield f"{name} is {value!r}: one of {', '.join(str(a) for a in allowed if a)}"
    for name in ("context", "parameters", "window"):
        if getattr(card, name) < 1:
            yield f"{name} is {getattr(card, name)}"
    for name in ("licence", "citation", "parity", "parity_note"):
        if not getattr(card, name):
            yield f"{name} is empty"
    if (card.repo is None) == (card.weights is None):
        yield "weights come from a hub repository (repo) or lie beside the card (weights): say one of them"
    if card.repo is not None and re.fullmatch(REPOSITORY, card.repo) is None:
        yield f"repo is {card.repo!r}: owner/name"
    for file in card.files:
        if not is_inside(file.name):
            yield f"file {file.name!r} leads out of its folder"
        if file.sha256 is not None and re.fullmatch("[0-9a-f]{64}", file.sha256) is None:
            yield f"sha256 of {file.name} is {file.sha256!r}"
    if card.weights is not None and not is_inside(card.weights):
        yield f"weights {card.weights!r} lead out of its folder"


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of the kind a field is declared with; True is no number."""
    if kind is Any:
        return True
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return isinstance(value, tuple) and all(_is(v, inner[0]) for v in value)
    if origin is dict:
        return isinstance(value, dict)
    if inner:  # str | None
        return any(_is(value, one) for one in inner)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))

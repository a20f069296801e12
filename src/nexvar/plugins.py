"""What other installed packages add to NexVar: entry points in two groups.

    nexvar.models    an architecture's name = "package.module"    with the contract of models/__init__.py
    nexvar.cards     any name               = "package.folder"    a folder of TOML files

Finding out what is offered reads metadata only: no line of another package runs before one of its models is asked for.
Whatever is wrong with a package is one line that names it, and nobody else's models suffer.
"""

from __future__ import annotations

import importlib.util
import logging
import re
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from nexvar.errors import NexVarError

MODELS, CARDS = "nexvar.models", "nexvar.cards"
_said: dict[str, list[str]] = {}


@dataclass(frozen=True, order=True)
class Offer:
    """One entry point. package: the distribution's name; target: a dotted name."""

    package: str
    name: str
    target: str


@cache
def offers(group: str) -> tuple[Offer, ...]:
    """What installed packages offer in one of the two groups, by package and name."""
    wanted: set[Offer] = set()
    seen: set[str] = set()
    for distribution in metadata.distributions():
        try:
            if group not in (distribution.read_text("entry_points.txt") or ""):
                continue
            package = re.sub(r"[-_.]+", "-", str(distribution.metadata["Name"])).lower()
        except Exception:  # metadata may hold anything, and most of it is none of our business
            continue
        if package in seen:  # the first on the path is the one that Python imports
            continue
        seen.add(package)
        try:
            points = [point for point in distribution.entry_points if point.group == group]
        except Exception as error:
            warn(package, f"its entry points cannot be read ({type(error).__name__}: {error})")
            continue
        for point in points:
            if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", point.value) is None:
                warn(package, f"the entry point {point.name} = {point.value!r} of {group} is not a dotted name")
            else:
                wanted.add(Offer(package, point.name, point.value))
    return tuple(sorted(wanted))


def folder_of(offer: Offer) -> Path:
    """The folder that the target names, found without importing anything; NexVarError where there is none."""
    top, *inner = offer.target.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        spec = None
    places = [] if spec is None or spec.submodule_search_locations is None else list(spec.submodule_search_locations)
    for place in places:
        folder = Path(place, *inner)
        if folder.is_dir():
            return folder
    raise broken(offer.package, f"it offers {offer.target}, which is no folder in it")


def broken(package: str, what: str, fix: str | None = None) -> NexVarError:
    """The error of a package that keeps no promise."""
    return NexVarError(what, where=f"package {package}", fix=fix)


def warn(package: str, what: str) -> None:
    """One line of the log, once: by default it goes to standard error."""
    said = _said.setdefault(package, [])
    if (line := str(broken(package, what))) not in said:
        said.append(line)
        logging.getLogger("nexvar").warning("nexvar: %s", line)


def said_of(package: str) -> list[str]:
    """The lines so far."""
    return list(_said.get(package, ()))

"""Architectures: one file each; the file name is the registry.

Every ``models/<architecture>.py`` defines
  Config        frozen dataclass that tells what ``models.Config`` lists
  Model         a ``models.GenomicModel``, made by ``Model(config)``
  KEEP_FLOAT32  fnmatch patterns of parameters that stay float32 whatever the model's dtype
  QUANTIZED     fnmatch patterns of linear weights that ``quantize=`` stores in 8 or 4 bits; all others keep their dtype
and, where the default does not serve it,
  HEADS         beginnings of the names of parameters that a checkpoint may lack: all of one, and the trunk still loads
  LORA_TARGETS  ends of the names of the layers that low-rank updates go to; (): all linear layers
  LORA_NAMES    what public benchmarks call such layers -> ends of their names here: query, key, value, dense
  IA3           what (IA)3 scales (``models.Ia3``)
  MEMORY        what a forward holds (``models.Memory``)
  SPLIT         how processes share its layers in training (``models.Split``); without it, windows alone are shared
  init_parameter  ``(name, parameter, config, generator)``: its value to train from; default: the constructor's
  init_buffers  ``(model)``: buffers that a checkpoint brings and a fresh model needs

``models/layouts/<architecture>.py`` says how others write it down: ``matches``, ``from_official``, ``convert``, and
where it can be written back, ``official_values``, ``to_official`` and what else models/layouts/__init__.py lists.

Another package brings an architecture by the entry point ``nexvar.models``: its name, and a module that has all of
this in one (CONTRIBUTING.md). NexVar's own names cannot be taken.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from functools import cache
from typing import Any

from nexvar import plugins
from nexvar.errors import NexVarError
from nexvar.models._contract import (
    Architecture,
    Cache,
    Config,
    GenomicModel,
    Ia3,
    Memory,
    Output,
    Split,
    block_taps,
    check_attentions,
    check_ids,
    check_masked,
    check_taps,
    given_input,
    look_up,
    padding_mask,
)

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Cache",
    "Config",
    "GenomicModel",
    "Ia3",
    "Memory",
    "Output",
    "Split",
    "block_taps",
    "check_attentions",
    "check_ids",
    "check_masked",
    "check_taps",
    "get",
    "given_input",
    "infer",
    "look_up",
    "names",
    "padding_mask",
]

ARCHITECTURES: tuple[str, ...] = tuple(
    sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg and not m.name.startswith("_"))
)  # NexVar's own
_REQUIRED = tuple(
    f.name
    for f in dataclasses.fields(Architecture)
    if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and f.name != "name"
)
_OPTIONAL = tuple(f.name for f in dataclasses.fields(Architecture) if f.name not in (*_REQUIRED, "name", "package"))


def names() -> tuple[str, ...]:
    """NexVar's own architectures, then those of other packages; nothing is imported."""
    return (*ARCHITECTURES, *sorted(_offered()))


@cache
def _offered() -> dict[str, list[plugins.Offer]]:
    """Architecture -> the packages that offer it, without those that want one of NexVar's names."""
    result: dict[str, list[plugins.Offer]] = {}
    for offer in plugins.offers(plugins.MODELS):
        if offer.name in ARCHITECTURES:
            plugins.warn(offer.package, f"its architecture {offer.name} is left out: NexVar's own has this name")
        else:
            result.setdefault(offer.name, []).append(offer)
    for name, several in result.items():
        if len(several) > 1:
            plugins.warn(several[1].package, _taken_twice(name, several))
    return result


def _taken_twice(name: str, several: list[plugins.Offer]) -> str:
    owners = " and ".join(sorted({offer.package for offer in several}))
    return f"{owners} both bring an architecture {name}, and neither is used"


@cache
def get(architecture: str) -> Architecture:
    """The architecture of this name; NexVarError for an unknown name or a package that breaks the contract."""
    if architecture in ARCHITECTURES:
        own = importlib.import_module(f"nexvar.models.{architecture}")
        layout = importlib.import_module(f"nexvar.models.layouts.{architecture}")
        return _gathered(architecture, own, layout, None)
    several = _offered().get(architecture, [])
    if not several:
        raise NexVarError(f"no architecture {architecture!r}", where="architecture", fix=f"one of {', '.join(names())}")
    package = several[0].package
    if len(several) > 1:
        raise plugins.broken(package, _taken_twice(architecture, several), "uninstall one of them")
    try:
        module = importlib.import_module(several[0].target)
    except (Exception, SystemExit) as error:
        what = f"its architecture {architecture} cannot be imported ({type(error).__name__}: {error})"
        raise plugins.broken(package, what, "repair or uninstall it") from error
    return _gathered(architecture, module, module, package)


def _gathered(name: str, own: Any, layout: Any, package: str | None) -> Architecture:
    members = {m: getattr(source, m) for source in (layout, own) for m in _REQUIRED if hasattr(source, m)}
    missing = [member for member in _REQUIRED if member not in members]
    if missing:
        what = f"its architecture {name} has no {', '.join(missing)}"
        raise plugins.broken(package or "nexvar", what, "models/__init__.py lists what a module needs")
    if not (isinstance(members["Model"], type) and issubclass(members["Model"], GenomicModel)):
        what = f"the Model of its architecture {name} is no nexvar.models.GenomicModel"
        raise plugins.broken(package or "nexvar", what, "class Model(GenomicModel)")
    members |= {m: getattr(source, m) for source in (layout, own) for m in _OPTIONAL if hasattr(source, m)}
    return Architecture(name=name, package=package, **members)


def infer(official_config: dict[str, Any]) -> str | None:
    """The architecture that knows this official config.json, or None; NexVar's own are asked first."""
    for name in ARCHITECTURES:
        if get(name).matches(official_config):
            return name
    for name, (offer, *_) in sorted(_offered().items()):
        try:
            if get(name).matches(official_config):
                return name
        except NexVarError as error:
            plugins.warn(offer.package, error.what)
        except Exception as error:
            plugins.warn(offer.package, f"matches of its architecture {name} fails ({type(error).__name__}: {error})")
    return None

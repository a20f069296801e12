"""A model from config values and tensors: outline on the meta device, convert, account for everything, assign.

Every key and shape is checked before a byte is copied, and every non-persistent buffer is recomputed afterwards (in
float32): no tensor is ever left uninitialised. Config values come from strangers' files: whatever they hold, the
answer is a model or one line.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nexvar import models
from nexvar.errors import NexVarError
from nexvar.models import Architecture, GenomicModel
from nexvar.weights.typed import Bounded, check_size, check_types

_ANY = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RuntimeError)
CONFIG_ERRORS = (*_ANY, MemoryError)
MAX_CALLS = 100_000  # of torch, to outline a model; that of a card takes 3,246 at most
Put = Callable[[nn.Module, str, Tensor, torch.dtype], bool]  # (module, parameter, its tensor, dtype) -> stored?
RANDOM_FILLS = (Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)


@contextmanager
def _blamed_on(where: object) -> Iterator[None]:
    """Errors raised by an architecture's file name the place they came from, too."""
    try:
        yield
    except NexVarError as error:
        place = ": ".join(str(part) for part in (where, error.where) if part is not None)
        raise NexVarError(error.what, where=place, fix=error.fix) from error


def make_config(architecture: str | None, values: Any, where: object) -> Any:
    """``models/<architecture>.py: Config`` from its own field values (lists become tuples)."""
    if not isinstance(architecture, str) or not isinstance(values, dict):
        raise NexVarError("architecture and config values are missing", where=where)
    try:
        with _blamed_on(where):
            for name, value in values.items():
                check_size(name, value)
            arch = models.get(architecture)
            check_types(arch.Config, values, None)
            return arch.Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except CONFIG_ERRORS as error:
        raise NexVarError(f"the values are not a {architecture} config ({error})", where=where) from error


def official_config(architecture: str, values: dict[str, Any], where: object) -> Any:
    """``from_official`` of a config.json, whatever it holds."""
    try:
        with _blamed_on(where):
            arch = models.get(architecture)
            check_types(arch.Config, values, None, official=True)
            config = arch.from_official(Bounded(values))
            check_types(arch.Config, vars(config), None)
            return config
    except CONFIG_ERRORS as error:
        what = f"no {error}" if isinstance(error, KeyError) else f"a value is of the wrong kind or size: {error}"
        raise NexVarError(f"not a {architecture} config ({what})", where=where) from error


def build(architecture: str, config: Any, where: object = None) -> GenomicModel:
    """``Model(config)`` on the meta device: names and shapes, no memory."""
    try:
        with _blamed_on(where), torch.device("meta"), _Outline():
            return models.get(architecture).Model(config)
    except CONFIG_ERRORS as error:
        raise NexVarError(f"no {architecture} model has this config ({error})", where=where) from error


class _Outline(TorchFunctionMode):
    """Arithmetic on the meta device makes torch import its whole compiler (three seconds). Two things need it: draws of
    random values, which do nothing there and are left out, and tables from ``arange``, which stay on the CPU.

    Its calls are counted: a config of millions of layers, by whatever name, would build them for hours."""

    calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.calls += 1
        if self.calls > MAX_CALLS:
            raise NexVarError("its model would have more parts than any that is known")
        if func in RANDOM_FILLS:
            return args[0] if args else kwargs["tensor"]
        if func is torch.arange:
            return func(*args, **{"device": "cpu", **kwargs})
        return func(*args, **kwargs)


def convert(arch: Architecture, official: dict[str, Tensor], config: Any, where: object) -> dict[str, Tensor]:
    """Official names and layouts -> the module's; a tensor it misses is one clear line."""
    try:
        with _blamed_on(where):
            state: dict[str, Tensor] = arch.convert(official, config)
    except KeyError as error:
        raise NexVarError(f"the checkpoint has no tensor {error}", where=where) from error
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise NexVarError(f"a tensor has the wrong shape ({error})", where=where) from error
    return state


def assign(
    module: GenomicModel,
    state: dict[str, Tensor],
    *,
    device: torch.device,
    dtype: torch.dtype,
    keep: Iterable[str] = (),
    put: Put | None = None,
    where: object = None,
) -> GenomicModel:
    """Give a meta module its tensors: same keys, same shapes, finite; then recompute its buffers.

    Floating tensors become ``dtype``, except those that match a pattern of ``keep``: these become float32.
    put: is offered every parameter first, and may store it itself (quantised, or on another device).
    The module comes back in eval mode; its parameters require gradients as in any module.
    """
    expected = module.state_dict()
    check_tensors(expected, state, where)
    kept = tuple(keep)
    ready = {}
    for name in expected:
        tensor = state.pop(name)
        if tensor.is_floating_point() != expected[name].is_floating_point() or tensor.is_complex():
            raise NexVarError(f"{name} has dtype {tensor.dtype}", where=where, fix="not a weight of this model")
        if tensor.is_floating_point():
            check_finite(name, tensor, where)
            exact = any(fnmatch.fnmatch(name, pattern) for pattern in kept)
            wanted = torch.float32 if exact else dtype
            if put is not None and put(module, name, tensor, wanted):
                continue
            tensor = tensor.to(device=device, dtype=wanted)
        else:
            tensor = tensor.to(device=device, dtype=expected[name].dtype)
        ready[name] = tensor.contiguous()
    module.load_state_dict(ready, strict=put is None, assign=True)  # every key was accounted for above
    try:
        module.reset_buffers()
    except (RuntimeError, MemoryError) as error:
        raise NexVarError(f"the config's sizes do not work ({error})", where=where) from error
    tensors = ((f"{m}.{n}", t) for m, sub in module.named_modules() for n, t in _own_tensors(sub))
    left = [name for name, tensor in tensors if tensor.is_meta]
    if left:
        raise NexVarError(f"{left[0]} was never given a value", where=where, fix="a defect of this architecture's file")
    return module.eval()


def check_tensors(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], where: object) -> None:
    """Every tensor is there, no other, and each has its shape; NexVarError tells the first few that do not."""
    _account("misses", [k for k in expected if k not in state], where)
    _account("has unknown", [k for k in state if k not in expected], where)
    shapes = [k for k in expected if state[k].shape != expected[k].shape]
    if shapes:
        k = shapes[0]
        raise NexVarError(
            f"{len(shapes)} tensors have the wrong shape: {k} is {tuple(state[k].shape)}, "
            f"the config needs {tuple(expected[k].shape)}",
            where=where,
            fix="weights and config are not of the same model",
        )


def _own_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return ((n, t) for table in (module._parameters, module._buffers) for n, t in table.items() if t is not None)


def _account(verb: str, names: list[str], where: object) -> None:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise NexVarError(
            f"the checkpoint {verb} {len(names)} tensor(s): {', '.join(names[:3])}{more}",
            where=where,
            fix="weights and config are not of the same model",
        )


def check_finite(name: str, tensor: Tensor, where: object) -> None:
    """NexVarError for a tensor with a value that is no number."""
    if tensor.is_floating_point() and not all_finite(tensor):
        raise NexVarError(f"{name} holds NaN or infinite values", where=where, fix="damaged checkpoint")


def all_finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite. One pass: a sum shows them; one that overflows is looked at again."""
    if tensor.dtype.itemsize == 1 or torch.isfinite(tensor.detach().sum()):
        return True
    return all(bool(torch.isfinite(piece).all()) for piece in tensor.detach().reshape(-1).split(1 << 24))

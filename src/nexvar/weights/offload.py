"""Weights that do not fit: kept on other GPUs, in main memory or on disk, and brought to the model's device by need.

    device_map="auto"                    fill the model's device, then other GPUs, main memory, then the disk
    device_map={"blocks.0": "cuda:0", "blocks": "cpu", "blocks.9": "disk", "": "cuda:0"}     longest prefix wins

All computing is done on the model's one device; what lies elsewhere is copied there when a layer is used, and dropped
when the next layer is. So results, caches and taps are those of the plain model, for every architecture, and one layer
at a time is in memory. Weights "on disk" stay memory-mapped in the checkpoint itself, in its dtype; only what the
loader had to reorder is written out, to ``offload_folder``, and removed at exit.

NOTE: for inference. ``parameters()`` yields the weights as they are stored; ``.to(...)`` moves nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nexvar.errors import NexVarError
from nexvar.weights import machine
from nexvar.weights.checkpoint.mapped import Bytes

DISK = "disk"
Where = tuple[str, torch.device, torch.dtype]  # the layer a parameter belongs to; the device and dtype it is used in
FILL = 0.8  # of a device's free memory that weights may take; the rest is for activations and caches


def units(module: nn.Module) -> tuple[str, ...]:
    """The layers that are moved as one: members of the outermost ModuleLists."""
    layers: list[str] = []
    for name, child in module.named_modules():
        if isinstance(child, nn.ModuleList) and not any(name.startswith(f"{unit}.") for unit in layers):
            layers += [f"{name}.{i}" for i in range(len(child))]
    return tuple(layers)


def parse(
    device_map: Mapping[str, str | int | torch.device], module: nn.Module, device: torch.device
) -> dict[str, str]:
    """{prefix: device or "disk"}, checked: every prefix names something, every parameter has a place."""
    names = list(module.state_dict())
    places = {}
    for prefix, place in device_map.items():
        if prefix and not any(_below(name, prefix) for name in names):
            raise NexVarError(f"no part of the model is called {prefix!r}", where="device_map")
        places[prefix] = DISK if str(place) == DISK else _device(place)
    lost = next((name for name in names if _place(name, places) is None), None)
    if lost is not None:
        raise NexVarError(f"{lost} has no place", where="device_map", fix=f'add "": "{device}" for all the rest')
    return places


def auto(module: nn.Module, device: torch.device, bytes_of: Mapping[str, float]) -> dict[str, str]:
    """A device map that fills the fastest memory first. bytes_of: {parameter: bytes in the model's dtype}."""
    sizes = {unit: sum(size for name, size in bytes_of.items() if _below(name, unit)) for unit in units(module)}
    room = {str(place): FILL * machine.free_memory(place) for place in machine.devices(device)}
    here = str(device)
    room[here] -= sum(bytes_of.values()) - sum(sizes.values())  # embeddings, norms, heads
    if sum(sizes.values()) > room[here]:
        room[here] -= max(sizes.values(), default=0)  # the layer that is visiting
    places = {"": here}
    order = iter(room)
    place = next(order)
    for unit, size in sizes.items():
        while place != DISK and size > room[place]:
            place = next(order, DISK)
        places[unit] = place
        if place != DISK:
            room[place] -= size
    return places


def check_folder(folder: Path) -> None:
    """NexVarError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _cannot_write(folder, error) from error


def _cannot_write(folder: Path, error: OSError) -> NexVarError:
    return NexVarError(f"cannot write there ({error.strerror})", where=folder, fix="another offload_folder=")


def _below(name: str, prefix: str) -> bool:
    return not prefix or name == prefix or name.startswith(f"{prefix}.")


def _place(name: str, places: Mapping[str, str]) -> str | None:
    best = max((prefix for prefix in places if _below(name, prefix)), key=len, default=None)
    return None if best is None else places[best]


def _device(place: str | int | torch.device) -> str:
    try:
        return str(torch.empty(0, device=f"cuda:{place}" if isinstance(place, int) else place).device)
    except (RuntimeError, AssertionError) as error:
        what = str(error).splitlines()[0]
        raise NexVarError(f"no device {place!r} here ({what})", where="device_map", fix='or "disk"') from error


class Offloader:
    """Takes the parameters whose place is not the model's device, while a checkpoint is read.

    mapped: the checkpoint's tensors before conversion; those that still share their memory need no copy on disk.
    """

    def __init__(
        self,
        places: Mapping[str, str],
        device: torch.device,
        mapped: Iterable[Tensor],
        folder: Path,
    ) -> None:
        self.places, self.device, self.folder = dict(places), device, folder
        self.mapped = {tensor.untyped_storage().data_ptr() for tensor in mapped}
        self.spilled: tempfile.TemporaryDirectory[str] | None = None
        self.count = 0
        self.resident = _Resident()

    def put(self, module: nn.Module, name: str, tensor: Tensor, dtype: torch.dtype) -> bool:
        """Store the parameter ``name`` where it belongs; False if that is the model's own device."""
        place = _place(name, self.places)
        path, _, key = name.rpartition(".")
        owner = module.get_submodule(path)
        if place in (None, str(self.device)) or key not in owner._parameters:
            return False
        if place == DISK:
            stored = tensor if self._is_mapped(tensor) else self._spill(tensor.to(dtype))
        else:
            stored = tensor.to(place, dtype)
        table = owner._parameters
        if not isinstance(table, _Lazy):
            table = owner.__dict__["_parameters"] = _Lazy(table, self.resident)
        unit = max((u for u in units(module) if _below(name, u)), key=len, default=name)
        table.store(key, stored, (unit, self.device, dtype))
        return True

    def _is_mapped(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self.mapped

    def _spill(self, tensor: Tensor) -> Tensor:
        """The same tensor as a memory map of a file of ours."""
        try:
            if self.spilled is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self.spilled = tempfile.TemporaryDirectory(
                    prefix="nexvar-", dir=self.folder, ignore_cleanup_errors=True
                )
                self.resident.keep.append(self.spilled)  # removed with the model, or at exit
            path = Path(self.spilled.name) / str(self.count)
            path.write_bytes(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        except OSError as error:
            raise _cannot_write(self.folder, error) from error
        self.count += 1
        return Bytes([path], path).tensor(0, tensor.numel(), tensor.dtype).view(tensor.shape)


class _Resident:
    """The copies on the model's device: those of the layer that is in use."""

    def __init__(self) -> None:
        self.unit: str | None = None
        self.copies: dict[tuple[int, str], nn.Parameter] = {}
        self.keep: list[Any] = []

    def fetch(self, owner: _Lazy, key: str, stored: Tensor, where: Where) -> nn.Parameter:
        unit, device, dtype = where
        if unit != self.unit:
            self.copies.clear()
            self.unit = unit
        copy = self.copies.get((id(owner), key))
        if copy is None:
            with torch.inference_mode(False), torch.no_grad():  # usable by whatever comes next
                copy = nn.Parameter(stored.to(device, dtype).contiguous(), requires_grad=False)
            self.copies[id(owner), key] = copy
        return copy


class _Lazy(dict[str, Any]):
    """A module's ``_parameters``: by name the parameter on the model's device, by iteration what is stored."""

    def __init__(self, parameters: dict[str, Any], resident: _Resident) -> None:
        super().__init__(parameters)
        self.resident = resident
        self.where: dict[str, Where] = {}

    def store(self, key: str, tensor: Tensor, where: Where) -> None:
        super().__setitem__(key, nn.Parameter(tensor, requires_grad=False))
        self.where[key] = where

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        return value if key not in self.where else self.resident.fetch(self, key, value, self.where[key])

    def __setitem__(self, key: str, value: Any) -> None:
        self.where.pop(key, None)
        super().__setitem__(key, value)

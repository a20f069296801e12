"""What this machine has; footprint.py says which checkpoints fit it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nexvar.cards import Card

if TYPE_CHECKING:
    import torch

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def weight_bytes(card: Card) -> int:
    """Bytes of the weights in the card's dtype."""
    return card.parameters * BYTES[card.dtype]


def free_memory(device: torch.device | None = None) -> int:
    """Bytes a model may take on ``device``; without one, the largest GPU's free memory if there is any, else RAM."""
    import torch

    if device is not None and device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device is None and torch.cuda.is_available():
        return max(torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count()))
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") + _page_cache()
    except (ValueError, OSError):  # macOS has no SC_AVPHYS_PAGES
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def devices(first: torch.device) -> list[torch.device]:
    """``first``, then the other GPUs, then main memory: where weights may lie, fastest access first."""
    import torch

    gpus = [torch.device("cuda", i) for i in range(torch.cuda.device_count())] if first.type == "cuda" else []
    here = torch.device("cuda", torch.cuda.current_device()) if str(first) == "cuda" else first
    return [here, *(gpu for gpu in gpus if gpu != here), *([] if first.type == "cpu" else [torch.device("cpu")])]


def trim_heap() -> None:
    """Give freed memory back to the system: glibc keeps it where small live blocks lie between."""
    import ctypes
    import sys

    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def _page_cache() -> int:
    """Bytes the kernel would give back: MemAvailable minus MemFree, on Linux."""
    try:
        text = Path("/proc/meminfo").read_text()
        lines = dict(line.split(":", 1) for line in text.splitlines())
        return 1024 * (int(lines["MemAvailable"].split()[0]) - int(lines["MemFree"].split()[0]))
    except (OSError, KeyError, ValueError):
        return 0


def human_bytes(count: float) -> str:
    """12 345 678 -> "12 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit != "GB" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"

"""What a run tells: log.jsonl, TensorBoard events, a progress bar, and the loss curve as a picture.

The TensorBoard file is written directly (TFRecord frames around a two-field protobuf): no extra package.
"""

from __future__ import annotations

import importlib
import json
import struct
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from nexvar.errors import MAX_MESSAGE, NexVarError, printable

_TOP, _BOTTOM = 0xFFFFFFFF, 0x82F63B78  # CRC-32C, reflected


def _crc_table() -> list[int]:
    table = []
    for i in range(256):
        for _ in range(8):
            i = i >> 1 ^ (_BOTTOM if i & 1 else 0)
        table.append(i)
    return table


_CRC = _crc_table()


def masked_crc32c(data: bytes) -> int:
    """TFRecord's checksum: CRC-32C, rotated by 15 bits plus a constant."""
    crc = _TOP
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    crc ^= _TOP
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & _TOP


def _varint(n: int) -> bytes:
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*out, n])


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


class TensorBoard:
    """Scalars into ``folder/events.out.tfevents.*``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"events.out.tfevents.{time.time_ns()}.nexvar").open("wb")
        self._write(_field(3, b"brain.Event:2"))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        one = (_field(1, _field(1, tag.encode()) + b"\x15" + struct.pack("<f", v)) for tag, v in values.items())
        self._write(b"\x10" + _varint(step) + _field(5, b"".join(one)))

    def _write(self, event: bytes) -> None:
        event = b"\x09" + struct.pack("<d", time.time()) + event
        head = struct.pack("<Q", len(event))
        self._file.write(
            head + struct.pack("<I", masked_crc32c(head)) + event + struct.pack("<I", masked_crc32c(event))
        )
        self._file.flush()


class Log:
    """Every row goes to log.jsonl; numbers also to TensorBoard and the bar. Silent on ranks other than 0."""

    def __init__(self, folder: Path, *, active: bool, total: int, step: int, track: str = "") -> None:
        self.active, self.path = active, folder / "log.jsonl"
        if not active:
            return
        self._file = self.path.open("a", encoding="utf-8")
        self._board = TensorBoard(folder / "tensorboard")
        self._tracker = tracker(track, folder) if track else None
        self.bar = tqdm(total=total, initial=step, unit="step", disable=None, dynamic_ncols=True)

    def event(self, **row: Any) -> None:
        if self.active:
            self._file.write(json.dumps({"time": round(time.time(), 2), **row}) + "\n")
            self._file.flush()

    def scalars(self, step: int, **values: float) -> None:
        """One logged step. The bar shows loss, bits per base, tokens/s and MFU beside tqdm's own ETA."""
        if not self.active:
            return
        self.event(step=step, **{k: float(f"{v:.6g}") for k, v in values.items()})
        self._board.scalars(step, values)
        if self._tracker is not None:
            self._tracker.log(values, step=step)
        if "loss" in values:
            shown = {k: f"{values[k]:.4g}" for k in ("loss", "bits", "tokens_s", "mfu") if k in values}
            self.bar.set_postfix(shown, refresh=False)
            self.bar.update(step - self.bar.n)

    def say(self, line: str) -> None:
        """For people, with a terminal and without."""
        if self.active:
            tqdm.write(f"nexvar: {printable(line, MAX_MESSAGE)}", file=sys.stderr)

    def close(self, total: int) -> None:
        if self.active:
            self.bar.total = total
            self.bar.close()
            self._file.close()
            if self._tracker is not None:
                self._tracker.finish()


def tracker(name: str, folder: Path) -> Any:
    """wandb or trackio (the same calls), with a run named after the output folder."""
    if name not in ("wandb", "trackio"):
        raise NexVarError(f"no tracker {name!r}", where="run.track", fix='"wandb" or "trackio"')
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise NexVarError(f"{name} is not installed", where="run.track", fix=f"pip install {name}") from error
    module.init(project="nexvar", name=folder.name)
    return module


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product here, now: what MFU is a fraction of (best of five, about 0.1 s)."""
    n = 4096 if device.type == "cuda" else 768
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        _synchronize(device)
        start = time.perf_counter()
        a @ b
        _synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def loss_curve(log: Path, picture: Path) -> Path | None:
    """Draw bits per base against tokens, training and held-out; of a task its loss. None without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]  # ours, and may say NaN
    tokens = {r["step"]: r["tokens"] for r in rows if "tokens" in r and "step" in r}
    figure = Figure(figsize=(7, 4), dpi=150)  # without pyplot, whose backend is a notebook's own
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    corpus = any("bits" in r for r in rows)  # else a task: its loss over sequences
    key, held_key, unit = ("bits", "held_out_bits", 1e6) if corpus else ("loss", "valid_loss", 1)
    train = [(r["tokens"] / unit, r[key]) for r in rows if key in r and "tokens" in r]
    held = [(tokens[r["step"]] / unit, r[held_key]) for r in rows if r.get("step") in tokens and held_key in r]
    for points, color, marker, label in (
        (train, "#9aa5b1", "", "training batches"),
        (held, "#c2410c", "o", "held out"),
    ):
        if points:
            axes.plot(*zip(*points, strict=True), color=color, marker=marker, markersize=3, linewidth=1, label=label)
            axes.legend(frameon=False)
    axes.set(xlabel="tokens (millions)" if corpus else "sequences", ylabel="bits per base" if corpus else "loss")
    if corpus:  # 2 bits: four letters and no idea; what lies above is over in a minute
        axes.set_ylim(top=min(axes.get_ylim()[1], 2.1))
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(picture)
    return picture

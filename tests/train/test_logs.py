"""Where the numbers go: TensorBoard files, trackers."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from nexvar.errors import NexVarError
from nexvar.train.logs import TensorBoard, loss_curve, masked_crc32c
from nexvar.train.loop import pretrain
from tiny_run import recipe_file


def test_tensorboard_frames_are_whole(tmp_path: Path) -> None:
    crc = ((masked_crc32c(b"123456789") - 0xA282EAD8) & 0xFFFFFFFF) << 15
    assert (crc | crc >> 32) & 0xFFFFFFFF == 0xE3069283  # CRC-32C's published check value
    board = TensorBoard(tmp_path)
    board.scalars(300, {"loss": 1.5})
    raw, frames = next(tmp_path.iterdir()).read_bytes(), []
    while raw:
        (length,) = struct.unpack("<Q", raw[:8])
        body, raw = raw[12 : 12 + length], raw[16 + length :]
        frames.append(body)
    assert b"brain.Event:2" in frames[0]
    assert frames[1][9:12] == b"\x10\xac\x02" and frames[1].endswith(b"loss\x15" + struct.pack("<f", 1.5))


def test_a_tracker_gets_every_number(tmp_path: Path, fasta: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    seen: list[tuple[int, dict[str, float]]] = []
    fake = types.SimpleNamespace(
        init=lambda project, name: seen.append((0, {})),
        log=lambda values, step: seen.append((step, values)),
        finish=lambda: seen.append((-1, {})),
    )
    monkeypatch.setitem(sys.modules, "trackio", fake)
    pretrain(recipe_file(tmp_path, fasta, **{"steps = 12": "steps = 6"}), track="trackio")
    assert seen[0] == (0, {}) and seen[-1] == (-1, {}) and {"loss", "tokens_s"} <= seen[1][1].keys()
    with pytest.raises(NexVarError, match="no tracker 'mlflow'"):
        pretrain(recipe_file(tmp_path, fasta, "other", **{"threads = 1": 'threads = 1\ntrack = "mlflow"'}))


def test_the_loss_curve_leaves_the_pictures_of_a_notebook_alone(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1, "tokens": 8, "bits": 2.0}\n{"step": 2, "tokens": 16, "bits": 1.9}\n')
    with matplotlib.rc_context({"backend": "svg"}):
        assert loss_curve(log, tmp_path / "loss.png") is not None
        assert matplotlib.get_backend() == "svg"

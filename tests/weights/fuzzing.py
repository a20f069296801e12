"""Random damage to sound files: ``python fuzzing.py KIND SEED COUNT`` prints what was neither accepted nor refused.

Every trial runs under a limit of memory and of CPU time, and gives a success or a NexVarError of one line; what else
comes is printed with its number, and ``KIND SEED COUNT NUMBER`` repeats that trial alone with its traceback.
"""

from __future__ import annotations

import io
import json
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from nexvar import tokenizers
from nexvar.errors import MAX_MESSAGE, NexVarError
from nexvar.train.predict import Predictor
from nexvar.weights import checkpoint
from nexvar.weights.load import load
from nexvar.weights.load import save as save_folder

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"
sys.path.append(str(HERE.parent.parent / "attacks"))
MEMORY = 3 << 30  # bytes of address space beside what Python and torch hold
SECONDS = 5.0

STATE = {
    "a.weight": torch.ones(4, 3),
    "b.weight": torch.arange(6.0).bfloat16(),
    "c": torch.tensor(1),
    "d": torch.ones(0),
}
NUMBERS = (0, 1, -1, 2, 7, 255, 1 << 15, 1 << 24, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 48, 1 << 62, (1 << 63) - 1)
WEIRD: tuple[Any, ...] = (
    *NUMBERS, None, True, False, 10**30, -(10**30), 1e300, 1e-320, -0.0, 0.5, "", "x", "x" * 6_000, "\x1b]0;owned\x07",
    "\u202e", "../../etc/passwd", "NaN", [], {}, [[]], [0], ["x"], [None] * 50, [1 << 40], {"a": 1}, {"": {}}, [-1] * 3,
)  # fmt: skip


# -- damage


def damaged(content: bytes, dice: random.Random, reach: int | None = None) -> bytes:
    """``content`` after one to four changes, the first ``reach`` bytes being likelier."""
    data = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 4))):
        size = max(len(data), 1)
        at = dice.randrange(min(reach or size, size) if dice.random() < 0.8 else size)
        match dice.randrange(8):
            case 0:
                data[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                data[at : at + 1] = bytes([(data[at] ^ (1 << dice.randrange(8))) if data else 0])
            case 2:
                width = dice.choice(("<H", "<I", "<Q"))
                value = dice.choice(NUMBERS) % (1 << 8 * struct.calcsize(width))
                data[at : at + struct.calcsize(width)] = struct.pack(width, value)
            case 3:
                del data[at : at + dice.randrange(1, 40)]
            case 4:
                data[at:at] = bytes(dice.randrange(256) for _ in range(dice.randrange(1, 12)))
            case 5:
                data[at:at] = data[at : at + dice.randrange(1, 80)] * dice.choice((1, 2, 50))
            case 6:
                del data[at:]
            case _:
                other = dice.randrange(size)
                data[at : at + 16] = data[other : other + 16]
    return bytes(data)


def twisted(value: Any, dice: random.Random) -> Any:
    """A JSON value after one or two of its parts, at any depth, were replaced, lost or given again elsewhere."""
    value = json.loads(json.dumps(value))
    for _ in range(dice.choice((1, 1, 2))):
        places = [(value, key) for key in keys_of(value)]
        inner = [(held[key], deep) for held, key in places for deep in keys_of(held[key])]
        if not places:
            return dice.choice(WEIRD)
        held, key = dice.choice(inner) if inner and dice.random() < 0.4 else dice.choice(places)
        match dice.randrange(5):
            case 0:
                del held[key]
            case 1 if isinstance(held[key], (int, float)) and not isinstance(held[key], bool):
                held[key] = held[key] * dice.choice((-1, 0, 2, 3, 0.5, 1 << 20))
            case _:
                held[key] = dice.choice(WEIRD)
    return value


def keys_of(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value)
    return random.Random(len(value)).sample(range(len(value)), min(len(value), 20)) if isinstance(value, list) else []


# -- kinds: (folder, dice) -> None; a fresh folder each


def torch_bytes(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def program_of(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read("archive/data.pkl")


def zip_with(program: bytes) -> bytes:
    """ZIP with another program: what a reader of pickles meets that believes its archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(ZIP)) as archive, zipfile.ZipFile(buffer, "w") as changed:
        for name in archive.namelist():
            changed.writestr(name, program if name.endswith("data.pkl") else archive.read(name))
    return buffer.getvalue()


ZIP = torch_bytes({"module": STATE, "step": 3})
LEGACY = torch_bytes(STATE, _use_new_zipfile_serialization=False)
WEIGHTS = {
    "model.safetensors": save(STATE),
    "model.pt": ZIP,
    "pytorch_model.bin": LEGACY,
    "model.pt.part": ZIP,
    "model-1.safetensors": save(STATE),
}


def weights(folder: Path, dice: random.Random) -> None:
    """Checkpoints of every format."""
    name = dice.choice(list(WEIGHTS))
    content = WEIGHTS[name]
    inner = dice.random() < 0.5
    if inner and name.endswith(".safetensors"):
        head = json.dumps(twisted(json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]]), dice)).encode()
        content = struct.pack("<Q", len(head)) + head + content[8 + struct.unpack("<Q", content[:8])[0] :]
    elif inner and content is ZIP:
        content = zip_with(damaged(program_of(ZIP), dice))
    elif dice.random() < 0.7:
        content = damaged(content, dice, reach=600)
    else:  # the directory of a zip file lies last
        content = damaged(content[::-1], dice, 900)[::-1]
    if name == "model.pt.part":
        cut = dice.randrange(len(content) + 1)
        (folder / f"{name}0").write_bytes(content[:cut])
        (folder / f"{name}{dice.choice((1, 1, 1, 1, 2))}").write_bytes(content[cut:])
    else:
        (folder / name).write_bytes(content)
    if name == "model-1.safetensors":
        index = twisted({"metadata": {"total_size": 1}, "weight_map": {k: name for k in STATE}}, dice)
        text = damaged(json.dumps(index).encode(), dice) if dice.random() < 0.5 else json.dumps(index).encode()
        (folder / "model.safetensors.index.json").write_bytes(text)
        if dice.random() < 0.5:
            (folder / name).write_bytes(WEIGHTS[name])
    for tensor in checkpoint.read_folder(folder).values():
        tensor.float().sum()


FAMILIES = sorted(p.parent.name for p in GOLDEN.glob("*/weights.safetensors"))
SMALL = [name for name in FAMILIES if (GOLDEN / name / "weights.safetensors").stat().st_size < 1_000_000]


def configs(folder: Path, dice: random.Random) -> None:
    """The config.json of every architecture, beside its sound weights."""
    golden = GOLDEN / dice.choice(SMALL)
    config = json.loads((golden / "config.json").read_text())
    shutil.copyfile(golden / "weights.safetensors", folder / "model.safetensors")
    write_twisted(folder / "config.json", config, dice)
    load(folder, device="cpu")


def cards(folder: Path, dice: random.Random) -> None:
    """Folders that NexVar itself wrote: config values and what they say of themselves."""
    golden = GOLDEN / "caduceus_ph_tiny"
    loaded = load(golden, device="cpu")
    kept = (
        "tokenizer",
        "objective",
        "readout",
        "context",
        "window",
        "licence",
        "citation",
        "species",
        "bos_id",
        "aliases",
    )
    card = {name: getattr(loaded.card, name) for name in kept}
    save_folder(folder, loaded.module, architecture="caduceus", config=loaded.module.config, card=card)
    config = json.loads((folder / "config.json").read_text())
    if dice.random() < 0.6:
        config["card"] = twisted(config["card"], dice)
        (folder / "config.json").write_text(json.dumps(config))
    else:
        write_twisted(folder / "config.json", config, dice)
    load(folder, device="cpu")


def write_twisted(path: Path, value: Any, dice: random.Random) -> None:
    content = json.dumps(twisted(value, dice)).encode()
    path.write_bytes(damaged(content, dice) if dice.random() < 0.2 else content)


BPE = json.loads((GOLDEN / "dnabert2_tiny" / "tokenizer.json").read_text())
MODEL = BPE["model"]
first = dict(list(MODEL["vocab"].items())[:60])
MERGES = [m for m in MODEL["merges"] if all(part in first for part in (*m.split(), m.replace(" ", "")))]
SHORT = {**BPE, "model": {**MODEL, "vocab": first, "merges": MERGES}}


def vocabularies(folder: Path, dice: random.Random) -> None:
    """tokenizer.json, read as BPE and as a one-base vocabulary."""
    values = json.loads(json.dumps(SHORT))
    if dice.random() < 0.5:
        values["model"] = twisted(values["model"], dice)
        content = json.dumps(values).encode()
        (folder / "tokenizer.json").write_bytes(damaged(content, dice) if dice.random() < 0.3 else content)
    else:
        write_twisted(folder / "tokenizer.json", values, dice)
    for kind in ("bpe", "onehot"):
        try:
            tokenizers.make(kind, folder).tokenize("ACGTACGTTTGCA")
        except NexVarError:
            if kind == "onehot":
                raise


def heads(folder: Path, dice: random.Random) -> None:
    """task.json and head.safetensors of a fine-tuned model."""
    golden = GOLDEN / "caduceus_ph_tiny"
    shutil.copyfile(golden / "config.json", folder / "config.json")
    shutil.copyfile(golden / "weights.safetensors", folder / "model.safetensors")
    width = json.loads((golden / "config.json").read_text())["d_model"]
    task = {
        "kind": "classification",
        "per": "sequence",
        "pool": "mean",
        "names": ["no", "yes"],
        "centre": [],
        "scale": [],
    }
    write_twisted(folder / "task.json", task, dice) if dice.random() < 0.6 else (
        folder / "task.json").write_text(json.dumps(task))  # fmt: skip
    head = HEADS.setdefault(width, head_of(width))
    content = save(head)
    (folder / "head.safetensors").write_bytes(damaged(content, dice, 300) if dice.random() < 0.6 else content)
    Predictor(folder, device="cpu").predict(["ACGTACGT"])


HEADS: dict[int, dict[str, torch.Tensor]] = {}


def head_of(width: int) -> dict[str, torch.Tensor]:
    from nexvar.train.heads import TaskModel

    head = TaskModel(load(GOLDEN / "caduceus_ph_tiny", device="cpu"), 2, "mean", freeze=True).head
    return {name: torch.zeros_like(tensor) for name, tensor in head.state_dict().items()}


KINDS: dict[str, Callable[[Path, random.Random], None]] = {
    "weights": weights, "configs": configs, "cards": cards, "vocabularies": vocabularies, "heads": heads,
}  # fmt: skip


# -- running


class TooLong(BaseException):
    """Not to be caught by what is under test."""


def too_long(*_: object) -> None:
    raise TooLong(f"more than {SECONDS} s")


def trial(kind: str, seed: int, number: int, show: bool = False) -> str | None:
    """None, or what is wrong with the answer to this file."""
    folder = Path(tempfile.mkdtemp())
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        KINDS[kind](folder, random.Random(f"{kind} {seed} {number}"))
    except NexVarError as error:
        line = str(error)
        if show:
            print(line)
        if not line.isprintable() or not 10 < len(line) <= MAX_MESSAGE or "alloc" in line:
            return f"message {line!r}"
    except BaseException as error:
        if show:
            traceback.print_exc()
        return f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        shutil.rmtree(folder, ignore_errors=True)
    return None


def main() -> None:
    kind, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    signal.signal(signal.SIGVTALRM, too_long)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
    if len(sys.argv) > 4:
        print(trial(kind, seed, int(sys.argv[4]), show=True))
        return
    start = time.process_time()
    for number in range(count):
        if wrong := trial(kind, seed, number):
            print(f"{kind} {seed} {count} {number}: {wrong}", flush=True)
    print(f"done {kind}: {count} in {time.process_time() - start:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()

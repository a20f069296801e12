"""Hostile checkpoints: each ``@attack`` writes one into a folder; NexVar must refuse it with one line.

    python attacks/checkpoints.py DIR     write them all under DIR (then: NexVar("DIR/reduce_system"))

They start from a sound tiny StripedHyena 2 folder (_sound.py). The pickles would create the file ``MARKER`` if anything
in them were executed. ``tests/weights/test_attacks.py`` loads every one of them. By what is attacked:

    _pickles.py      programs that would execute something      _pickling.py: what writes them
    _exhausting.py   programs that hang, exhaust the memory or read outside their storages
    _multiplying.py  small programs that ask for one thing thousands of times; numbers of any size
    _zips.py         archives that lie about their members
    _safetensors.py  headers that lie about their bytes
    _folders.py      shards, links, pipes; tensors that do not fit; configs that lie
"""

from __future__ import annotations

import sys
from pathlib import Path

import _exhausting  # noqa: F401
import _folders  # noqa: F401
import _multiplying  # noqa: F401
import _pickles  # noqa: F401
import _safetensors  # noqa: F401
import _zips  # noqa: F401
from _sound import ATTACKS, write_sound


def write_all(directory: Path, marker: Path) -> list[Path]:
    """Every attack in a folder of its own; returns the folders."""
    folders = []
    for name, write in ATTACKS.items():
        folder = directory / name
        folder.mkdir(parents=True)
        write_sound(folder)
        write(folder, marker)
        if any(path.suffix != ".safetensors" and path.suffix != ".json" for path in folder.glob("*model.*")):
            (folder / "model.safetensors").unlink(missing_ok=True)  # so that the torch file is what is loaded
        folders.append(folder)
    return folders


if __name__ == "__main__":
    target = Path(sys.argv[1])
    print(f"{len(write_all(target, target / 'MARKER'))} hostile checkpoints under {target}")

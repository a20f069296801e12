"""Random damage to files, for tests that nothing but a NexVarError comes of it."""

from __future__ import annotations

import random


def edit(data: bytearray, rng: random.Random) -> None:
    """One to four random edits in place: bytes changed, inserted, deleted, doubled, cut."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            data[at:at] = bytes([rng.choice(b"\t\n\r\0>ACGTN,;:<>*.0123456789 -[]|/\xff")])
        elif kind == 1:
            del data[at : at + rng.choice((1, 1, 2, 10))]
        elif kind == 2:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 3:
            data[at:at] = data[rng.randrange(len(data) + 1) :][: rng.randint(1, 30)]
        elif kind == 4:
            data[at : at + 1] = bytes([rng.choice(b"\t\n0A9=")])
        elif len(data) > 4 and rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]

"""bigWigs that cannot be written: told, however few or many values they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexvar.errors import NexVarError
from nexvar.genome.bigwig import write_bigwig

pytest.importorskip("pybigtools", reason="pip install 'nexvar[tracks]'")
FULL = Path("/dev/full")  # a device on which there is never room


@pytest.mark.parametrize("count", [1, 60_000])
def test_a_full_disk_is_told(tmp_path, count):
    if not FULL.exists():
        pytest.skip("this system has no device that is always full")
    (tmp_path / "hidden.bw").symlink_to(FULL)
    rows = (("chr1", i, i + 1, float(i * i % 997)) for i in range(count))
    with pytest.raises(NexVarError, match=rf"x\.bw: 0 of {count:,} positions are in the bigWig: is the disk full"):
        write_bigwig(tmp_path / "hidden.bw", Path("x.bw"), {"chr1": 100_000}, rows)

"""The toy genomes of ``tiny_run`` as a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiny_run import genomes


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "genomes.fa"
    path.write_text("".join(f">{n} len=1 lineage=Chordata; {n.split('_')[0]}\n{s}\n" for n, s in genomes()))
    return path

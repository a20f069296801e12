"""The genome of ``noncoding_genome.py`` on disk, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexvar.genome.reference import Fasta
from noncoding_genome import toy_files


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """genome.fa, genes.gff3, genes.gtf, ccre.bed."""
    return toy_files(tmp_path_factory.mktemp("noncoding"))


@pytest.fixture(scope="session")
def genome(toy: Path) -> Fasta:
    return Fasta(toy / "genome.fa")

"""Numbers over HTTP are, bit for bit, those of Python and of the command line."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from nexvar import NexVar
from nexvar.genome.reference import Fasta
from nexvar.serve.genomes import Genomes
from nexvar.serve.settings import Settings
from served import client_of, make_server

BASES = "ACGTACGTTGCAACGTNACGTAGGCTAGCT" * 3


@pytest.fixture(scope="module")
def model():
    return NexVar("nexvar_mito")


@pytest.fixture(scope="module")
def client(model):
    with client_of(make_server([model.loaded])) as client:
        yield client


@pytest.fixture(scope="module")
def fasta() -> Fasta:
    return Genomes.open(Settings()).get("chrM").fasta


@pytest.fixture(scope="module")
def variants(fasta) -> list[str]:
    """50 all over the genome: SNVs, deletions, insertions."""
    draw, found = random.Random(3), []
    for pos0 in sorted(draw.sample(range(10, 16_500), 50)):
        ref = fasta.fetch("chrM", pos0, pos0 + 3)
        alt = draw.choice("ACGT".replace(ref[0], ""))
        kind = draw.choice(["snv", "snv", "del", "ins"])
        made = {"snv": (ref[0], alt), "del": (ref, ref[0]), "ins": (ref[0], ref[0] + alt + "GA")}[kind]
        found.append(f"chrM:{pos0 + 1}{made[0]}>{made[1]}")
    return found


def command_line(tmp_path, fasta, *words) -> dict[str, list]:
    out = tmp_path / "out.parquet"
    command = [sys.executable, "-m", "nexvar", *words, "--fasta", str(fasta.path), "-o", str(out)]
    here = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}  # threads change the last bits of a sum
    subprocess.run(command, check=True, capture_output=True, timeout=300, env=here)
    return pq.read_table(out).to_pydict()


def test_scores_of_fifty_variants(client, model, fasta, variants, tmp_path):
    rows = client.post("/api/v1/score", json={"variants": variants}).json()["rows"]
    python = list(model.score_variants(variants, fasta))
    table = command_line(tmp_path, fasta, "score", *variants)
    assert len(rows) == len(python) == len(table["LLR"]) == 50
    for column in ("llr", "llr_fwd", "llr_rev"):
        over_http = [row[column] for row in rows]
        assert over_http == [getattr(row, column) for row in python]
        assert over_http == table[column.upper()]


def test_other_options_and_a_whole_region(client, model, fasta, variants, tmp_path):
    options = {"window": 256, "readouts": ["llr_sum", "cosine"], "strand": "forward", "pool": "site"}
    rows = client.post("/api/v1/score", json={"variants": variants[:5], "options": options}).json()["rows"]
    python = list(model.score_variants(variants[:5], fasta, **{**options, "readouts": ("llr_sum", "cosine")}))
    assert [(row["llr"], row["extra"]) for row in rows] == [(row.llr, row.extra) for row in python]
    answer = client.post("/api/v1/saturate", json={"region": "chrM:3230-3249"}).json()
    words = ("saturate", "--region", "chrM:3230-3249", "--readout", "site", "--windowing", "tiled")
    table = command_line(tmp_path, fasta, *words)
    over_http = [score for base in answer["scores"] for score in base if score is not None]
    assert over_http == table["SITE_TILED"] and len(over_http) == 60


def test_sequences_their_bases_and_their_layers(client, model):
    texts = [BASES, BASES[::-1], "ACGT"]
    for reduce, both in (("mean", False), ("sum", True)):
        asked = {"sequences": texts, "reduce": reduce, "both_strands": both}
        python = model.score_sequences(texts, reduce_method=reduce, average_reverse_complement=both)
        assert client.post("/api/v1/score-sequences", json=asked).json()["scores"] == python
    said = client.post("/api/v1/likelihood", json={"sequences": texts, "strand": "both"}).json()["sequences"]
    for one, python in zip(said, model.likelihoods(texts, "both"), strict=True):
        for name, values in (("log_probs", python.log_probs_SL), ("entropies", python.entropies_SL)):
            assert np.array_equal(np.array(one[name], dtype=np.float32), values, equal_nan=True)
    layers = ["blocks.0.mlp.l3", "norm"]
    python = model.embed(texts, layers, strand="both")
    asked = {"sequences": texts, "layer": layers, "strand": "both"}
    over_http = client.post("/api/v1/embed", json=asked).json()["embeddings"]
    arrays = np.load(io.BytesIO(client.post("/api/v1/embed", json=asked | {"format": "npz"}).content))
    for layer in layers:
        assert np.array_equal(np.float32(over_http[layer]), python[layer].numpy())
        assert np.array_equal(arrays[layer], python[layer].numpy())


def test_a_seeded_generation(client, model):
    asked = {"prompts": ["ACGTACGT", "ACGTACGT", "TTGCA"], "n_tokens": 40, "seed": 11, "top_k": 0, "temperature": 0.8}
    over_http = client.post("/api/v1/generate", json=asked).json()
    python = model.generate(asked["prompts"], 40, 0.8, 0, seed=11)
    assert over_http["sequences"] == python.sequences
    assert np.array_equal(np.float32(over_http["logprobs"]), np.stack([row.numpy() for row in python.logprobs]))

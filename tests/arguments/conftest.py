"""A model of each kind, for all that is asked of their verbs."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from nexvar import NexVar
from nexvar.train import Predictor
from places import GOLDEN


@pytest.fixture(scope="module")
def model() -> NexVar:
    return NexVar("nexvar_mito", device="cpu")


@pytest.fixture(scope="module")
def masked() -> NexVar:
    return NexVar(GOLDEN / "caduceus_ph_tiny", device="cpu")


@pytest.fixture(scope="module")
def transformer() -> NexVar:
    return NexVar(GOLDEN / "nt_v2_tiny", device="cpu")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory) -> Predictor:
    """A head of zeros on a golden model."""
    folder = tmp_path_factory.mktemp("predictor") / "m"
    shutil.copytree(GOLDEN / "hyenadna_tiny", folder, ignore=shutil.ignore_patterns("io*"))
    width = NexVar(folder, device="cpu").embed(["ACGT"]).shape[1]
    save_file({"weight": torch.zeros(1, width), "bias": torch.zeros(1)}, folder / "head.safetensors")
    facts = {
        "kind": "regression",
        "per": "sequence",
        "pool": "mean",
        "names": ["label"],
        "centre": [0.0],
        "scale": [1.0],
    }
    (folder / "task.json").write_text(json.dumps(facts))
    return Predictor(folder, device="cpu")

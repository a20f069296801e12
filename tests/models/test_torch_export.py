"""torch.export of every architecture: the exported program gives what the model gives."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from nexvar.errors import NexVarError
from nexvar.evals.promises import answer, ids_of
from nexvar.weights.load import Loaded, load
from places import CHECKPOINTS

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", params=CHECKPOINTS, ids=lambda folder: folder.name)
def loaded(request) -> Loaded:
    return load(request.param, dtype="float32", device="cpu")


class Answer(nn.Module):
    """A program returns tensors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids_BL: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        loaded = SimpleNamespace(module=self.model)
        return answer(loaded, ids_BL, mask_BL=mask_BL)


@torch.no_grad()
def test_an_exported_program_gives_the_models_logits_for_other_tokens(loaded):
    ids, others = ids_of(loaded, 128), ids_of(loaded, 480, 100)
    others = others[:, : ids.shape[1]]
    program = torch.export.export(Answer(loaded.module), (ids,), strict=False).module()
    torch.testing.assert_close(program(others), answer(loaded, others), rtol=1e-4, atol=5e-5)


@torch.no_grad()
def test_an_exported_program_reads_its_mask(loaded):
    """Exported with one mask, run with another: nothing of the first is in the program."""
    ids = torch.cat([ids_of(loaded, 96, 7), ids_of(loaded, 96, 7).flip(1)])
    real = torch.ones_like(ids, dtype=torch.bool)
    program = torch.export.export(Answer(loaded.module), (ids, real), strict=False).module()
    torch.testing.assert_close(program(ids, real), answer(loaded, ids), rtol=1e-4, atol=5e-5)
    padded = real.clone()
    padded[1, ids.shape[1] - ids.shape[1] // 3 :] = False
    if not loaded.module.pads_safely:
        with pytest.raises(NexVarError, match="mask"):
            loaded.module(ids, mask_BL=padded)
        with pytest.raises(RuntimeError, match="equal length"):
            program(ids, padded)
        return
    ids[~padded] = loaded.tokenizer.pad_id
    wanted = answer(loaded, ids, mask_BL=padded)
    torch.testing.assert_close(program(ids, padded)[padded], wanted[padded], rtol=1e-4, atol=5e-5)


@torch.no_grad()
def test_tracks_by_species_are_refused_by_name(golden):
    """Logits of the same model are exported; which head a row's tracks come from is a branch on its value."""
    loaded = load(golden / "ntv3_post_tiny", dtype="float32", device="cpu")

    class Tracks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = loaded.module

        def forward(self, ids_BL: Tensor) -> Tensor:
            return self.model(ids_BL, heads=True).extras["bigwig_tracks_logits"]

    with pytest.raises(NexVarError, match="heads=False"):
        torch.export.export(Tracks(), (ids_of(loaded, 128),), strict=False)

"""Decoding in steps of fixed shape: the numbers of an ordinary decoding, recorded (by a stand-in) or not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nexvar import NexVarError
from nexvar.inference.core.sampling import Sampling
from nexvar.inference.generate import generate
from nexvar.models import striped_hyena, striped_hyena2
from nexvar.ops import static
from nexvar.tokenizers import ByteTokenizer
from nexvar.weights.load import Loaded
from tiny import tiny_card, tiny_loaded

SIZES = dict(hidden_size=32, num_attention_heads=2, inner_mlp_size=48)
MODELS = {
    "Evo 2": lambda: striped_hyena2.Model(
        striped_hyena2.Config(pattern="SDH*HD", hcs_filter_groups=4, hcm_filter_groups=4, **SIZES)
    ),
    "Evo 1": lambda: striped_hyena.Model(striped_hyena.Config(pattern="HH*H", **SIZES)),
}


def stand_in(function):
    """As a CUDA graph: runs for warming up, and once for the recording; a replay computes into the same tensor."""
    for _ in range(static.WARM_UPS):
        function()
    result = function()
    return lambda: result.copy_(function()), result


def refusing(function):
    function()
    raise RuntimeError("operation not permitted when stream is capturing\nmore")


@torch.inference_mode()
def decoded(model: nn.Module, capture: static.Capture | None, static_step: bool, rows: int = 2) -> list[Tensor]:
    ids_BL = torch.randint(65, 85, (rows, 40), generator=torch.Generator().manual_seed(1))
    cache = model.new_cache(rows, 40)
    model(ids_BL[:, :20], cache=cache)
    logits = [model(ids_BL[:, 20:21], cache=cache).logits]
    step = model.decoder(cache, capture) if static_step else lambda ids_B1: model(ids_B1, cache=cache).logits
    logits += [step(ids_BL[:, t : t + 1]).clone() for t in range(21, 30)]
    return [*logits, model(ids_BL[:, 30:], cache=cache).logits]  # and the cache goes on as any other


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("capture", [None, stand_in])
@pytest.mark.parametrize("name", MODELS)
def test_static_steps_are_the_ordinary_ones_bit_for_bit(name: str, capture, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().eval().to(dtype)
    for ours, expected in zip(decoded(model, capture, True), decoded(model, None, False), strict=True):
        assert torch.equal(ours, expected)


def test_what_cannot_be_recorded_runs_as_it_is_and_is_said() -> None:
    model = MODELS["Evo 2"]().eval()
    with pytest.warns(
        UserWarning, match=r"cannot be recorded \(operation not permitted when stream is capturing\): it"
    ):
        ours = decoded(model, refusing, True)
    assert all(map(torch.equal, ours, decoded(model, None, False)))


def test_a_full_cache_is_refused() -> None:
    model = MODELS["Evo 2"]().eval()
    with torch.inference_mode():
        cache = model.new_cache(1, 2)
        step = model.decoder(cache, None)
        step(torch.tensor([[65]]))
        step(torch.tensor([[66]]))
        with pytest.raises(NexVarError, match="do not fit into a cache of 2"):
            step(torch.tensor([[67]]))


def loaded(model: nn.Module) -> Loaded:
    return Loaded(model.eval(), ByteTokenizer(), tiny_card(), torch.device("cpu"), torch.float32)


def test_the_switch_without_cuda_says_so_and_changes_nothing(monkeypatch) -> None:
    model = loaded(MODELS["Evo 2"]())
    expected = generate(model, ["ACGTACGT"], Sampling(8), seed=1)
    monkeypatch.setenv(static.VARIABLE, "1")
    with pytest.warns(UserWarning, match="NEXVAR_CUDA_GRAPHS=1 needs all weights on one CUDA device: on cpu"):
        assert generate(model, ["ACGTACGT"], Sampling(8), seed=1).sequences == expected.sequences
    monkeypatch.setenv(static.VARIABLE, "yes")
    with pytest.raises(NexVarError, match="NEXVAR_CUDA_GRAPHS is 'yes'"):
        generate(model, ["ACGT"], Sampling(2), seed=1)


def test_generation_by_recorded_steps_gives_the_same_tokens_also_when_rows_end(monkeypatch) -> None:
    model, batches = loaded(MODELS["Evo 2"]()), []
    prompts, sampling = (
        ["ACGTACGT", "ACGTTTTT", "ACGGGGGG", "CCCCCCCC"],
        Sampling(30, alphabet="ACGT", stop=("TT", "AC")),
    )
    expected = generate(model, prompts, sampling, seed=1)

    def capture(function):
        replay, result = stand_in(function)
        batches.append(len(result))
        return replay, result

    monkeypatch.setattr(static, "asked_for", lambda module: True)
    monkeypatch.setattr(static, "cuda_graph", capture)
    made = generate(model, prompts, sampling, seed=1)
    assert (made.sequences, made.logprobs_mean) == (expected.sequences, expected.logprobs_mean)
    assert len(set(batches)) > 1, "no row ended before the others: nothing was tested"


def test_a_model_without_static_steps_is_said(monkeypatch) -> None:
    monkeypatch.setattr(static, "asked_for", lambda module: True)
    with pytest.warns(UserWarning, match="does nothing: tiny has no steps of fixed shape"):
        generate(tiny_loaded(), ["ACGT"], Sampling(4), seed=1)

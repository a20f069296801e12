"""Long inputs: chunk by chunk equals whole, and needs no more memory; forward, score, prefill and embedding."""

from __future__ import annotations

import pytest
import torch

from nexvar import NexVar
from nexvar.inference.core import pieces
from nexvar.models import caduceus, hyenadna, striped_hyena2
from places import CHECKPOINTS
from toy_genome import random_bases

BASES = random_bases(500, seed=5)
CAUSAL = [f for f in CHECKPOINTS if f.name in ("sh1_a", "sh1_b", "sh2_a", "sh2_b", "genos_tiny", "hyenadna_tiny")]
HYENA = [f for f in CHECKPOINTS if f.name.startswith("sh")]


@pytest.fixture(scope="module", params=CAUSAL, ids=lambda folder: folder.name)
def model(request) -> NexVar:
    return NexVar(request.param, dtype="float32", device="cpu")


@pytest.fixture(scope="module", params=HYENA, ids=lambda folder: folder.name)
def striped(request) -> NexVar:
    return NexVar(request.param, dtype="float32", device="cpu")


@torch.no_grad()
@pytest.mark.parametrize("logits", [True, False, slice(-1, None), slice(10, 140), slice(99, 100), slice(5, 5)])
@pytest.mark.parametrize("rows", [1, 2])
def test_a_chunked_forward_is_the_whole(striped, logits, rows, monkeypatch):
    text = BASES[:197]
    ids = torch.tensor([striped.tokenizer.tokenize(t) for t in (text, text[::-1])[:rows]])
    taps = (striped.model.tap_names[3], "norm")
    whole = striped.model(ids, taps=taps, logits=logits)
    seen, forward = [], type(striped.model).forward

    def counted(self, ids_BL=None, **options):
        given = ids_BL if ids_BL is not None else options["embeds_BLD"]
        seen.append(given.shape[1])
        return forward(self, ids_BL, **options)

    monkeypatch.setattr(type(striped.model), "forward", counted)
    monkeypatch.setitem(striped_hyena2.LONG, "cpu", 50 * rows)
    chunked = striped.model(ids, taps=taps, logits=logits)
    assert seen[:5] == [197, 50, 50, 50, 47]
    for name in taps:
        torch.testing.assert_close(chunked.taps[name], whole.taps[name], atol=5e-4, rtol=1e-4)
    if logits is False:
        assert chunked.logits is None
    else:
        torch.testing.assert_close(chunked.logits, whole.logits, atol=5e-4, rtol=1e-4)


def test_gradients_and_padding_take_the_whole(striped, monkeypatch):
    monkeypatch.setitem(striped_hyena2.LONG, "cpu", 20)
    ids = torch.tensor([striped.tokenizer.tokenize(BASES[:64])])
    striped.model(ids).logits.sum().backward()  # raises if a cache was in the way
    striped.model.zero_grad(set_to_none=True)
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[:, 60:] = False
    with torch.no_grad():
        torch.testing.assert_close(
            striped.model(ids, mask_BL=mask).logits[:, :60], striped.model(ids[:, :60]).logits, atol=5e-4, rtol=1e-4
        )


def test_scores_prefill_and_embeddings_in_chunks_are_those_of_the_whole(model, monkeypatch):
    texts = [BASES[:240], BASES[100:211]]
    scores, made = model.score_sequences(texts), model.generate(texts, 6, seed=1, return_logits=True)
    vectors = model.embed(texts)
    monkeypatch.setattr(pieces, "PIECE_TOKENS", 37)
    assert model.score_sequences(texts) == pytest.approx(scores, abs=1e-4)
    torch.testing.assert_close(model.embed(texts), vectors, atol=5e-4, rtol=1e-4)
    again = model.generate(texts, 6, seed=1, return_logits=True)
    assert again.token_ids == made.token_ids
    for a, b in zip(again.logits, made.logits, strict=True):
        torch.testing.assert_close(a, b, atol=5e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "folder", [f for f in CHECKPOINTS if f.name.startswith("caduceus") or f.name == "hyenadna_tiny"]
)
@torch.no_grad()
def test_pieces_of_caduceus_and_hyenadna_are_the_whole(folder, monkeypatch):
    model = NexVar(folder, dtype="float32", device="cpu")
    ids = torch.tensor([model.tokenizer.encode(BASES[:250], special=False).ids])
    whole = model.model(ids).logits
    monkeypatch.setattr(caduceus, "PIECE_VALUES", 1)
    monkeypatch.setattr(hyenadna, "ROWS", 1)
    monkeypatch.setattr(hyenadna, "KEPT_BYTES", 0)
    torch.testing.assert_close(model.model(ids).logits, whole, atol=5e-4, rtol=1e-4)


class _Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """The largest number of bytes of any tensor that an operation made."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return out


@torch.no_grad()
def test_no_tensor_grows_with_the_length(monkeypatch):
    """StripedHyena 2 without attention: 8 times the length makes no larger tensor, in any of the three ways."""
    config = striped_hyena2.Config(
        hidden_size=16, pattern="SDH", num_attention_heads=2, inner_mlp_size=48, hcm_filter_groups=4, vocab_size=512
    )
    module = striped_hyena2.Model(config).eval()
    monkeypatch.setitem(striped_hyena2.LONG, "cpu", 512)
    peaks = []
    for length in (1024, 8192):
        ids = torch.randint(65, 85, (1, length))
        with _Largest() as largest:
            module(ids, logits=slice(-1, None))
        peaks.append(largest.bytes)
    assert peaks[1] <= max(peaks[0], 8 * 8192 + 1)  # the ids themselves

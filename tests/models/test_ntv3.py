"""NTv3, pre- and post-trained: parity with both official codes, padding, species, tracks, bad input."""

from __future__ import annotations

import dataclasses

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from safetensors.torch import load_file
from torch import Tensor

from nexvar import NexVar
from nexvar.errors import NexVarError
from nexvar.inference.core.readout import coarser
from nexvar.inference.embed import embed, jax_attention_map
from nexvar.models._ntv3 import central
from nexvar.models.ntv3 import Model
from nexvar.weights.load import load as load_any
from places import GOLDEN
from tiny_ntv3 import TINY, close, load, random_model


@pytest.fixture(scope="module")
def pre() -> tuple[Model, dict[str, Tensor]]:
    return load("ntv3_pre_tiny")


@pytest.fixture(scope="module")
def post() -> tuple[Model, dict[str, Tensor]]:
    return load("ntv3_post_tiny")


def compare_all(model: Model, io: dict[str, Tensor], prefix: str, out) -> int:
    """Everything recorded under ``prefix`` that the output has; how many tensors that were."""
    renamed = {"species_logits": "condition_0_logits"}
    count = 0
    for key in (k for k in io if k.startswith(prefix)):
        name = renamed.get(key.removeprefix(prefix), key.removeprefix(prefix))
        if name == "logits":
            close(out.logits, io[key])
        elif name in model.tap_names:
            close(out.taps[name], io[key])
        elif name.startswith("attentions."):
            close(out.extras["attentions"][int(name[-1])], io[key])
        elif name.startswith("attention_map"):
            layer, number = int(name.split("_")[3]), int(name.split("_")[5])
            close(jax_attention_map(out.extras["attentions"], layer, number), io[key])
        elif name in out.extras:
            close(out.extras[name], io[key])
        else:
            assert name in ("loss", "bigwig_tracks_logits_output_track"), f"{key} is not compared"
            continue
        count += 1
    return count


# -- parity


@torch.no_grad()
@pytest.mark.parametrize("tag", ["full", "padded"])
@pytest.mark.parametrize(("reference", "tensors"), [("hf", 11), ("jax", 10)])
def test_pre_trained(pre, tag, reference, tensors):
    """Logits, every hidden state and attention map of both codes, <pad> tokens included."""
    model, io = pre
    model.reference = reference
    out = model(io[f"{tag}.input_ids"], taps=model.tap_names, attentions=(0, 1))
    model.reference = "hf"
    assert compare_all(model, io, f"{tag}.{reference}.", out) == tensors


@torch.no_grad()
def test_loss(pre):
    model, io = pre
    logits = model(io["full.input_ids"]).logits
    close(F.cross_entropy(logits.flatten(0, 1), io["full.labels"].flatten(), ignore_index=-100), io["full.hf.loss"][0])


@torch.no_grad()
@pytest.mark.parametrize("tag", ["mixed", "same"])
@pytest.mark.parametrize("reference", ["hf", "jax"])
def test_post_trained(post, tag, reference):
    """Species conditioning, tracks, annotation and condition logits of both codes."""
    model, io = post
    model.reference = reference
    out = model(io[f"{tag}.input_ids"], taps=model.tap_names, species_ids_B=io[f"{tag}.species_ids"], heads=True)
    model.reference = "hf"
    assert compare_all(model, io, f"{tag}.{reference}.", out) >= 6
    if (tag, reference) == ("same", "hf"):
        (species,) = set(io["same.species_ids"].tolist())
        name = model.config.track_species[species - model.config.num_species_special_tokens]
        tracks = len(model.config.bigwigs_per_species[name])
        own = out.extras["bigwig_tracks_logits"][..., :tracks]
        close(own, io["same.hf.bigwig_tracks_logits_output_track"])


def test_the_references_really_differ(post, pre):
    """Otherwise the tests above would not show that ``reference`` does anything."""
    _, io = post
    assert (io["mixed.hf.condition_0_logits"] - io["mixed.jax.species_logits"]).abs().max() > 1e-3
    _, io = pre
    assert (io["padded.hf.logits"] - io["padded.jax.logits"]).abs().max() > 1e-3


@pytest.mark.parametrize("folder", ["ntv3_pre_tiny", "ntv3_post_tiny"])
def test_as_a_user_loads_it(folder):
    model = NexVar(GOLDEN / folder, device="cpu", dtype="float32")
    assert (model.card.architecture, model.card.tokenizer) == ("ntv3", "ntv3")
    io = load_file(GOLDEN / folder / "io.safetensors")
    if folder == "ntv3_pre_tiny":
        outputs, taps = model(io["full.input_ids"], return_embeddings=True, layer_names=["embeddings_1"])
        close(outputs[0], io["full.hf.logits"])
        close(taps["embeddings_1"], io["full.jax.embeddings_1"])
    ids = torch.tensor([model.tokenizer.tokenize("ACGTNACGTACG")])
    assert torch.isfinite(model.model(ids, heads=False).logits).all()


# -- lengths and padding


@torch.no_grad()
@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=4),
    seed=st.integers(0, 2**16),
    kind=st.sampled_from(["repeat+conv", "conv_transpose"]),
)
def test_a_row_does_not_depend_on_its_batch(lengths, seed, kind):
    model = random_model(dataclasses.replace(TINY, deconv_upsample_type=kind), seed)
    longest = max(lengths)
    ids_BL = torch.randint(6, 11, (len(lengths), longest))
    mask_BL = torch.arange(longest) < torch.tensor(lengths)[:, None]
    taps = ("embedding", "embeddings_2", "embeddings_deconv_1")
    batch = model(ids_BL.masked_fill(~mask_BL, 1), mask_BL=mask_BL, taps=taps)
    for row, length in enumerate(lengths):
        alone = model(ids_BL[row : row + 1, :length], taps=taps)
        close(batch.logits[row : row + 1, :length], alone.logits, atol=1e-5)
        for tap in taps:
            positions = -(-length // model.tap_stride[tap])
            assert alone.taps[tap].shape[1] == positions
            close(batch.taps[tap][row : row + 1, :positions], alone.taps[tap], atol=1e-5)


@torch.no_grad()
def test_short_inputs_are_filled_up_with_n(pre):
    """As the authors advise; a length of its own multiple needs nothing."""
    model, _ = pre
    ids = torch.tensor([[6, 7, 8, 9, 6]])
    filled = torch.tensor([[6, 7, 8, 9, 6, 10, 10, 10]])
    close(model(ids).logits, model(filled).logits[:, :5], atol=1e-6)


@torch.no_grad()
def test_strides_of_taps(pre):
    model, _ = pre
    ids = torch.full((1, 64), 6)
    taps = model(ids, taps=model.tap_names).taps
    assert {name: 64 // tap.shape[1] for name, tap in taps.items()} == model.tap_stride
    assert model.last_hidden == "embedding" and model.tap_stride["embedding"] == 1
    assert model.tap_stride["core.transformer_blocks.0"] == model.config.unit == 8


@pytest.mark.parametrize("layer", ["core.transformer_blocks.0", "embedding", "hidden_states.1"])
def test_embeddings_of_every_resolution(layer):
    """Pooled vectors do not depend on the batch, also where a position stands for several bases."""
    loaded = load_any(GOLDEN / "ntv3_pre_tiny", device="cpu", dtype="float32")
    sequences = ["ACGTNACGTACGTTGCA" * 3, "ACG", "TTGACCATG"]
    together = embed(loaded, sequences, layer=layer, batch_tokens=10_000)
    alone = torch.cat([embed(loaded, [s], layer=layer, batch_tokens=10_000) for s in sequences])
    close(together, alone, atol=1e-5)
    close(coarser(torch.tensor([[True] * 9 + [False] * 3]), 8), torch.tensor([[True, True]]))


# -- species and tracks


@torch.no_grad()
def test_species_by_name_and_by_default(post):
    model, io = post
    ids = io["same.input_ids"][:2]
    human = model(ids, species_ids_B=model.species_ids("human"), heads=True)
    default = model(ids, heads=True)
    close(human.logits, default.logits, atol=0)
    both = model(ids, species_ids_B=model.species_ids(["human", "mouse"]), heads=True)
    close(both.logits[0], human.logits[0], atol=1e-5)
    assert (both.logits[1] - human.logits[1]).abs().max() > 1e-3
    tracks = both.extras["bigwig_tracks_logits"]
    assert tracks.shape == (2, 24, 5) and (tracks >= 0).all()
    assert not tracks[1, :, 3:].any(), "mouse has three tracks"
    zebrafish = model(ids, species_ids_B=model.species_ids("zebrafish"))
    assert not zebrafish.extras["bigwig_tracks_logits"].any(), "no tracks, no parameters, zeros"
    assert model(ids, logits=False, heads=True).extras == {} == model(ids).extras


def test_gradients_reach_the_tracks(post):
    model, io = post
    model.zero_grad()
    out = model(io["mixed.input_ids"], species_ids_B=io["mixed.species_ids"], heads=True)
    sum(extra.sum() for extra in out.extras.values()).backward()
    unreached = {name for name, p in model.named_parameters() if p.grad is None}
    assert all("lm_head" in name or "species_heads" in name for name in unreached)
    used = set(io["mixed.species_ids"].tolist())
    assert any(f"species_heads.{i - 6}.head.weight" not in unreached for i in used)
    model.zero_grad()


@given(length=st.integers(1, 4096), fraction=st.sampled_from([0.375, 0.5, 1.0, 0.1]))
def test_central_part(length, fraction):
    for reference in ("hf", "jax"):
        part = central(length, fraction, reference)
        assert 0 <= part.start <= part.stop <= length
        assert abs((length - part.stop) - part.start) <= 1
        assert abs((part.stop - part.start) - length * fraction) <= 2
    if length % 128 == 0:
        assert central(length, 0.375, "hf") == central(length, 0.375, "jax")


# -- bad input


def test_errors_say_what_to_do(pre, post):
    model, _ = pre
    ids = torch.full((1, 8), 6)
    with pytest.raises(NexVarError, match="did you mean"):
        model(ids, taps=("core.transformer_blocks.9",))
    with pytest.raises(NexVarError, match="no layer 2"):
        model(ids, attentions=(2,))
    with pytest.raises(NexVarError, match="no cache"):
        model(ids, cache=object())
    with pytest.raises(NexVarError, match="takes no species"):
        model(ids, species_ids_B=torch.tensor([6]))
    with pytest.raises(NexVarError, match="knows no species"):
        model.species_ids("human")
    with pytest.raises(NexVarError, match="'hf' or 'jax'"):
        model.reference = "tensorflow"
    model, _ = post
    with pytest.raises(NexVarError, match="no species 'yeti': one of arabidopsis, human, mouse"):
        model.species_ids("yeti")
    with pytest.raises(NexVarError, match="species token without tracks"):
        model(ids, species_ids_B=torch.tensor([2]))
    with pytest.raises(NexVarError, match="multiple of 4.*heads=False"):
        model(ids[:, :7], heads=True)
    nameless = random_model(dataclasses.replace(model.config, default_species=None))
    with pytest.raises(NexVarError, match="no species given"):
        nameless(ids)
    for wrong in (
        {"key_size": 5},
        {"deconv_upsample_type": "bilinear"},
        {"deconv_phase": "left"},
        {"keep_target_center_fraction": 0.0},
        {"bigwigs_per_species": {"human": ["a"]}},
    ):
        with pytest.raises(NexVarError):
            dataclasses.replace(TINY, **wrong)

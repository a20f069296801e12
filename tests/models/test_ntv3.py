"""NTv3, pre- and post-trained: parity with both official codes, padding, species, tracks; the U-Net's fast paths."""

from __future__ import annotations

import dataclasses
import json

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from safetensors.torch import load_file
from torch import Tensor

from nexvar import NexVar, cards, models
from nexvar.errors import NexVarError
from nexvar.inference.core.readout import coarser
from nexvar.inference.embed import embed
from nexvar.models.ntv3 import Config, Model, central, convert, matches
from nexvar.models.nucleotide_transformer import jax_attention_map
from nexvar.ops import unet
from nexvar.ops.conv1d import conv1d, conv1d_naive, upsample_conv1d_naive, upsample_kernel
from nexvar.weights.load import build, compare_config, make_config
from nexvar.weights.load import load as load_any
from places import GOLDEN

TINY = Config(
    num_downsamples=2, attention_heads=2, key_size=4, token_embed_dim=3, conv_init_embed_dim=6, embed_dim=8,
    ffn_embed_dim=10, num_layers=2,
)  # fmt: skip


def official(folder: str) -> dict:
    return json.loads((GOLDEN / folder / "config.json").read_text())


def load(folder: str) -> tuple[Model, dict[str, Tensor]]:
    config = Config.from_official(official(folder))
    with torch.device("meta"):
        model = Model(config)
    state = load_file(GOLDEN / folder / "weights.safetensors")
    model.load_state_dict(convert(state, config), strict=True, assign=True)
    model.reset_buffers()
    return model.eval(), load_file(GOLDEN / folder / "io.safetensors")


@pytest.fixture(scope="module")
def pre() -> tuple[Model, dict[str, Tensor]]:
    return load("ntv3_pre_tiny")


@pytest.fixture(scope="module")
def post() -> tuple[Model, dict[str, Tensor]]:
    return load("ntv3_post_tiny")


def random_model(config: Config, seed: int = 0) -> Model:
    """Every parameter random: modulation layers too, which a fresh network might leave at zero."""
    torch.manual_seed(seed)
    model = Model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    return model.eval()


def close(ours: Tensor, theirs: Tensor, atol: float = 1e-4) -> None:
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)


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


# -- other options: both kinds of upsampling, several conditions, no skips


def reference_forward(model: Model, ids_BL: Tensor, conditions: list[Tensor], masks: list[Tensor | None]) -> Tensor:
    """The docstring's picture, plainly: channels first, no pieces, no shared work."""
    config, core = model.config, model.core

    def norm(x_BLC, layer):
        x = F.layer_norm(x_BLC, x_BLC.shape[-1:], layer.weight, layer.bias, layer.eps)
        scale, shift = torch.ones(()), torch.zeros(())
        for vector, mask, modulation in zip(conditions, masks, layer.modulation_layers or (), strict=False):
            t, s = modulation(vector)[:, None].chunk(2, -1)
            keep = torch.ones(len(vector), 1, 1) if mask is None else mask[:, None, None].float()
            scale, shift = scale * (1 + s * keep), shift + t * keep
        return x * scale + shift

    def gate(layers):
        total = torch.ones(())
        for vector, mask, modulation in zip(conditions, masks, layers or (), strict=False):
            keep = torch.ones(len(vector), 1, 1) if mask is None else mask[:, None, None].float()
            total = total * (1 + modulation(vector)[:, None] * keep)
        return total

    def gelu(x):
        return F.gelu(x, approximate="tanh")

    def conv(x_BLC, layer, transposed=False):
        weight = layer.weight.transpose(0, 1) if transposed else layer.weight
        return F.conv1d(x_BLC.mT, weight, layer.bias, padding=weight.shape[-1] // 2).mT

    def residual(x, block, transposed):
        branch = gelu(conv(norm(x, block.conv_block.layer_norm), block.conv_block.conv, transposed))
        return x + gate(block.modulation_layers) * branch

    x = gelu(conv(core.embed_layer(ids_BL), core.stem.conv))
    skips = []
    for block in core.conv_tower_blocks:
        skips.append(x)
        x = residual(gelu(conv(norm(x, block.conv.layer_norm), block.conv.conv)), block.res_conv, False)
        x = F.avg_pool1d(x.mT, 2).mT
    for block in core.transformer_blocks:
        a, h = block.sa_layer, norm(x, block.self_attention_layer_norm)
        q, k, v = (
            p.linear(h).unflatten(-1, (a.heads, -1)).transpose(1, 2) for p in (a.query_head, a.key_head, a.value_head)
        )
        angles = torch.outer(
            torch.arange(x.shape[1]).float(), 10_000.0 ** -(torch.arange(0, q.shape[-1], 2) / q.shape[-1])
        )
        turn = torch.polar(torch.ones_like(angles), angles)
        q, k = (torch.complex(*t.chunk(2, -1)) * turn for t in (q, k))
        q, k = (torch.cat([t.real, t.imag], -1) for t in (q, k))
        x = x + a.mha_output((torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v).transpose(1, 2).flatten(2))
        g, value = block.fc1(norm(x, block.final_layer_norm)).chunk(2, -1)
        x = x + gate(block.modulation_layers) * block.fc2(F.silu(g) * value)
    for block in core.deconv_tower_blocks:
        h = norm(x, block.conv.layer_norm)
        if config.deconv_upsample_type == "repeat+conv":
            y = conv(h.repeat_interleave(2, 1), block.conv.conv)
        else:
            first = 1 if config.deconv_phase == "odd" else 0
            up = h.new_zeros(len(h), 2 * h.shape[1], h.shape[2])
            up[:, first::2] = h
            y = conv(up, block.conv.conv, transposed=True)
        x = residual(gelu(y), block.res_conv, True)
        if config.use_skip_connection:
            x = x + skips.pop()
    h = gelu(x)
    for layer in core.lm_head.hidden_layers:
        h = gelu(layer(h))
    return core.lm_head.head(h)


OPTIONS = {
    "repeat": {},
    "zeros, odd": {"deconv_upsample_type": "conv_transpose"},
    "zeros, even": {"deconv_upsample_type": "conv_transpose", "deconv_phase": "even"},
    "no skips, head layers": {"use_skip_connection": False, "num_hidden_layers_head": 2},
    "other sizes": {"num_downsamples": 3, "conv_init_embed_dim": 5, "embed_dim": 12, "attention_heads": 3},
    "two conditions": {"conditions_vocab_size": (7, 4)},
    "two conditions, zeros": {"conditions_vocab_size": (7, 4), "deconv_upsample_type": "conv_transpose"},
}


@torch.no_grad()
@pytest.mark.parametrize("name", OPTIONS)
def test_options_against_the_plain_picture(name):
    config = dataclasses.replace(TINY, **OPTIONS[name])
    model = random_model(config)
    ids = torch.randint(0, 11, (3, 48))
    given_ids = [torch.randint(0, size, (3,)) for size in config.conditions_vocab_size]
    masks: list[Tensor | None] = [None, torch.tensor([True, False, True])][: len(given_ids)]
    conditions = [table(i) for table, i in zip(getattr(model.core, "cond_tables", ()), given_ids, strict=True)]
    out = model(ids, condition_ids=given_ids or None, condition_masks=masks or None, heads=True)
    close(out.logits, reference_forward(model, ids, conditions, masks), atol=2e-5)
    assert set(out.extras) == {f"condition_{i}_logits" for i in range(len(given_ids))}


@torch.no_grad()
@pytest.mark.parametrize("name", OPTIONS)
def test_pieces_give_what_one_piece_gives(monkeypatch, name):
    """However small the pieces that the towers run over, and with gradients (one piece)."""
    config = dataclasses.replace(TINY, **OPTIONS[name])
    model, ids = random_model(config), torch.randint(0, 11, (2, 200))
    kwargs = {"condition_ids": [torch.tensor([1, 2])] * len(config.conditions_vocab_size) or None}
    with torch.enable_grad():
        whole = model(ids, taps=model.tap_names, **kwargs)
    monkeypatch.setattr(unet, "PIECE_ELEMENTS", {"cpu": 1, "cuda": 1})
    pieces = model(ids, taps=model.tap_names, **kwargs)
    close(pieces.logits, whole.logits, atol=2e-5)
    for tap in model.tap_names:
        close(pieces.taps[tap], whole.taps[tap], atol=2e-5)


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


# -- checkpoints


def test_which_configs_are_ours():
    for folder in ("ntv3_pre_tiny", "ntv3_post_tiny"):
        assert matches(official(folder)) and models.infer(official(folder)) == "ntv3"
    assert not matches({"model_type": "ntv3_tracks"}), "a later release, of another format"
    config = Config.from_official({"model_type": "ntv3"})
    assert config == Config(), "what config.json does not say is the hub class's default"
    named = {"hidden_size": 24, "num_attention_heads": 3, "vocab_size": 11, "num_hidden_layers": 5}
    config = Config.from_official(named | {"deconv_upsample_type": "DeConvUpsampleType.REPEAT_CONV"})
    assert (config.embed_dim, config.key_size, config.num_layers) == (24, 8, 5)
    assert config.deconv_upsample_type == "repeat+conv"


def test_buffers_of_a_checkpoint_saved_after_a_forward(pre):
    model, _ = pre
    state = load_file(GOLDEN / "ntv3_pre_tiny" / "weights.safetensors")
    state["core.transformer_blocks.0.sa_layer.rotary_embedding.cos_cached"] = torch.zeros(1, 8, 1, 4)
    assert set(convert(state, model.config)) == set(model.state_dict())


def test_channels_between_the_towers():
    config = dataclasses.replace(TINY, conv_init_embed_dim=5, embed_dim=12, attention_heads=3, num_downsamples=3)
    import numpy as np

    assert config.channels == np.linspace(5, 12, 4).astype(int).tolist() == [5, 7, 9, 12]


SIZES = {  # published: layers, width, heads, MLP width, downsamples
    "8m": (2, 256, 8, 1024, 7),
    "100m": (6, 768, 12, 3072, 7),
    "650m": (12, 1536, 24, 6144, 7),
    "5downsample": (12, 1536, 24, 6144, 5),
}
NAMES = [
    *(f"NTv3_{size}_pre{context}" for size in ("8M", "100M", "650M", "5downsample") for context in ("", "_8kb")),
    *(f"NTv3_{size}_post{context}" for size in ("100M", "650M", "5downsample") for context in ("", "_131kb")),
]


@pytest.mark.parametrize("name", NAMES)
def test_full_size(name):
    """Every released model on the meta device."""
    card = cards.get(f"InstaDeepAI/{name}")
    assert card is cards.get(name) and card.architecture == "ntv3" and card.config_file
    config = make_config("ntv3", card.config, name)
    shape = (config.num_layers, config.embed_dim, config.attention_heads, config.ffn_embed_dim, config.num_downsamples)
    assert shape == SIZES[name.split("_")[1].lower()]
    assert sum(p.numel() for p in build("ntv3", config).parameters()) == card.parameters
    assert card.context == {"8kb": 8192, "131kb": 131_072}.get(name.rsplit("_", 1)[1], 1_048_576)


def test_published_totals():
    """model_parameter_count of two hub READMEs. The second with the paper's heads: 15,889 tracks of 9 species and 21
    elements, for 24 species; how the tracks are shared out over species does not change the total."""
    assert sum(p.numel() for p in build("ntv3", Config()).parameters()) == 7_692_475
    body = make_config("ntv3", cards.get("NTv3_5downsample_post_131kb").config, "card")
    tracks = {f"species {i}": [f"{i}.{j}" for j in range(1766 if i < 4 else 1765)] for i in range(9)}
    config = dataclasses.replace(
        body,
        bigwigs_per_species=tracks,
        species_to_token_id={name: 6 + i for i, name in enumerate(tracks)} | {"human": 15},
        bed_elements_names=tuple(f"element {i}" for i in range(21)),
    )
    assert sum(map(len, tracks.values())) == 15_889
    assert sum(p.numel() for p in build("ntv3", config).parameters()) == 622_605_044


def test_config_json_completes_the_card(tmp_path):
    """Track names come from config.json; what the card says itself must agree."""
    card = cards.get("NTv3_100M_post")
    ours = make_config("ntv3", card.config, card.name)
    values = {k: v for k, v in dataclasses.asdict(ours).items() if k != "default_species"} | {
        "model_type": "ntv3_posttrained",
        "bigwigs_per_species": {"human": ["a", "b"]},
        "species_to_token_id": {"human": 6},
        "deconv_upsample_type": "conv_transpose",
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    config = compare_config(card, ours, path)
    assert config.bigwigs_per_species == {"human": ["a", "b"]}
    assert config.deconv_upsample_type == "conv_transpose"
    path.write_text(json.dumps(values | {"num_layers": 7}))
    with pytest.raises(NexVarError, match="num_layers is 7, the card says 6"):
        compare_config(card, ours, path)
    path.unlink()
    with pytest.raises(NexVarError, match="needs it"):
        compare_config(card, ours, path)


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


# -- the convolutions


@given(
    seed=st.integers(0, 2**16),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4)),
    width=st.sampled_from([1, 3, 5, 15]),
)
def test_convolution_equals_its_definition(seed, shape, width):
    g = torch.Generator().manual_seed(seed)
    batch, length, inputs, outputs = shape
    x, weight = torch.randn(batch, length, inputs, generator=g), torch.randn(outputs, inputs, width, generator=g)
    bias = torch.randn(outputs, generator=g)
    expected = F.conv1d(x.mT, weight, bias, padding=width // 2).mT
    close(conv1d(x, weight, bias), expected, atol=2e-5)
    close(conv1d_naive(x, weight, bias), expected, atol=2e-5)


@given(
    seed=st.integers(0, 2**16),
    length=st.integers(1, 9),
    kind=st.sampled_from(["repeat", "zeros"]),
    phase=st.sampled_from(["odd", "even"]),
)
def test_doubling_convolution_equals_its_definition(seed, length, kind, phase):
    g = torch.Generator().manual_seed(seed)
    x, weight, bias = torch.randn(2, length, 3, generator=g), torch.randn(4, 3, 5, generator=g), torch.randn(4)
    ours = conv1d(x, *upsample_kernel(weight, bias, kind=kind, phase=phase)).reshape(2, 2 * length, 4)
    close(ours, upsample_conv1d_naive(x, weight, bias, kind=kind, phase=phase), atol=2e-5)

"""Layers of the Evo 2 NIM: both dialects' names, what they are made of, shapes, and the archive."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from nexvar.errors import NexVarError
from nexvar.serve.routes import nim_layers
from nexvar.weights.load import load
from places import GOLDEN
from tiny import tiny_loaded
from tiny_evo2 import tiny_evo2

EVO2 = tiny_evo2()
MITO = load("nexvar_mito", device="cpu")
SEQUENCE = "ACTGACTGACTGA"
L = len(SEQUENCE)
SAME = {  # Megatron -> taps, and whether there is another axis order
    "embedding": ("embedding_layer",),
    "decoder.layers.20": ("blocks.20",),
    "decoder.layers.20.mlp": ("blocks.20.mlp",),
    "decoder.layers.20.mlp.linear_fc1": ("blocks.20.mlp.l1", "blocks.20.mlp.l2"),
    "decoder.layers.20.mlp.linear_fc2": ("blocks.20.mlp.l3",),
    "decoder.layers.3.self_attention": ("blocks.3.inner_mha_cls",),
    "decoder.layers.3.self_attention.linear_qkv": ("blocks.3.inner_mha_cls.Wqkv",),
    "decoder.layers.2.mixer": ("blocks.2.out_filter_dense",),
    "decoder.layers.2.mixer.dense_projection": ("blocks.2.projections",),
    "decoder.final_norm": ("norm",),
}


def forward(loaded, names, sequence=SEQUENCE, max_bytes=1 << 20):
    return nim_layers.forward(loaded, sequence, nim_layers.layers(loaded, names), max_bytes)


def tapped(loaded, *taps, sequence=SEQUENCE):
    """(1, L, D) by the model's own forward."""
    ids = torch.tensor([loaded.tokenizer.encode(sequence, special=False).ids])
    with torch.no_grad():
        out = loaded.module(ids, taps=taps)
    return (out.logits if not taps else torch.cat([out.taps[tap] for tap in taps], -1)).float()


def test_every_name_of_megatron_is_the_taps_it_stands_for_bit_by_bit_and_length_first():
    made = forward(EVO2, list(SAME))
    assert set(made) == {f"{name}.output" for name in SAME}
    for name, taps in SAME.items():
        values = made[f"{name}.output"]
        assert values.dtype == np.float32 and values.shape[:2] == (L, 1)
        assert np.array_equal(values[:, 0], tapped(EVO2, *taps)[0].numpy())


def test_every_tap_is_itself_bit_by_bit():
    names = EVO2.module.tap_names
    made = forward(EVO2, names)
    with torch.no_grad():
        taps = EVO2.module(torch.tensor([list(SEQUENCE.encode())]), taps=names).taps
    assert all(np.array_equal(made[f"{name}.output"], taps[name].numpy()) for name in names)


@pytest.mark.parametrize("loaded", [EVO2, MITO], ids=["512", "128"])
def test_logits_have_512_ascii_columns_in_both_dialects(loaded):
    made = forward(loaded, ["output_layer", "unembed"])
    logits = tapped(loaded)
    assert made["output_layer.output"].shape == (L, 1, 512)
    assert made["unembed.output"].shape == (1, L, 512)
    assert np.array_equal(made["output_layer.output"][:, 0], made["unembed.output"][0])
    for letter in "ACGTN":
        assert np.array_equal(made["unembed.output"][0, :, ord(letter)], logits[0, :, ord(letter)].numpy())
    others = [code for code in range(512) if chr(code) not in "ACGTN"]
    if logits.shape[-1] == 512:
        assert np.array_equal(made["unembed.output"], logits.numpy())
    else:
        assert (made["unembed.output"][0][:, others] == -1e4).all()


@pytest.mark.parametrize("folder", ["hyenadna_tiny", "genos_tiny", "sh1_a"])
def test_other_architectures_answer_to_the_names_of_the_whole_model_and_to_their_own(folder):
    loaded = load(GOLDEN / folder, device="cpu")
    own = loaded.module.tap_names[0]
    made = forward(loaded, ["embedding", "decoder.final_norm", "norm", "unembed", own], "ACGTACGT", 1 << 24)
    assert np.array_equal(
        made["decoder.final_norm.output"][:, 0], tapped(loaded, loaded.module.last_hidden, sequence="ACGTACGT")[0]
    )
    assert made["unembed.output"].shape == (1, 8, 512)
    logits = tapped(loaded, sequence="ACGTACGT")[0]
    for letter in "ACGT":
        column = loaded.tokenizer.encode(letter, special=False).ids[0]
        assert np.array_equal(made["unembed.output"][0, :, ord(letter)], logits[:, column])


@pytest.mark.parametrize(
    "name",
    ["blocks.99", "decoder.layers.24", "decoder.layers.2.self_attention", "decoder.layers.3.mixer", "layers.1", "",
     "a" * 500, "decoder.layers.1.", "decoder.layers.١", "../../etc/passwd", "output_layer.output",
     "decoder.layers.1.mlp.linear_fc3"],
)  # fmt: skip
def test_a_name_that_does_not_exist_says_so_in_the_words_that_clients_look_for(name):
    with pytest.raises(NexVarError) as caught:
        forward(EVO2, ["embedding", name])
    assert f"has no attribute '{name[:40]}" in str(caught.value)
    assert str(caught.value).startswith("output_layers: ") and len(str(caught.value)) < 500


def test_what_would_be_too_large_is_refused_before_it_is_computed():
    loaded = tiny_loaded()
    bytes_of_one = 512 * 4 + 16 * 4  # unembed and gru
    assert forward(loaded, ["unembed", "gru"], max_bytes=bytes_of_one * L)
    loaded.module.tokens = 0
    with pytest.raises(NexVarError, match="--nim-max-mb"):
        forward(loaded, ["unembed", "gru"], max_bytes=bytes_of_one * L - 1)
    assert loaded.module.tokens == 1  # it told the widths


def test_models_whose_tokens_are_no_single_bases_are_refused():
    loaded = load(GOLDEN / "nt_v2_tiny", device="cpu")
    with pytest.raises(NexVarError, match="span several bases"):
        forward(loaded, [loaded.module.last_hidden])


def test_values_that_overflow_are_refused():
    loaded = tiny_loaded()
    loaded.module.embed.weight.data.fill_(float("nan"))
    with pytest.raises(NexVarError, match="layer gru overflows in float32"):
        forward(loaded, ["gru"])


@pytest.mark.parametrize("compress", [False, True])
def test_the_archive_opens_without_pickle(compress):
    made = forward(EVO2, ["output_layer", "blocks.3.mlp.l3"])
    packed = nim_layers.archive(made, compress=compress)
    with np.load(io.BytesIO(packed), allow_pickle=False) as opened:
        assert set(opened.files) == set(made)
        assert all(np.array_equal(opened[key], made[key]) for key in made)
    assert compress == (len(packed) < sum(values.nbytes for values in made.values()))

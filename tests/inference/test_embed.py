"""Embeddings: every architecture and layer, batches that change nothing, strands, golden values, bad input."""

from __future__ import annotations

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from nexvar import NexVar
from nexvar.errors import NexVarError
from nexvar.genome.reference import reverse_complement
from nexvar.inference import embed
from nexvar.inference.core import pieces
from nexvar.models.nucleotide_transformer import JAX_LAYER_NORM_EPS
from places import CHECKPOINTS, GOLDEN
from tiny import tiny_loaded
from toy_genome import random_bases

BASES = random_bases(600, seed=3)


@pytest.fixture(scope="module", params=CHECKPOINTS, ids=lambda folder: folder.name)
def model(request) -> NexVar:
    return NexVar(request.param, dtype="float32", device="cpu")


def every_layer(model: NexVar) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*model.model.tap_names, model.model.last_hidden)))


@torch.no_grad()
def rows_by_hand(model: NexVar, text: str, layers: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """One sequence alone through the module; a row for each token (or U-Net position) that covers a base."""
    encoding = model.tokenizer.encode(text, special=model.card.special_tokens)
    taps = model.model(torch.tensor([encoding.ids]), taps=layers, logits=False).taps
    covers = [start < end for start, end in encoding.spans]
    rows = {}
    for layer in layers:
        stride = getattr(model.model, "tap_stride", {}).get(layer, 1)
        real = [any(covers[i : i + stride]) for i in range(0, len(covers), stride)]
        rows[layer] = taps[layer][0].float()[real]
    return rows


def test_every_layer_pools_the_tokens_of_each_sequence_alone(model):
    """Unequal lengths in one batch: all layers, all pools, against one module call per sequence."""
    texts = [BASES[:97], BASES[100:123], BASES[5:102]]
    layers = every_layer(model)
    pooled = {pool: model.embed(texts, layers, pool) for pool in ("mean", "max", "last", "none")}
    for i, text in enumerate(texts):
        for layer, rows in rows_by_hand(model, text, layers).items():
            expected = {"mean": rows.mean(0), "max": rows.amax(0), "last": rows[-1], "none": rows}
            for pool, value in expected.items():
                assert pooled[pool][layer][i].dtype == torch.float32
                torch.testing.assert_close(pooled[pool][layer][i], value, atol=2e-4, rtol=1e-4)


@settings(max_examples=4)
@given(st.lists(st.text("ACGTN", min_size=1, max_size=90), min_size=1, max_size=4), st.sampled_from([1, 100, 10_000]))
def test_an_embedding_does_not_depend_on_the_batch(model, texts, batch_tokens):
    together = model.embed(texts, pool="none", batch_tokens=batch_tokens)
    for text, rows in zip(texts, together, strict=True):
        torch.testing.assert_close(rows, model.embed([text], pool="none")[0], atol=2e-4, rtol=1e-4)


def test_spans_say_which_bases_a_row_covers(model):
    text = BASES[:50] + "N" + BASES[50:75]
    for layer, (rows,) in model.embed([text], every_layer(model), "none").items():
        spans = embed.spans(model.loaded, text, layer)
        assert len(spans) == len(rows)
        assert spans[0][0] == 0
        assert spans[-1][1] == len(text)
        assert all(a[1] == b[0] for a, b in zip(spans, spans[1:], strict=False))


def test_strands(model):
    text = BASES[:96]  # a multiple of 3, 6 and of the U-Nets' unit
    forward, reverse, both = (model.embed([text], strand=strand) for strand in ("forward", "reverse", "both"))
    torch.testing.assert_close(reverse, model.embed([reverse_complement(text)]))
    torch.testing.assert_close(both, (forward + reverse) / 2)
    if model.tokenizer.base_ids() is not None:
        rows = model.embed([text], pool="none", strand="reverse")[0]
        torch.testing.assert_close(rows, model.embed([reverse_complement(text)], pool="none")[0].flip(0))
        both = model.embed([text], pool="none", strand="both")[0]
        torch.testing.assert_close(both, (rows + model.embed([text], pool="none")[0]) / 2)


def test_tokens_of_other_bases_are_not_averaged():
    model = NexVar(GOLDEN / "nt_v2_tiny", dtype="float32", device="cpu")
    assert len(model.embed([BASES[:96]], pool="none", strand="both")[0]) == 16
    with pytest.raises(NexVarError, match="different bases"):
        model.embed([BASES[:97]], pool="none", strand="both")


def test_cls_is_the_first_token_or_an_error(model):
    if not hasattr(model.tokenizer, "cls_id"):
        with pytest.raises(NexVarError, match="CLS"):
            model.embed([BASES[:96]], pool="cls")
        return
    ids = torch.tensor([model.tokenizer.tokenize(BASES[:96])])
    assert ids[0, 0] == model.tokenizer.cls_id
    with torch.no_grad():
        hidden = model.model(ids, taps=(model.model.last_hidden,)).taps[model.model.last_hidden]
    torch.testing.assert_close(model.embed([BASES[:96]], pool="cls"), hidden[:, 0].float(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pool", ["mean", "max", "last", "none"])
def test_long_sequences_in_pieces_are_the_whole(model, pool, monkeypatch):
    if model.card.objective != "causal":
        pytest.skip("a masked model has no cache")
    texts = [BASES[:120], BASES[:91], BASES[50:61]]
    whole = model.embed(texts, pool=pool)
    monkeypatch.setattr(pieces, "PIECE_TOKENS", 29)
    torch.testing.assert_close(model.embed(texts, pool=pool), whole, atol=5e-4, rtol=1e-4)


# -- the JAX package's convention


def sentence(model: NexVar, ids: list[int]) -> str:
    """The text of a golden row, its <mask> tokens written out."""
    special = {model.tokenizer.cls_id, model.tokenizer.pad_id}
    return "".join(model.tokenizer.tokens[i] for i in ids if i not in special)


@pytest.mark.parametrize("folder", ["nt_v1_tiny", "nt_v2_tiny", "nt_v2_3mer_tiny"])
def test_the_jax_packages_embeddings_and_attention_maps(folder):
    model = NexVar(GOLDEN / folder, dtype="float32", device="cpu")
    model.model.set_layer_norm_eps(JAX_LAYER_NORM_EPS)
    io = load_file(GOLDEN / folder / "io.safetensors")
    texts = [sentence(model, ids) for ids in io["input_ids"].tolist()]
    names = [f"embeddings_{k}" for k in range(1, model.model.config.num_hidden_layers + 1)]
    by_token = model.embed(texts, names, "none")
    cls = model.embed(texts, names, "cls")
    for row, ids in enumerate(io["input_ids"].tolist()):
        bases = torch.tensor([i not in model.tokenizer.special_ids for i in ids])
        for name in names:
            theirs = io[f"jax.{name}"][row]
            torch.testing.assert_close(by_token[name][row], theirs[bases], atol=2e-4, rtol=1e-4)
            torch.testing.assert_close(cls[name][row], theirs[0], atol=2e-4, rtol=1e-4)
            torch.testing.assert_close(model.embed([texts[row]], name)[0], theirs[bases].mean(0), atol=2e-4, rtol=1e-4)
    keys = [tuple(map(int, name.split("_")[3::2])) for name in io if name.startswith("jax.attention_map")]
    assert keys
    maps = model.attention_maps(texts, attention_maps_to_save=keys)
    for layer, number in keys:
        name = f"attention_map_layer_{layer}_number_{number}"
        for row, ours in enumerate(maps[name]):
            theirs = io[f"jax.{name}"][row, : len(ours), : len(ours)]
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    true_heads = model.attention_maps(texts, [0])[0][0]
    torch.testing.assert_close(true_heads.sum(-1), torch.ones(true_heads.shape[:2]))


def test_the_jax_packages_embeddings_and_attention_maps_of_ntv3():
    model = NexVar(GOLDEN / "ntv3_pre_tiny", dtype="float32", device="cpu")
    io = load_file(GOLDEN / "ntv3_pre_tiny" / "io.safetensors")
    texts = ["".join(model.tokenizer.tokens[i] for i in ids) for ids in io["full.input_ids"].tolist()]
    layers = [name.removeprefix("full.jax.") for name in io if name.startswith("full.jax.embedding")]
    assert {"embedding", "embeddings_1", "embeddings_deconv_2"} <= set(layers)
    for name, rows in model.embed(texts, layers, "none").items():
        for ours, theirs, ids in zip(rows, io[f"full.jax.{name}"], io["full.input_ids"].tolist(), strict=True):
            bases = torch.tensor([i not in model.tokenizer.special_ids for i in ids])
            covered = bases.unflatten(0, (len(theirs), -1)).any(-1)  # positions of special tokens alone are left out
            torch.testing.assert_close(ours, theirs[covered], atol=2e-4, rtol=1e-4)
    (key,) = [k for k in io if k.startswith("full.jax.attention_map_layer_2")]
    maps = model.attention_maps(texts, attention_maps_to_save=[(2, 3)])["attention_map_layer_2_number_3"]
    for ours, theirs in zip(maps, io[key], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_attention_maps_of_every_transformer_are_distributions(model):
    if "attentions" not in inspect.signature(model.model.forward).parameters:
        with pytest.raises(NexVarError, match="no attention maps"):
            model.attention_maps([BASES[:64]], [0])
        return
    for one in model.attention_maps([BASES[:64], BASES[:96]], [0, 1])[1]:
        torch.testing.assert_close(one.sum(-1), torch.ones(one.shape[:2]), atol=1e-5, rtol=0)
    with pytest.raises(NexVarError, match="no layer 99"):
        model.attention_maps([BASES[:64]], [99])


def test_models_without_attention_maps_say_so():
    with pytest.raises(NexVarError, match="no attention maps"):
        NexVar(GOLDEN / "hyenadna_tiny", device="cpu").attention_maps(["ACGT"], [0])


# -- bad input


@pytest.mark.parametrize(
    ("seqs", "says"),
    [
        ("ACGT", "list"),
        ([""], "empty"),
        (["ACGT", 7], "seqs[1]"),
        (["ACGU"], "write T for U"),
        (["ACGR"], "write N"),
        (["MKVLEERTAL"], "protein"),
        (["AC GT"], "white space"),
        (["ACé"], "not A, C, G, T or N"),
        (["ACG7"], "position 4"),
    ],
)
def test_what_is_no_dna_is_refused_by_every_tokenizer(model, seqs, says):
    with pytest.raises(NexVarError) as error:
        model.embed(seqs)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_lower_case_is_read_as_upper_case(model):
    torch.testing.assert_close(model.embed(["acgtnACGTTGCA" * 8]), model.embed(["ACGTNACGTTGCA" * 8]))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layer": "blocks.no_such"}, "did you mean"),
        ({"layer": []}, "no layer"),
        ({"pool": "median"}, "mean"),
        ({"strand": "antisense"}, "reverse"),
    ],
)
def test_bad_options_name_what_there_is(model, options, says):
    with pytest.raises(NexVarError, match=says):
        model.embed(["ACGT"], **options)


def test_longer_than_the_context():
    loaded = tiny_loaded(context=10)
    with pytest.raises(NexVarError, match="11 bases exceed the context of tiny, 10"):
        embed.embed(loaded, ["A" * 11])


def test_a_sequence_of_nothing_but_special_tokens():
    with pytest.raises(NexVarError, match="no base"):
        NexVar(GOLDEN / "nt_v2_tiny", device="cpu").embed(["ACGTAC", "<mask>"])


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_a_sequence_that_does_not_fit_is_one_line_and_a_batch_that_does_not_fit_is_halved(error, monkeypatch):
    loaded = tiny_loaded()
    whole, forward = embed.embed(loaded, ["ACGTT"] * 2 + ["ACG"]), loaded.module.forward

    def small(ids_BL, **options):
        if ids_BL.numel() > room:
            raise error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes.")
        return forward(ids_BL, **options)

    monkeypatch.setattr(loaded.module, "forward", small)
    room = 5
    torch.testing.assert_close(embed.embed(loaded, ["ACGTT"] * 2 + ["ACG"]), whole)
    room = 4
    with pytest.raises(NexVarError, match="5 tokens does not fit"):
        embed.embed(loaded, ["ACG", "ACGTT"])


def test_overflow_is_told():
    loaded = tiny_loaded()
    with torch.no_grad():
        loaded.module.embed.weight.fill_(float("nan"))
    with pytest.raises(NexVarError, match="overflow"):
        embed.embed(loaded, ["ACGT"])


def test_no_sequences():
    assert embed.embed(tiny_loaded(), []).shape[0] == 0

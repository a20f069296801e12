"""Nucleotide Transformer v1, v2, 3-mer and AgroNT: parity with both original codes, and what users lean on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from safetensors.torch import load_file
from torch import Tensor, nn

from nexvar import NexVar, cards, models, tokenizers
from nexvar.errors import NexVarError
from nexvar.inference.embed import jax_attention_map
from nexvar.models.layouts.nucleotide_transformer import convert, from_official, matches
from nexvar.models.nucleotide_transformer import JAX_LAYER_NORM_EPS, Config, Model
from nexvar.weights.load import build, make_config
from places import GOLDEN

FOLDERS = ("nt_v1_tiny", "nt_v2_tiny", "nt_v2_3mer_tiny")


def load(folder: str, **changes: object) -> Model:
    official = json.loads((GOLDEN / folder / "config.json").read_text())
    config = dataclasses.replace(from_official(official), **changes)
    with torch.device("meta"):
        model = Model(config)
    state = load_file(GOLDEN / folder / "weights.safetensors")
    model.load_state_dict(convert(state, config), strict=True, assign=True)
    model.reset_buffers()
    return model.eval()


@pytest.fixture(scope="module", params=FOLDERS)
def case(request) -> tuple[Model, dict[str, Tensor]]:
    return load(request.param), load_file(GOLDEN / request.param / "io.safetensors")


def difference(ours: Tensor, theirs: Tensor, real_BL: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs)[real_BL].abs().max())


# -- parity


@torch.no_grad()
def test_hub_numbers(case):
    """Logits, every hidden state, every attention map, with the config's epsilon."""
    model, io = case
    real, layers = io["attention_mask"].bool(), range(model.config.num_hidden_layers)
    out = model(io["input_ids"], mask_BL=real, taps=model.tap_names, attentions=layers)
    assert difference(out.logits, io["hf.logits"], real) < 1e-4
    states = ["esm.embeddings", *(f"esm.encoder.layer.{i}" for i in layers[:-1]), model.last_hidden]
    for i, name in enumerate(states):
        assert difference(out.taps[name], io[f"hf.hidden_states.{i}"], real) < 1e-4
    last = out.taps[f"esm.encoder.layer.{layers[-1]}"]
    assert difference(last, io["hf.last_block_output_before_layer_norm"], real) < 1e-4
    for i in layers:
        ours, theirs = out.extras["attentions"][i], io[f"hf.attentions.{i}"]
        assert difference(ours.transpose(1, 2), theirs.transpose(1, 2), real) < 1e-4


@torch.no_grad()
def test_jax_numbers(case):
    """The JAX package's logits, embeddings_k and attention maps, once the epsilon is its own."""
    model, io = case
    real, layers = io["attention_mask"].bool(), model.config.num_hidden_layers
    taps = [f"embeddings_{k}" for k in range(1, layers + 1)]
    model.set_layer_norm_eps(JAX_LAYER_NORM_EPS)
    out = model(io["input_ids"], taps=taps, attentions=range(layers))
    model.set_layer_norm_eps(model.config.layer_norm_eps)
    assert difference(out.logits[..., io["jax.logits_columns"]], io["jax.logits"], real) < 1e-4
    for tap in taps:
        assert difference(out.taps[tap], io[f"jax.{tap}"], real) < 1e-4
    maps = [name for name in io if name.startswith("jax.attention_map")]
    assert maps
    for name in maps:
        layer, number = int(name.split("_")[3]), int(name.split("_")[5])
        ours = jax_attention_map(out.extras["attentions"], layer, number)
        assert difference(ours, io[name], real) < 1e-4


@torch.no_grad()
def test_epsilon_matters():
    """The two references differ by more than the tolerance of the tests above: both settings are really used."""
    model, io = load("nt_v2_tiny"), load_file(GOLDEN / "nt_v2_tiny" / "io.safetensors")
    real = io["attention_mask"].bool()
    by_config = load("nt_v2_tiny", layer_norm_eps=1e-5)(io["input_ids"]).logits
    assert difference(by_config, io["hf.logits"], real) > 2e-4
    model.set_layer_norm_eps(1e-5)
    torch.testing.assert_close(model(io["input_ids"]).logits, by_config)


@pytest.mark.parametrize("folder", FOLDERS)
def test_as_a_user_loads_it(folder):
    """NexVar(folder): the right architecture, tokenizer and context, the same logits."""
    model = NexVar(GOLDEN / folder, device="cpu", dtype="float32")
    assert model.card.architecture == "nucleotide_transformer"
    assert model.card.tokenizer == {"nt_v1_tiny": "kmer6_v1", "nt_v2_tiny": "kmer6_v2"}.get(folder, "kmer3_v2")
    assert model.card.context == {"nt_v1_tiny": 5994, "nt_v2_tiny": 12_282}.get(folder, 6141)
    io = load_file(GOLDEN / folder / "io.safetensors")
    outputs, taps = model(
        io["input_ids"],
        attention_mask=io["attention_mask"],
        return_embeddings=True,
        layer_names=["embeddings_2"],
    )
    real = io["attention_mask"].bool()
    assert difference(outputs[0], io["hf.logits"], real) < 1e-4
    assert difference(taps["embeddings_2"], io["hf.hidden_states.2"], real) < 1e-4
    sequence = "ATTCCGATTCCGATTCCGAAACGTTAGGCATCCGGATATTGCACAGTTCATGACCTGA"
    ids = model.tokenizer.tokenize(sequence)
    assert [i for i in ids if i != 2][:3] == io["input_ids"][0, :3].tolist()


# -- what holds whatever the batch


@torch.no_grad()
@given(seed=st.integers(0, 2**16), lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_a_row_does_not_depend_on_its_batch(case, seed, lengths):
    model, _ = case
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(2, model.config.vocab_size, (n,), generator=generator) for n in lengths]
    rows = [torch.cat([torch.tensor([3]), row]) for row in rows]  # at least one token that is not <mask>
    ids_BL = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=1)
    mask_BL = ids_BL != 1
    with_mask, without = model(ids_BL, mask_BL=mask_BL).logits, model(ids_BL).logits
    for i, row in enumerate(rows):
        alone = model(row[None]).logits[0]
        torch.testing.assert_close(with_mask[i, : len(row)], alone, atol=5e-5, rtol=1e-5)
        torch.testing.assert_close(without[i, : len(row)], alone, atol=5e-5, rtol=1e-5)


@torch.no_grad()
def test_asking_for_maps_changes_nothing_and_maps_are_probabilities(case):
    model, io = case
    plain = model(io["input_ids"]).logits
    out = model(io["input_ids"], attentions=(1,))
    real = io["attention_mask"].bool()
    assert difference(out.logits, plain, real) < 1e-5
    assert set(out.extras["attentions"]) == {1}
    maps = out.extras["attentions"][1]
    assert torch.allclose(maps.sum(-1), torch.ones(()), atol=1e-5)
    assert not maps.transpose(1, 3)[~real].any(), "padding is no key"


@torch.no_grad()
def test_token_dropout():
    """v1 scales embeddings by 0.88 without masks; a mask embeds as nothing but its position, the rest grows."""
    model = load("nt_v1_tiny", position_embedding_type="rotary")
    ids = torch.tensor([[3, 100, 200, 300]])
    table = model.esm.embeddings.word_embeddings.weight
    tap = model(ids, taps=("esm.embeddings",)).taps["esm.embeddings"]
    torch.testing.assert_close(tap[0], table[ids[0]] * 0.88)
    ids = torch.tensor([[3, 100, 2, 300, 1, 1]])
    tap = model(ids, taps=("esm.embeddings",)).taps["esm.embeddings"]
    torch.testing.assert_close(tap[0, 1], table[100] * 0.88 / 0.75)
    assert not tap[0, 2].any()


@torch.no_grad()
def test_logits_of_some_positions(case):
    model, io = case
    whole = model(io["input_ids"]).logits
    part = model(io["input_ids"], logits=slice(2, 5)).logits
    torch.testing.assert_close(part, whole[:, 2:5], atol=1e-5, rtol=1e-5)
    assert model(io["input_ids"], logits=False).logits is None


def test_gradients_reach_every_weight(case):
    model, io = case
    model.zero_grad()
    model(io["input_ids"]).logits.float().pow(2).mean().backward()
    unreached = [name for name, p in model.named_parameters() if p.grad is None]
    assert not unreached
    model.zero_grad()


# -- checkpoints


def test_what_no_forward_reads_is_left_out():
    config = load("nt_v2_tiny").config
    state = load_file(GOLDEN / "nt_v2_tiny" / "weights.safetensors")
    state |= {"esm.pooler.dense.weight": torch.zeros(1), "esm.embeddings.position_ids": torch.zeros(1, 3)}
    ours = convert(state, config)
    dropped = set(state) - set(ours) - {"lm_head.bias"}
    kinds = ("contact_head", "position_embeddings", "position_ids", "inv_freq", "pooler")
    assert dropped and all(any(kind in name for kind in kinds) for name in dropped)
    assert any("position_embeddings" in name for name in convert(state, load("nt_v1_tiny").config))


def test_tied_and_column_major_files():
    """A decoder that is not in the file is the word embeddings; column-major tensors become contiguous."""
    model = load("nt_v2_3mer_tiny")
    state = load_file(GOLDEN / "nt_v2_3mer_tiny" / "weights.safetensors")
    del state["lm_head.decoder.weight"]
    name = "esm.encoder.layer.0.intermediate.dense.weight"
    state[name] = state[name].t().contiguous().t()
    ours = convert(state, model.config)
    assert set(ours) == set(model.state_dict())
    assert ours["lm_head.decoder.weight"] is ours["esm.embeddings.word_embeddings.weight"]
    assert ours[name].is_contiguous()


def test_which_configs_are_ours():
    official = json.loads((GOLDEN / "nt_v2_tiny" / "config.json").read_text())
    assert matches(official)
    assert matches({"model_type": "esm", "vocab_size": 4105})
    assert not matches({"model_type": "esm", "vocab_size": 33}), "protein ESM"
    assert not matches({"model_type": "bert", "vocab_size": 4107})
    assert models.infer(official) == "nucleotide_transformer"
    biased = from_official(official | {"add_bias_fnn": True, "emb_layer_norm_before": True})
    assert biased.mlp_bias and biased.gated_mlp and biased.emb_layer_norm_before
    native = {k: v for k, v in official.items() if k != "auto_map"} | {"model_type": "esm"}
    assert not from_official(native).gated_mlp, "transformers' own ESM never gates"


@torch.no_grad()
def test_a_gated_mlp_with_biases_and_a_first_layer_norm():
    config = dataclasses.replace(load("nt_v2_3mer_tiny").config, mlp_bias=True, emb_layer_norm_before=True)
    model = Model(config)
    assert model.state_dict()["esm.encoder.layer.0.intermediate.dense.bias"].shape == (128,)
    first = model(torch.tensor([[3, 7]]), taps=("esm.embeddings",)).taps["esm.embeddings"]
    torch.testing.assert_close(first.mean(-1), torch.zeros(1, 2), atol=1e-5, rtol=0)


# name -> what the published file holds: parameters, or bytes (header, buffers and pickle framing apart)
PUBLISHED = {"nt_v2_50m": 55_904_972, "nt_2b5_multi_species": 2_547_801_226}
FILE_BYTES = {
    "nt_v2_50m": 223_642_688,
    "nt_v2_100m": 391_597_600,
    "nt_v2_250m": 940_606_173,
    "nt_v2_50m_3mer": 207_152_202,
    "nt_2b5_multi_species": 9_913_283_486 + 278_112_047,
    "agront_1b": 3_965_239_677,
}
TABLE = {  # layers, width, heads, MLP width: the published table
    "nt_500m_human_ref": (24, 1280, 20, 5120),
    "nt_500m_1000g": (24, 1280, 20, 5120),
    "nt_2b5_1000g": (32, 2560, 20, 10240),
    "nt_2b5_multi_species": (32, 2560, 20, 10240),
    "nt_v2_50m": (12, 512, 16, 2048),
    "nt_v2_100m": (22, 512, 16, 2048),
    "nt_v2_250m": (24, 768, 16, 3072),
    "nt_v2_500m": (29, 1024, 16, 4096),
    "nt_v2_50m_3mer": (12, 512, 16, 2048),
    "agront_1b": (40, 1500, 20, 5120),
}


@pytest.mark.parametrize("name", TABLE)
def test_full_size(name):
    """Every released model on the meta device: the table's shape, and the size of the published file."""
    card = cards.get(name)
    config = make_config(card.architecture, card.config, name)
    shape = (config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.intermediate_size)
    assert shape == TABLE[name]
    assert config.context == card.context
    model = build(card.architecture, config)
    here = sum(p.numel() for p in model.parameters())
    unread = config.num_hidden_layers * config.num_attention_heads + 1  # contact head
    if config.position_embedding_type == "rotary":
        unread += config.max_position_embeddings * config.hidden_size
    assert here == card.parameters
    if name in PUBLISHED:
        assert here + unread == PUBLISHED[name]
    if name in FILE_BYTES:
        overhead = FILE_BYTES[name] - 4 * (here + unread)
        assert 0 < overhead < 3e-4 * FILE_BYTES[name] + 20_000


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("500M_human_ref", "nt_500m_human_ref"),
        ("500M_1000G", "nt_500m_1000g"),
        ("2B5_1000G", "nt_2b5_1000g"),
        ("2B5_multi_species", "nt_2b5_multi_species"),
        ("50M_multi_species_v2", "nt_v2_50m"),
        ("100M_multi_species_v2", "nt_v2_100m"),
        ("250M_multi_species_v2", "nt_v2_250m"),
        ("500M_multi_species_v2", "nt_v2_500m"),
        ("50M_3mer_multi_species_v2", "nt_v2_50m_3mer"),
        ("codon_nt", "nt_v2_50m_3mer"),
        ("1B_agro_nt", "agront_1b"),
        ("InstaDeepAI/nucleotide-transformer-v2-50m-multi-species", "nt_v2_50m"),
        ("instadeepai/nucleotide-transformer-500m-1000G", "nt_500m_1000g"),
        ("InstaDeepAI/agro-nucleotide-transformer-1b", "agront_1b"),
    ],
)
def test_official_names(alias, name):
    assert cards.get(alias).name == name


def test_recorded_vectors_fit_their_models():
    """The oracles of real checkpoints: tokens as our tokenizer makes them, vectors as wide as the model."""
    folder = Path(cards.__file__).parent
    compared = 0
    for name in TABLE:
        card = cards.get(name)
        if not card.oracles:
            continue
        oracle = json.loads((folder / card.oracles["file"]).read_text())
        for recorded in (case for case in oracle["cases"] if "mean" in case):
            assert tokenizers.make(card.tokenizer).tokenize(recorded["text"]) == recorded["input_ids"]
            assert len(recorded["mean"]) == card.config["hidden_size"]
            compared += 1
    assert compared == 7


# -- bad input


def test_errors_say_what_to_do():
    model = load("nt_v1_tiny")
    with pytest.raises(NexVarError, match="1001 tokens, but the model knows 1000 positions.*5994 bases"):
        model(torch.full((1, 1001), 5))
    assert model(torch.full((1, 1000), 5), logits=False).logits is None
    with pytest.raises(NexVarError, match="did you mean .*embeddings_3"):
        model(torch.tensor([[3]]), taps=("embeddings_4",))
    with pytest.raises(NexVarError, match="no layer 3.*from 0 to 2"):
        model(torch.tensor([[3]]), attentions=(3,))
    with pytest.raises(NexVarError, match="no cache"):
        model(torch.tensor([[3]]), cache=object())
    with pytest.raises(NexVarError, match="not a multiple"):
        Config(4107, 30, 1, 4, 8, 10)
    with pytest.raises(NexVarError, match="position_embedding_type"):
        Config(4107, 32, 1, 4, 8, 10, position_embedding_type="alibi")

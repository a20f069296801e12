"""The snippets of other projects' READMEs, with only the import and the model's name changed."""

from __future__ import annotations

import builtins
import dataclasses
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nexvar import NexVar, NexVarError, cards
from nexvar.compat.evo2 import Evo2
from nexvar.compat.helical import Evo2 as HelicalEvo2
from nexvar.compat.helical import Evo2Config, HyenaDNA, HyenaDNAConfig
from nexvar.models import striped_hyena2
from nexvar.weights.load import save
from places import GOLDEN


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Evo 2 7B's layout, 32 layers, 16 wide, random weights."""
    config = striped_hyena2.Config(
        hidden_size=16, pattern=("SDH*SDH" * 5)[:32], num_attention_heads=2, inner_mlp_size=16, hcm_filter_groups=4
    )
    module = striped_hyena2.Model(config)
    module.init_weights(torch.Generator().manual_seed(0))
    path = tmp_path_factory.mktemp("model") / "evo2_tiny"
    card = {"tokenizer": "byte", "objective": "causal"}
    return save(path, module, architecture="striped_hyena2", config=config, card=card)


# -- evo2

EVO2 = """
import torch
from nexvar.compat.evo2 import Evo2

evo2_model = Evo2('evo2_7b', local_path={folder!r})

sequence = 'ACGT'
input_ids = torch.tensor(
    evo2_model.tokenizer.tokenize(sequence),
    dtype=torch.int,
).unsqueeze(0).to('cpu')

outputs, _ = evo2_model(input_ids)
logits = outputs[0]

print('Logits: ', logits)
print('Shape (batch, length, vocab): ', logits.shape)

layer_name = 'blocks.28.mlp.l3'

outputs, embeddings = evo2_model(input_ids, return_embeddings=True, layer_names=[layer_name])

print('Embeddings shape: ', embeddings[layer_name].shape)

output = evo2_model.generate(prompt_seqs=["ACGT"], n_tokens=40, temperature=1.0, top_k=4)

print(output.sequences[0])
"""


def test_the_readme_of_evo2(folder, capsys):
    exec(EVO2.format(folder=str(folder)), {})
    out = capsys.readouterr().out
    assert "torch.Size([1, 4, 512])" in out and "torch.Size([1, 4, 16])" in out
    assert len(out.split("Embeddings shape: ")[1].split("\n", 1)[1]) == 40 + 1  # and the line's end


def test_evo2_is_the_native_model(folder):
    ours, theirs = NexVar(folder, device="cpu"), Evo2("evo2_7b", local_path=folder, device="cpu")
    sequences = ["ACGTTGCA", "GGCATTACAGT"]
    assert theirs.score_sequences(sequences, batch_size=1) == pytest.approx(ours.score_sequences(sequences), abs=1e-6)
    same = {"n_tokens": 12, "top_k": 4, "seed": 3}
    made = theirs.generate(sequences, batched=False, verbose=0, force_prompt_threshold=5, **same)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert made.token_ids == ours.generate(sequences, **same, alphabet=None).token_ids


@pytest.mark.parametrize("package", ["evo2", "helical"])
def test_every_token_of_evo2_is_a_character_as_in_the_original(folder, package):
    """Random weights draw bytes of all kinds: the text still has as many characters as were asked for."""
    if package == "evo2":
        made = Evo2("evo2_7b", local_path=folder, device="cpu").generate(["ACGT", "GG"], 40, top_k=0, seed=1)
    else:
        made = HelicalEvo2(Evo2Config(str(folder), device="cpu")).generate(["ACGT", "GG"], 40, top_k=0, seed=1)
    for text, ids in zip(made.sequences, made.token_ids, strict=True):
        assert len(text) == len(ids) == 40
        assert [ord(letter) for letter in text] == [max(id_, 32) for id_ in ids]
        assert not set(text) <= set("ACGT")


def test_evo2_from_a_weight_file(tmp_path, monkeypatch):
    """local_path as evo2 means it: the .pt of the named model, whole or in parts; config values from the card."""
    state = load_file(GOLDEN / "sh2_a" / "weights.safetensors")
    reference = NexVar(GOLDEN / "sh2_a", device="cpu")
    card = dataclasses.replace(
        cards.get("nexvar_7b"), config={**dataclasses.asdict(reference.model.config)}, fp8=None, dtype="bfloat16"
    )
    monkeypatch.setattr(cards, "get", lambda name: card)
    torch.save(state, tmp_path / "evo2_7b.pt")
    whole = Evo2("evo2_7b", local_path=tmp_path / "evo2_7b.pt", device="cpu")
    content = (tmp_path / "evo2_7b.pt").read_bytes()
    (tmp_path / "parts").mkdir()
    for i in range(2):
        half = len(content) // 2
        part = content[:half] if i == 0 else content[half:]
        (tmp_path / "parts" / f"evo2_7b.pt.part{i}").write_bytes(part)
    parts = Evo2("evo2_7b", local_path=tmp_path / "parts" / "evo2_7b.pt.part0", device="cpu")
    ids = torch.tensor([list(b"ACGTACGT")])
    for model in (whole, parts):
        torch.testing.assert_close(model(ids)[0].logits, reference(ids)[0].logits)
    with pytest.raises(NexVarError, match="no such file"):
        Evo2("evo2_7b", local_path=tmp_path / "none.pt")


# -- helical

HELICAL = """
from nexvar.compat.helical import Evo2, Evo2Config

evo2_config = Evo2Config(model_name={folder!r}, batch_size=1)

evo2 = Evo2(configurer=evo2_config)

data = ["ACGT" * 10, "GATTACA"]

dataset = evo2.process_data(data)

embeddings = evo2.get_embeddings(dataset)
# Get the last embedding of each sequence
print(embeddings["embeddings"][0][embeddings["original_lengths"][0]-1])
print(embeddings["embeddings"][1][embeddings["original_lengths"][1]-1])
print(embeddings["original_lengths"])

generate = evo2.generate(dataset, n_tokens=7)

# Print the generated sequences
print(generate)
"""


def test_the_readme_of_helical(folder, capsys):
    exec(HELICAL.format(folder=str(folder)), {})
    out = capsys.readouterr().out
    assert "[40  7]" in out and "sequences=" in out


def test_helical_embeddings_are_those_of_each_sequence_alone(folder):
    sequences = ["ACGTTGCAAC", "GATTACA", "ACGTTGCAACTTT"]
    layer = "blocks.31.mlp.l3"
    native = NexVar(folder, device="cpu")
    for batch_size in (1, 3):
        model = HelicalEvo2(Evo2Config(str(folder), batch_size=batch_size, device="cpu"))
        embedded = model.get_embeddings(model.process_data(sequences))
        assert embedded["original_lengths"].tolist() == [10, 7, 13]
        assert np.stack(embedded["embeddings"]).shape == (3, 13, 16)
        for i, sequence in enumerate(sequences):
            ids = torch.tensor([native.tokenizer.tokenize(sequence)])
            tap = native(ids, return_embeddings=True, layer_names=[layer])[1][layer][0].numpy()
            rows = embedded["embeddings"][i]
            np.testing.assert_allclose(rows[: len(sequence)], tap, atol=1e-5)
            assert not rows[len(sequence) :].any()
    other = model.get_embeddings(model.process_data(sequences), embedding_layer="blocks.3")
    assert not np.allclose(other["embeddings"][0], embedded["embeddings"][0])


def test_helical_hyenadna():
    model = HyenaDNA(configurer=HyenaDNAConfig(model_name=str(GOLDEN / "hyenadna_tiny"), device="cpu"))
    sequence = "ACTG" * 16
    embeddings = model.get_embeddings(model.process_data(sequence))
    assert embeddings.shape[:2] == (1, 64)
    both = model.get_embeddings(model.process_data([sequence, "ACTG"]))
    np.testing.assert_allclose(both[0], embeddings[0], atol=1e-5)


def test_helical_takes_tables_and_refuses_in_one_line(folder):
    class Table(dict):
        columns = property(lambda self: list(self))

    model = HelicalEvo2(Evo2Config(str(folder), device="cpu"))
    assert model.process_data(Table(Sequence=["ACGT"]))["input_ids"] == ["ACGT"]
    for wrong in (Table(Seq=["ACGT"]), ["ACGT", ""], [3]):
        with pytest.raises(NexVarError):
            model.process_data(wrong)
    with pytest.raises(NexVarError, match="batch_size"):
        Evo2Config(batch_size=0)
    assert Evo2Config("evo2-7b-base").source == "evo2_7b_base"
    assert cards.is_known(Evo2Config().source) and cards.is_known(HyenaDNAConfig().source)


# -- nucleotide transformer, in JAX

jax_is_missing = pytest.mark.skipif(
    not all(__import__("importlib.util").util.find_spec(name) for name in ("jax", "haiku")),
    reason="needs nexvar[jax]",
)
NT = ("nt_v1_tiny", "nt_v2_tiny", "nt_v2_3mer_tiny")


def pretrained(name: str, **options: Any) -> Any:
    from nexvar.compat.nucleotide_transformer import get_pretrained_model

    return get_pretrained_model(str(GOLDEN / name), **options)


@jax_is_missing
@pytest.mark.parametrize("name", NT)
def test_the_jax_package_numbers(name):
    """Logits, every embedding and every attention map of the original's haiku code, jitted and not."""
    import jax
    import jax.numpy as jnp

    io = load_file(GOLDEN / name / "io.safetensors")
    layers = sorted(int(key.split("_")[1]) for key in io if key.startswith("jax.embeddings_"))
    maps = [key for key in io if key.startswith("jax.attention_map")]
    wanted = [(int(key.split("_")[3]), int(key.split("_")[5])) for key in maps]
    parameters, forward_fn, _, config = pretrained(
        name, embeddings_layers_to_save=layers, attention_maps_to_save=wanted
    )
    assert config.num_layers == len(layers)
    tokens, real = jnp.asarray(io["input_ids"].numpy()), io["attention_mask"].bool().numpy()
    for apply in (jax.jit(forward_fn.apply), *([forward_fn.apply] if name == "nt_v1_tiny" else [])):
        outs = apply(parameters, jax.random.PRNGKey(0), tokens)
        logits = np.asarray(outs["logits"])
        columns = io["jax.logits_columns"].numpy()
        assert np.abs(logits[..., columns] - io["jax.logits"].numpy())[real].max() < 1e-4
        assert not logits[~real].any()
        for layer in layers:
            ours = np.asarray(outs[f"embeddings_{layer}"])
            assert np.abs(ours - io[f"jax.embeddings_{layer}"].numpy())[real].max() < 1e-4
        for key in maps:
            ours = np.asarray(outs[key.removeprefix("jax.")])
            assert np.abs(ours - io[key].numpy())[real].max() < 1e-4


README_NT = """
import haiku as hk
import jax
import jax.numpy as jnp
from nexvar.compat.nucleotide_transformer import get_pretrained_model

# Get pretrained model
parameters, forward_fn, tokenizer, config = get_pretrained_model(
    model_name={name!r},
    embeddings_layers_to_save=(2,),
    max_positions=32,
)
forward_fn = hk.transform(forward_fn)

# Get data and tokenize it
sequences = ["ATTCCGATTCCGATTCCG", "ATTTCTCTCTCTCTCTGAGATCGATCGATCGAT"]
tokens_ids = [b[1] for b in tokenizer.batch_tokenize(sequences)]
tokens = jnp.asarray(tokens_ids, dtype=jnp.int32)

# Initialize random key
random_key = jax.random.PRNGKey(0)

# Infer
outs = forward_fn.apply(parameters, random_key, tokens)

# Get embeddings at layer 2
print(outs["embeddings_2"].shape)
"""


@jax_is_missing
def test_the_readme_of_nucleotide_transformer(capsys):
    scope: dict[str, Any] = {}
    exec(README_NT.format(name=str(GOLDEN / "nt_v2_tiny")), scope)
    assert capsys.readouterr().out == "(2, 32, 32)\n"
    parameters, forward_fn, _, _ = pretrained("nt_v2_tiny", embeddings_layers_to_save=(2,))
    plain = forward_fn.apply(parameters, None, scope["tokens"])
    np.testing.assert_array_equal(plain["embeddings_2"], scope["outs"]["embeddings_2"])


@jax_is_missing
def test_gradients_are_those_of_torch():
    """Of every parameter: a masked-LM loss through jax.grad and through autograd."""
    import jax
    import jax.numpy as jnp

    from nexvar.compat.nucleotide_transformer import haiku_name

    parameters, forward_fn, tokenizer, _ = pretrained("nt_v1_tiny", max_positions=8)
    ids = [b[1] for b in tokenizer.batch_tokenize(["ATTCCGATTCCGATTCCG", "GATTACAGATTACA"])]
    tokens, targets = jnp.asarray(ids), jnp.asarray([[5, 6, 7, 8] * 2, [9, 10, 11, 12] * 2])

    def loss(parameters, tokens):
        logits = forward_fn.apply(parameters, None, tokens)["logits"]
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], -1)[:, :4].mean()

    grads = jax.jit(jax.grad(loss))(parameters, tokens)
    model = NexVar(GOLDEN / "nt_v1_tiny", device="cpu", dtype="float32").model
    model.set_layer_norm_eps(1e-5)
    out = model(torch.tensor(ids)).logits.log_softmax(-1)
    (-out.gather(-1, torch.tensor(np.asarray(targets)).long()[..., None])[:, :4].mean()).backward()
    (root,) = {key.split("/")[0] for key in parameters}
    for name, parameter in model.named_parameters():
        place, kind = haiku_name(name)
        ours = np.asarray(grads[f"{root}/{place}"][kind])
        theirs = parameter.grad.numpy()
        np.testing.assert_allclose(ours.T if kind == "w" else ours, theirs, atol=2e-6, rtol=2e-4)


@jax_is_missing
def test_dtypes_vmap_and_masks():
    import jax
    import jax.numpy as jnp

    parameters, forward_fn, tokenizer, _ = pretrained("nt_v2_tiny", max_positions=8)
    tokens = jnp.asarray([b[1] for b in tokenizer.batch_tokenize(["ATTCCGATTCCG", "GATTACA"])])
    apply = jax.jit(forward_fn.apply)
    plain = apply(parameters, None, tokens)["logits"]
    assert plain.dtype == jnp.float32
    one = jax.vmap(lambda row: apply(parameters, None, row[None])["logits"][0])(tokens)
    np.testing.assert_allclose(one, plain, atol=1e-5)
    mask = tokens != 1
    for given in (mask, mask[:, None, :, None] & mask[:, None, None, :]):
        np.testing.assert_allclose(apply(parameters, None, tokens, given)["logits"], plain, atol=1e-6)
    half, forward_half, _, _ = pretrained(
        "nt_v2_tiny", compute_dtype=jnp.bfloat16, param_dtype=jnp.bfloat16, output_dtype=jnp.bfloat16
    )
    assert all(v.dtype == jnp.bfloat16 for module in half.values() for v in module.values())
    rough = jax.jit(forward_half.apply)(half, None, tokens)["logits"]
    assert rough.dtype == jnp.bfloat16
    apart = np.abs(np.asarray(rough, dtype=np.float32) - np.asarray(plain)).max()
    assert 0 < apart < 0.1 * np.abs(np.asarray(plain)).max()


@jax_is_missing
def test_the_tokenizer_is_the_jax_packages():
    import json

    _, _, tokenizer, _ = pretrained("nt_v2_tiny", max_positions=6)
    facts = json.loads((GOLDEN / "nt_v2_tiny" / "tokenizer_facts.json").read_text())["jax"]
    for fact in facts:
        if "error" in fact:
            with pytest.raises(NexVarError):
                tokenizer.tokenize(fact["text"])
        else:
            assert tokenizer.tokenize(fact["text"]) == (fact["tokens"], fact["input_ids"])
    assert len(facts) > 10
    ((tokens, ids),) = tokenizer.batch_tokenize(["ATTCCGATT"])
    assert tokens == ["<cls>", "ATTCCG", "A", "T", "T", "<pad>"] and ids[-1] == tokenizer.pad_token_id
    with pytest.raises(NexVarError, match="7 tokens, max_positions is 6"):
        tokenizer.batch_tokenize(["ATTCCG" * 6])


@jax_is_missing
def test_every_name_of_the_readme_is_a_model_with_haiku_parameters():
    from nexvar.compat.nucleotide_transformer import MODELS, haiku_name
    from nexvar.weights.assemble import build, make_config

    readme = ["500M_human_ref", "500M_1000G", "2B5_1000G", "2B5_multi_species", "50M_multi_species_v2"]
    readme += ["100M_multi_species_v2", "250M_multi_species_v2", "500M_multi_species_v2"]
    assert set(readme) < set(MODELS)
    for name in MODELS:
        card = cards.get(name)
        assert card.architecture == "nucleotide_transformer"
        module = build(card.architecture, make_config(card.architecture, card.config, name))
        names = [haiku_name(key) for key in module.state_dict()]
        assert len(set(names)) == len(names)


@jax_is_missing
def test_wrong_requests_are_one_line(monkeypatch):
    from nexvar.compat.nucleotide_transformer import get_pretrained_model

    with pytest.raises(NexVarError, match="no model called '500M'.*2B5_1000G"):
        get_pretrained_model("500M")
    with pytest.raises(NexVarError, match="no layer 4.*from 1 to 3"):
        pretrained("nt_v2_tiny", embeddings_layers_to_save=(4,))
    with pytest.raises(NexVarError, match="no layer 0"):
        pretrained("nt_v2_tiny", attention_maps_to_save=((0, 1),))
    with pytest.raises(NexVarError, match="caduceus"):
        pretrained("caduceus_ph_tiny")
    parameters, forward_fn, _, config = pretrained("nt_v1_tiny")
    with pytest.raises(NexVarError, match="positions"):
        forward_fn.apply(parameters, None, np.full((1, config.max_positions), 5))
    original = builtins.__import__

    def without_jax(name, *args, **kwargs):
        if name.split(".")[0] == "jax":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_jax)
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    with pytest.raises(NexVarError, match=r"nexvar\[jax\]"):
        get_pretrained_model("500M_1000G")

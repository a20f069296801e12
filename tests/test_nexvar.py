"""The class, as the NexVar (Evo 2) README uses it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from nexvar import NexVar, NexVarError
from nexvar.models import striped_hyena2
from nexvar.weights.load import save

# The README's three snippets, word for word but for the model's name and the device.
README = """
import torch
from nexvar import NexVar

# Initialize Model
model = NexVar('{model}')

# Prepare Input
sequence = 'ACGT' * 10
input_ids = torch.tensor(
    model.tokenizer.tokenize(sequence),
    dtype=torch.int,
).unsqueeze(0).to('cpu')

# Inference
outputs, _ = model(input_ids)
logits = outputs[0]

print(f"Logits Shape: {{logits.shape}}") # (Batch, Length, Vocab)

layer_target = 'blocks.28.mlp.l3'
outputs, embeddings = model(input_ids, return_embeddings=True, layer_names=[layer_target])
print(f"Embedding Dimensions: {{embeddings[layer_target].shape}}")

output = model.generate(
    prompt_seqs=["ATG..."],
    n_tokens=400,
    temperature=0.9,
    top_k=4
)
print(f"Generated Sequence: {{output.sequences[0]}}")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Evo 2 7B's layout, 32 layers, 16 wide, random weights."""
    config = striped_hyena2.Config(
        hidden_size=16, pattern=("SDH*SDH" * 5)[:32], num_attention_heads=2, inner_mlp_size=16, hcm_filter_groups=4
    )
    module = striped_hyena2.Model(config)
    module.init_weights(torch.Generator().manual_seed(0))
    path = tmp_path_factory.mktemp("model") / "tiny_7b"
    save(path, module, architecture="striped_hyena2", config=config, card={"tokenizer": "byte", "objective": "causal"})
    return path


@pytest.fixture(scope="module")
def model(folder):
    return NexVar(folder)


def test_the_readme_runs(folder):
    run = subprocess.run(
        [sys.executable, "-c", README.format(model=folder)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[0] == "Logits Shape: torch.Size([1, 40, 512])"
    assert lines[1] == "Embedding Dimensions: torch.Size([1, 40, 16])"
    assert lines[2].startswith("Generated Sequence: ")


def test_an_attention_mask_of_right_padding_changes_no_real_token(model):
    ids = torch.tensor([model.tokenizer.tokenize("ACGTACGT")])
    padded = torch.cat([ids, torch.ones(1, 3, dtype=ids.dtype)], 1)
    mask = torch.tensor([[1] * 8 + [0] * 3])
    torch.testing.assert_close(model(padded, mask)[0][0][:, :8], model(ids)[0][0])


def test_no_gradient_by_default_and_the_module_is_ordinary(model):
    ids = torch.tensor([model.tokenizer.tokenize("ACGT")])
    assert not model(ids)[0][0].requires_grad
    assert model.model(ids).logits.requires_grad


def test_scores_do_not_depend_on_the_batch(model):
    seqs = ["ACGTTGCA", "AC", "ACGTTGCATTTTGGGGACACA", "GATTACA"]
    alone = [model.score_sequences([s])[0] for s in seqs]
    for batch_size in (1, 2, 4):
        assert model.score_sequences(seqs, batch_size=batch_size) == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m, ids: m(ids, return_embeddings=True), "layer_names"),
        (lambda m, ids: m(ids, return_embeddings=True, layer_names=["blocks.28.mlp.l4"]), "blocks.28.mlp.l3"),
        (lambda m, ids: m(ids[0]), "(B, L)"),
    ],
)
def test_bad_calls_say_what_to_do(model, call, says):
    with pytest.raises(NexVarError) as error:
        call(model, torch.tensor([model.tokenizer.tokenize("ACGT")]))
    assert says in str(error.value)


def test_generation_gives_as_many_bases_as_were_asked_for(model):
    made = model.generate(["ACGT", "GGA"], n_tokens=40, top_k=0, seed=1)
    assert all(len(text) == 40 and set(text) <= set("ACGT") for text in made.sequences)
    streamed = "".join(token.text for token in model.generate_stream(["ACGT"], 40, top_k=0, seed=1))
    assert streamed == made.sequences[0]


def test_generation_of_every_token_says_what_does_not_show(model):
    with pytest.warns(UserWarning, match="new tokens are no letters and do not show.*token_ids"):
        made = model.generate(["ACGT"], n_tokens=80, top_k=0, seed=1, alphabet=None)
    assert len(made.sequences[0]) + made.left_out[0] == len(made.token_ids[0]) == 80


@pytest.mark.parametrize("source", ["nexvar_8b", "no/such/repo", "./no/such/folder", ""])
def test_unknown_sources(source):
    with pytest.raises(NexVarError):
        NexVar(source)

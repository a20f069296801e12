"""The Evo 2 NIM's paths: what ten real clients send and look at (K1 to K10), its refusals, and Python's numbers."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import threading

import numpy as np
import pytest
import torch

from nexvar.inference.core.sampling import Sampling
from nexvar.inference.generate import generate
from nexvar.serve.settings import Nim
from nexvar.weights.load import load
from places import GOLDEN
from served import client_of, make_server, serving
from tiny_evo2 import tiny_evo2

GENERATE, FORWARD = "/biology/arc/evo2/generate", "/biology/arc/evo2/forward"
MODELS = {"evo2": tiny_evo2(), "mito": load("nexvar_mito", device="cpu")}
BEARER = {"Authorization": "Bearer nvapi-a-key-of-the-hosted-one"}
PROMPT = "ACTGACTGACTGACTG"
TAG = "|k__Bacteria;p__Pseudomonadota;c__Gammaproteobacteria;o__Enterobacterales;g__Escherichia;s__Escherichia coli|"


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param]


@pytest.fixture(scope="module")
def client(model):
    with serving(model) as asked:
        yield asked


@pytest.fixture(scope="module")
def evo2():
    with serving(MODELS["evo2"]) as asked:
        yield asked


def opened(answer):
    """The arrays of a /forward answer, as the strictest client opens them."""
    packed = base64.b64decode(answer.json()["data"], validate=True)
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


# ------------------------------------------------------------------------------------------------ what clients send


def test_k1_the_readme_of_evo2(client):
    body = {"sequence": PROMPT, "num_tokens": 8, "top_k": 1, "enable_sampled_probs": True}
    answer = client.post("/v1/biology/arc/evo2-40b/generate", json=body, headers=BEARER)
    assert answer.status_code == 200 and "application/json" in answer.headers["Content-Type"]
    assert len(answer.json()["sequence"]) == 8 and len(answer.json()["sampled_probs"]) == 8


def test_k2_nvidia_generate(client):
    body = {
        "sequence": PROMPT, "num_tokens": 64, "temperature": 0.7, "top_k": 3, "top_p": 0.0, "random_seed": 1,
        "enable_sampled_probs": True, "enable_elapsed_ms_per_token": True,
    }  # fmt: skip
    first, second = (client.post(GENERATE, json=body).json() for _ in range(2))
    assert set(first["sequence"]) <= set("ACGT") and len(first["sequence"]) == 64
    assert len(first["sampled_probs"]) == 64 and all(0 <= p <= 1 for p in first["sampled_probs"])
    assert len(first["elapsed_ms_per_token"]) == 64
    assert all(isinstance(ms, int) and ms >= 0 for ms in first["elapsed_ms_per_token"])
    assert first["logits"] is None
    assert second["sequence"] == first["sequence"]


def test_k3_nvidia_forward(evo2):
    layers = ["output_layer", "decoder.layers.3.self_attention", "decoder.layers.20.mlp.linear_fc2"]
    answer = evo2.post(FORWARD, json={"sequence": "ACTGACTGACTG", "output_layers": layers})
    arrays = opened(answer)
    assert all(np.isfinite(values).all() for values in arrays.values())
    assert arrays["output_layer.output"].shape == (12, 1, 512)
    assert arrays["decoder.layers.3.self_attention.output"].shape == (12, 1, 16)
    assert isinstance(answer.json()["elapsed_ms"], int)


def test_k4_evo2_nim_mcp(client):
    assert client.get("/v1/health/ready").json()["status"] == "ready"
    arrays = opened(client.post(FORWARD, json={"sequence": PROMPT, "output_layers": ["output_layer"]}))
    logits = arrays["output_layer.output"]
    assert logits.ndim == 3 and logits.shape[1] == 1 and logits.squeeze(1).shape == (len(PROMPT), 512)


def test_k5_shiroko_falls_back_on_the_words_has_no_attribute(evo2):
    answer = evo2.post(FORWARD, json={"sequence": PROMPT, "output_layers": ["output_layer", "decoder.layers.3.mixer"]})
    assert answer.status_code == 422
    for key in ("detail", "error"):
        assert "has no attribute 'decoder.layers.3.mixer'" in answer.json()[key]
    for layers in (["output_layer"], ["unembed"], ["output_layer", "decoder.layers.3.self_attention"]):
        answer = evo2.post(FORWARD, json={"sequence": PROMPT, "output_layers": layers})
        assert answer.json()["elapsed_ms"] >= 0
        for name in layers:
            assert len(PROMPT) in opened(answer)[f"{name}.output"].shape


@pytest.mark.parametrize("segment", ["evo2-40b", "evo2-7b"])
def test_k6_tooluniverse(client, segment):
    body = {"sequence": PROMPT, "output_layers": ["unembed"]}
    arrays = opened(client.post(f"/v1/biology/arc/{segment}/forward", json=body, headers=BEARER))
    assert list(arrays) == ["unembed.output"] and arrays["unembed.output"].shape == (1, len(PROMPT), 512)
    logits = torch.from_numpy(arrays["unembed.output"])[0]
    next_bytes = torch.tensor(list(PROMPT.encode()[1:]))
    assert math.isfinite(logits.log_softmax(-1)[:-1].gather(1, next_bytes[:, None]).sum())


def test_k7_virosense_squeezes_what_both_dialects_give(evo2):
    for name, shape in (("blocks.20.mlp.l3", (1, 16, 16)), ("decoder.layers.10", (16, 1, 16))):
        arrays = opened(evo2.post(FORWARD, json={"sequence": PROMPT, "output_layers": [name]}))
        assert arrays[f"{name}.output"].shape == shape
        assert arrays[f"{name}.output"].squeeze().shape == (16, 16)


def test_k8_the_logits_of_one_token(client, model):
    body = {
        "sequence": PROMPT * 12, "num_tokens": 1, "temperature": 0.7, "top_k": 4, "top_p": 0.9, "random_seed": 7,
        "enable_logits": True, "enable_sampled_probs": True,
    }  # fmt: skip
    answer = client.post(GENERATE, json=body).json()
    assert len(answer["logits"]) == 1 and len(answer["logits"][0]) == 512
    of_bases = torch.tensor([answer["logits"][0][code] for code in (65, 67, 71, 84)])
    assert torch.isfinite(of_bases.softmax(0)).all()
    ids = torch.tensor([list((PROMPT * 12).encode())])
    with torch.no_grad():
        expected = model.module(ids).logits[0, -1, [65, 67, 71, 84]]
    torch.testing.assert_close(of_bases, expected, atol=1e-5, rtol=0)


def test_k9_codexomics_with_a_tag_of_six_ranks_in_lower_case(client):
    body = {
        "sequence": f"{TAG}ATGACC", "num_tokens": 100, "temperature": 0.7, "top_k": 3, "top_p": 1,
        "enable_logits": False, "enable_sampled_probs": False, "enable_elapsed_ms_per_token": False,
    }  # fmt: skip
    answer = client.post(GENERATE, json=body, headers={"Accept": "application/json", "NVCF-POLL-SECONDS": "20"})
    assert answer.status_code == 200
    assert re.fullmatch("[ACGTN]+", answer.json()["sequence"], re.IGNORECASE)
    assert math.isfinite(answer.json()["elapsed_ms"]) and len(answer.content) <= 16 * 2**20


@pytest.mark.parametrize("length, tokens", [(64, 32), (512, 64), (2048, 128)])
def test_k10_the_cluster_benchmark(client, length, tokens):
    body = {
        "sequence": ("ATCGGCTAACGT" * 200)[:length], "num_tokens": tokens, "temperature": 0.7, "top_k": 1, "top_p": 0.0,
        "random_seed": 42, "enable_logits": False, "enable_sampled_probs": False, "enable_elapsed_ms_per_token": True,
    }  # fmt: skip
    assert len(client.post(GENERATE, json=body).json()["elapsed_ms_per_token"]) == tokens


# ------------------------------------------------------------------------------------------------------ the numbers


@pytest.mark.parametrize("seed", [0, 7, -1, 2**44, 10**30])
def test_a_seed_gives_the_tokens_that_python_gives(client, model, seed):
    body = {
        "sequence": PROMPT,
        "num_tokens": 20,
        "random_seed": seed,
        "enable_sampled_probs": True,
        "enable_logits": True,
    }
    answer = client.post(GENERATE, json=body).json()
    sampling = Sampling(20, temperature=0.7, top_k=3, top_p=1.0, alphabet="ACGT")
    made = generate(model, [PROMPT], sampling, seed=seed % 2**44, return_logits=True)
    assert answer["sequence"] == made.sequences[0]
    assert answer["sampled_probs"] == made.logprobs[0].exp().clamp(max=1).tolist()
    bases = [65, 67, 71, 84]
    assert torch.equal(torch.tensor(answer["logits"])[:, bases], made.logits[0][:, bases])


def test_the_defaults_are_those_of_the_nim_and_null_means_them(client):
    explicit = {"num_tokens": 100, "temperature": 0.7, "top_k": 3, "top_p": 0.0, "random_seed": 5}
    wanted = client.post(GENERATE, json={"sequence": PROMPT, **explicit}).json()["sequence"]
    nulls = dict.fromkeys(explicit, None) | {"random_seed": 5}
    for body in ({"random_seed": 5}, nulls, explicit | {"num_tokens": 100.0}):
        answer = client.post(GENERATE, json={"sequence": PROMPT.lower(), **body})
        assert answer.json()["sequence"] == wanted
        assert [name for name, value in answer.json().items() if value is None] == [
            "logits", "sampled_probs", "elapsed_ms_per_token"
        ]  # fmt: skip


def test_forward_is_the_models_taps_bit_by_bit_whatever_the_case_of_the_sequence(client, model):
    answer = client.post(FORWARD, json={"sequence": PROMPT.lower(), "output_layers": ["blocks.4.mlp.l3", "norm"]})
    with torch.no_grad():
        taps = model.module(torch.tensor([list(PROMPT.encode())]), taps=("blocks.4.mlp.l3", "norm")).taps
    for name, values in opened(answer).items():
        assert values.dtype == np.float32
        assert np.array_equal(values, taps[name.removesuffix(".output")].numpy())


def test_an_archive_is_stored_unless_the_operator_wants_it_compressed():
    body = {"sequence": PROMPT * 20, "output_layers": ["unembed"]}
    with serving(MODELS["mito"]) as stored, serving(MODELS["mito"], nim=Nim(compress=True)) as packed:
        plain, small = stored.post(FORWARD, json=body), packed.post(FORWARD, json=body)
    assert np.array_equal(opened(plain)["unembed.output"], opened(small)["unembed.output"])
    assert len(small.content) < len(plain.content) / 2


def test_every_path_and_the_header_that_says_who_answers(client, model):
    for prefix in ("", "/v1"):
        for segment in ("evo2", "evo2-7b", "evo2-40b"):
            path = f"{prefix}/biology/arc/{segment}"
            bodies = {"generate": {"num_tokens": 1}, "forward": {"output_layers": ["norm"]}}
            for verb, body in bodies.items():
                answer = client.post(f"{path}/{verb}", json={"sequence": "ACGT", **body})
                assert answer.status_code == 200 and answer.headers["X-NexVar-Model"] == model.card.name
    for path in ("/v1/biology/arc/evo3/generate", "/v1/metadata", "/v1/version", "/v1/manifest"):
        assert client.post(path, json={}).status_code == 404


def test_new_tokens_are_counted(model):
    with serving(model) as client:
        client.post(GENERATE, json={"sequence": PROMPT, "num_tokens": 7})
        assert "nexvar_tokens_total 7" in client.get("/metrics").text


def test_the_whole_vocabulary_is_drawn_where_the_operator_wants_it():
    with serving(MODELS["evo2"], nim=Nim(alphabet="full")) as client:
        made = client.post(GENERATE, json={"sequence": PROMPT, "num_tokens": 60, "top_k": 0, "random_seed": 1}).json()
    assert set(made["sequence"]) - set("ACGT")


# ------------------------------------------------------------------------------------------------------- refusals

BAD_GENERATE = [
    ({"top_k": 50}, "top_k"), ({"top_k": 7}, "top_k"), ({"top_k": -1}, "top_k"), ({"top_k": True}, "top_k"),
    ({"top_k": 2.5}, "top_k"), ({"text_input": "ACGT"}, "text_input"), ({"seed": 1}, "seed"),
    ({"max_tokens": 5}, "max_tokens"), ({"temperature": 2.0}, "temperature"), ({"temperature": 0}, "temperature"),
    ({"temperature": "0.7"}, "temperature"), ({"temperature": True}, "temperature"), ({"top_p": 1.1}, "top_p"),
    ({"top_p": -0.1}, "top_p"), ({"sequence": ""}, "sequence"), ({"sequence": None}, "sequence"),
    ({"sequence": 5}, "sequence"), ({"sequence": ["ACGT"]}, "sequence"), ({"sequence": "ACGU"}, "sequence"),
    ({"sequence": "MKVL"}, "sequence"), ({"sequence": "AC GT"}, "sequence"), ({"sequence": "ACGTé"}, "sequence"),
    ({"sequence": "ACGTß"}, "sequence"), ({"sequence": "ACGT\u0000"}, "sequence"),
    ({"sequence": "A" * 40_000}, "sequence"), ({"num_tokens": 0}, "num_tokens"), ({"num_tokens": "100"}, "num_tokens"),
    ({"num_tokens": 10**9}, "num_tokens"), ({"num_tokens": 100.5}, "num_tokens"), ({"num_tokens": [1]}, "num_tokens"),
    ({"random_seed": "1"}, "random_seed"), ({"random_seed": 1.5}, "random_seed"),
    ({"random_seed": True}, "random_seed"),
    ({"enable_logits": "true"}, "enable_logits"), ({"enable_logits": 1}, "enable_logits"),
    ({"enable_sampled_probs": None}, "enable_sampled_probs"),
]  # fmt: skip
BAD_FORWARD = [
    ({"output_layers": []}, "output_layers"), ({"output_layers": ["norm"] * 101}, "output_layers"),
    ({"output_layers": "norm"}, "output_layers"), ({"output_layers": [1]}, "output_layers.0"),
    ({"output_layers": ["a" * 201]}, "output_layers.0"), ({"output_layers": ["blocks.99"]}, "output_layers"),
    ({"output_layers": None}, "output_layers"), ({"sequence": ""}, "sequence"), ({"sequence": "ACGRT"}, "sequence"),
    ({"layers": ["norm"]}, "layers"),
]  # fmt: skip


def refused(answer, field):
    """A 422 of one line that names the field and holds nothing of a long body."""
    body = answer.json()
    assert answer.status_code == 422
    assert {"detail", "error"} <= set(body)
    assert body["error"].startswith(f"{field}: ") and "\n" not in body["error"] and len(body["error"]) < 500
    assert len(answer.content) < 3000 and "input" not in body["detail"][0]


@pytest.mark.parametrize("change, field", BAD_GENERATE, ids=lambda value: str(value)[:40])
def test_generate_refuses(client, change, field):
    refused(client.post(GENERATE, json={"sequence": PROMPT, "num_tokens": 2, **change}), field)


@pytest.mark.parametrize("change, field", BAD_FORWARD, ids=lambda value: str(value)[:40])
def test_forward_refuses(client, change, field):
    refused(client.post(FORWARD, json={"sequence": PROMPT, "output_layers": ["norm"], **change}), field)


@pytest.mark.parametrize("text", ['{"sequence": "ACGT", "temperature": NaN}', "[]", "{", '"ACGT"', "[" * 5000, ""])
def test_bodies_that_are_no_request(client, text):
    answer = client.post(GENERATE, content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422 and {"detail", "error"} <= set(answer.json())


def test_what_would_be_too_large_names_the_flag():
    with serving(MODELS["mito"], nim=Nim(max_mb=1)) as client:
        answer = client.post(FORWARD, json={"sequence": "ACGT" * 300, "output_layers": ["unembed"]})
    assert answer.status_code == 422 and "--nim-max-mb" in answer.json()["error"]


def test_a_masked_model_does_not_generate():
    with serving(load(GOLDEN / "caduceus_ph_tiny", device="cpu")) as client:
        answer = client.post(GENERATE, json={"sequence": "ACGT", "num_tokens": 2})
    assert answer.status_code == 422 and "is a masked model" in answer.json()["error"]


def test_the_first_causal_model_answers_among_several():
    masked = load(GOLDEN / "caduceus_ph_tiny", device="cpu")
    with serving(masked, MODELS["evo2"]) as client:
        answer = client.post(GENERATE, json={"sequence": "ACGT", "num_tokens": 2})
    assert answer.status_code == 200 and answer.headers["X-NexVar-Model"] == "tiny_evo2"


@pytest.mark.parametrize("too_busy, status", [(True, 422), (False, 503)])
def test_a_full_queue(too_busy, status):
    gate, started = threading.Event(), threading.Event()
    server = make_server([MODELS["evo2"]], queue=1, nim=Nim(too_busy=too_busy))
    with client_of(server) as client:
        try:
            server.thread.submit(lambda ticket: (started.set(), gate.wait(30)))
            assert started.wait(30)
            server.thread.submit(lambda ticket: None)
            answer = client.post(GENERATE, json={"sequence": "ACGT", "num_tokens": 2})
        finally:
            gate.set()
    assert answer.status_code == status
    if too_busy:
        assert "too busy" in answer.json()["detail"].lower()
    else:
        assert int(answer.headers["Retry-After"]) >= 1


def test_a_time_out_is_422_and_says_at_which_token():
    with serving(MODELS["mito"], nim=Nim(seconds=0.2)) as client:
        answer = client.post(GENERATE, json={"sequence": "ACGT", "num_tokens": 4000})
    assert answer.status_code == 422 and "Timed out on token " in answer.json()["error"]


def test_values_that_overflow_are_refused_not_sent():
    loaded = tiny_evo2(seed=1)
    loaded.module.norm.scale.data.fill_(float("nan"))
    with serving(loaded) as client:
        answers = [
            client.post(GENERATE, json={"sequence": "ACGT", "num_tokens": 2, "enable_logits": True}),
            client.post(FORWARD, json={"sequence": "ACGT", "output_layers": ["unembed"]}),
        ]
    for answer in answers:
        assert answer.status_code == 422 and "overflows in float32" in answer.json()["error"]
        assert "NaN" not in json.dumps(answer.json())

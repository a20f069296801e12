"""Weights in 8 and 4 bits: which layers, how far the numbers move, how much memory, and one line when it cannot be."""

from __future__ import annotations

import fnmatch
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from nexvar import NexVar, NexVarError, cards, models
from nexvar.evals.promises import answer
from nexvar.models import striped_hyena2
from nexvar.ops.quantized import QuantizedLinear
from nexvar.weights import quantize
from nexvar.weights.assemble import build, make_config
from nexvar.weights.load import load, save
from places import GOLDEN

FOLDERS = sorted(p.parent.name for p in GOLDEN.glob("*/config.json") if (p.parent / "weights.safetensors").exists())
needs = {
    method: pytest.mark.skipif(
        method == "nf4" and importlib.util.find_spec("bitsandbytes") is None, reason="needs nexvar[quantize]"
    )
    for method in quantize.METHODS
}
METHODS = [pytest.param(method, marks=needs[method]) for method in quantize.METHODS]

# -- which layers

STAY = ("norm", "embed", "lm_head", "decoder", "gate.weight", "filter_fn", "short_filter", "conv", "x_proj", "dt_proj")
STAY += ("router", "unembed", "filter.", "modulation", "heads", "classifier", "pooler", "cls.predictions")
LARGEST = {c.architecture: c for c in sorted(cards.all_cards().values(), key=lambda c: c.parameters)}


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_every_architecture_says_which_layers(architecture):
    """Linear weights of attention and MLP alone; nothing that the issue names as staying; most of the parameters."""
    patterns = models.get(architecture).QUANTIZED
    card = LARGEST[architecture]
    config = dict(card.config) | ({"fp8_projections": False} if "fp8_projections" in card.config else {})
    module = build(architecture, make_config(architecture, config, card.name))
    names = [name for name, _ in module.named_parameters()]
    chosen = [name for name in names if quantize.is_quantized(module, name, patterns)]
    assert all(fnmatch.filter(names, pattern) for pattern in patterns), "a pattern that names nothing"
    for name in chosen:
        assert isinstance(module.get_submodule(name.removesuffix(".weight")), nn.Linear)
        assert not any(part in name.replace("conv_tower", "") for part in STAY if part not in ("decoder", "conv")), name
    keep = models.get(architecture).KEEP_FLOAT32
    assert not any(fnmatch.fnmatch(name, pattern) for name in chosen for pattern in keep)
    share = sum(module.get_parameter(n).numel() for n in chosen) / sum(p.numel() for p in module.parameters())
    assert share > {"ntv3": 0.4, "caduceus": 0.75, "segment_nt": 0.85}.get(architecture, 0.9), share


def test_fp8_projections_stay():
    card = cards.get("nexvar_1b_base")
    module = build(card.architecture, make_config(card.architecture, card.config, card.name))
    patterns = models.get(card.architecture).QUANTIZED
    chosen = [name for name, _ in module.named_parameters() if quantize.is_quantized(module, name, patterns)]
    assert chosen and not any("projections" in name for name in chosen)


@pytest.mark.parametrize(("shape", "group"), [((32, 256), 128), ((32, 192), 64), ((32, 96), 32), ((32, 48), None)])
def test_int4_groups(shape, group):
    assert quantize.int4_group(*shape) == group
    assert quantize.int4_group(shape[0] + 1, shape[1]) is None


# -- the numbers


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", METHODS)
def test_a_layer_is_near_the_exact_one(method, dtype):
    torch.manual_seed(0)
    wanted = getattr(torch, dtype)
    exact = nn.Linear(256, 128).to(wanted).requires_grad_(False)
    holder = nn.Module()
    holder.layer = nn.Linear(256, 128, device="meta")
    quantizer = quantize.Quantizer(method, ("layer.weight",), torch.device("cpu"), wanted)
    assert quantizer.put(holder, "layer.weight", exact.weight, wanted)
    assert not quantizer.put(holder, "layer.bias", exact.bias, wanted)
    holder.layer.bias = exact.bias
    x = torch.randn(64, 256, dtype=wanted)
    apart = float((holder.layer(x) - exact(x)).norm() / exact(x).norm())
    assert 0 < apart < {"int8": 0.01, "int4": 0.12, "nf4": 0.12}[method]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", FOLDERS)
def test_every_architecture_runs_quantised(name, method):
    """Logits stay similar. These layers have 16 to 64 inputs: some are too small for 4 bits, and errors add up."""
    exact = load(GOLDEN / name, device="cpu", dtype="float32")
    loaded = load(GOLDEN / name, device="cpu", dtype="float32", quantize=method)
    assert loaded.precision == f"float32, {method}"
    text = ("ACGTTGCAAGCTCTAGGACTTACGGATCCATGAACGTCCATTTGCGAGTACCTTAGGCATCGAC" * 2)[:128]
    ids = torch.tensor([exact.tokenizer.encode(text, special=False).ids])
    with torch.no_grad():
        ours, theirs = (answer(x, ids).flatten(0, 1) for x in (loaded, exact))
    similar = torch.cosine_similarity(ours, theirs, dim=-1).mean()
    assert torch.isfinite(ours).all()
    assert method == "nf4" or not torch.equal(ours, theirs)  # nf4 leaves layers of fewer than 64 inputs alone
    assert similar > {"int8": 0.998, "int4": 0.75, "nf4": 0.75}[method], similar


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """1.1 M parameters in float32, wide enough for 4 bits everywhere."""
    config = striped_hyena2.Config(
        hidden_size=128, pattern="SD*H", num_attention_heads=4, inner_mlp_size=256, vocab_size=128, hcm_filter_groups=8
    )
    module = striped_hyena2.Model(config)
    module.init_weights(torch.Generator().manual_seed(0))
    path = tmp_path_factory.mktemp("model") / "m"
    card = {"tokenizer": "byte", "objective": "causal"}
    return save(path, module, architecture="striped_hyena2", config=config, card=card)


def stored_bytes(module: nn.Module) -> float:
    """What the parameters and the codes really take; of bitsandbytes' parameters the inner tensors."""
    codes = (layer for layer in module.modules() if isinstance(layer, QuantizedLinear))
    total = sum(t.nbytes for layer in codes for t in layer.buffers())
    for parameter in module.parameters():
        if getattr(parameter, "quant_state", None) is not None:
            state = parameter.quant_state
            parts = [parameter.data, state.absmax, *([state.state2.absmax] if state.nested else [])]
            assert parts[0].dtype == torch.uint8
        else:
            parts = [parameter]
        total += sum(t.numel() * t.element_size() for t in parts)
    return total


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", METHODS)
def test_bytes_are_those_that_weight_bytes_promises(folder, method, dtype):
    loaded = load(folder, device="cpu", dtype=dtype, quantize=method)
    plain = build("striped_hyena2", loaded.module.config)
    patterns, size = striped_hyena2.QUANTIZED, loaded.dtype.itemsize
    promised = 0.0
    for name, parameter in plain.named_parameters():
        if quantize.is_quantized(plain, name, patterns):
            promised += quantize.weight_bytes(*parameter.shape, method, size)
        else:
            exact = any(fnmatch.fnmatch(name, p) for p in striped_hyena2.KEEP_FLOAT32)
            promised += parameter.numel() * (4 if exact else size)
    with torch.no_grad():
        loaded.module(torch.tensor([[65] * 8]))  # bitsandbytes packs at the first use
    assert stored_bytes(loaded.module) == pytest.approx(promised, rel=0.035 if method == "nf4" else 1e-6)
    unquantised = load(folder, device="cpu", dtype=dtype)
    smaller = stored_bytes(loaded.module) / stored_bytes(unquantised.module)
    assert smaller < {"int8": 0.62, "int4": 0.45, "nf4": 0.42}[method]


@pytest.mark.parametrize("method", METHODS)
def test_generation_and_scores(folder, method):
    model = NexVar(folder, device="cpu", quantize=method)
    cached, whole = (
        model.generate(["ACGTACGTAC"], n_tokens=6, top_k=1, cached_generation=c).token_ids for c in (True, False)
    )
    assert cached == whole
    exact = NexVar(folder, device="cpu").score_sequences(["ACGTTGCAACCT"])
    assert model.score_sequences(["ACGTTGCAACCT"]) == pytest.approx(exact, abs=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_pass_through(folder, method):
    """What QLoRA needs: the quantised weight is frozen, its input gets a gradient."""
    loaded = load(folder, device="cpu", quantize=method)
    layer = loaded.module.blocks[0].mlp.l3
    assert method != "nf4" or not layer.weight.requires_grad  # others have no weight, but codes
    x = torch.randn(2, 5, 256, requires_grad=True)
    layer(x).square().sum().backward()
    exact = load(folder, device="cpu").module.blocks[0].mlp.l3
    y = x.detach().clone().requires_grad_()
    exact(y).square().sum().backward()
    assert torch.cosine_similarity(x.grad.flatten(), y.grad.flatten(), dim=0) > 0.97
    assert not any(buffer.requires_grad for buffer in layer.buffers())


@pytest.mark.parametrize("method", METHODS)
def test_layers_are_quantised_one_at_a_time(folder, method, monkeypatch):
    """When the last layer is quantised, the first is already small: no copy of the whole model is ever made."""
    seen = []
    original = quantize.Quantizer.put

    def watched(self, module, name, tensor, dtype):
        took = original(self, module, name, tensor, dtype)
        if took:
            left = [n for n, p in module.named_parameters() if p.is_meta and n.endswith("weight")]
            seen.append(len(left))
        return took

    monkeypatch.setattr(quantize.Quantizer, "put", watched)
    load(folder, device="cpu", quantize=method)
    assert seen == sorted(seen, reverse=True) and seen[0] - seen[-1] == len(seen) - 1


PEAK = """
import sys, threading, time, torch
torch.set_num_threads(1)
from nexvar.weights.load import load

def anonymous():
    return int(open("/proc/self/status").read().split("RssAnon:")[1].split()[0]) * 1024

load("nexvar_mito", device="cpu", quantize=sys.argv[2])  # what the packages themselves take
before, peak = anonymous(), [0]

def watch():
    while True:
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.002)

threading.Thread(target=watch, daemon=True).start()
load(sys.argv[1], device="cpu", quantize=sys.argv[2])
time.sleep(0.01)
print(peak[0] - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("method", [pytest.param("int8", marks=needs["int8"]), pytest.param("nf4", marks=needs["nf4"])])
def test_peak_memory_is_below_the_unquantised_model(method, tmp_path):
    """100 MB in bfloat16; the quantised model and one layer's temporaries stay well below."""
    config = striped_hyena2.Config(
        hidden_size=768, pattern="SSSSSSS", num_attention_heads=12, inner_mlp_size=2048, hcs_filter_groups=48
    )
    module = striped_hyena2.Model(config).bfloat16()
    card = {"tokenizer": "byte", "objective": "causal"}
    folder = save(tmp_path / "m", module, architecture="striped_hyena2", config=config, card=card)
    size = sum(p.numel() * p.element_size() for p in module.parameters())
    command = [sys.executable, "-c", PEAK, str(folder), method]
    out = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert out.returncode == 0, out.stderr
    assert 0.2 * size < float(out.stdout) < 0.9 * size


# -- where a model is loaded by name


@pytest.mark.parametrize("option", [pytest.param("quantize", marks=needs["int8"]), "device_map"])
def test_scoring_a_file(option, folder, tmp_path):
    """`nexvar score --quantize int8` and `--device-map auto`: the output says it, and the scores are close."""
    from nexvar.inference.options import Options
    from score_job import run_job

    sequence = "ACGTTGCAAGCTCTAGGACTTACGGATCCATGAACGTCCATTTGCGAGTACCTTAGGCATCGAC" * 4
    (tmp_path / "g.fa").write_text(f">chr1\n{sequence}\n")
    rows = "".join(
        f"chr1\t{i + 1}\t.\t{sequence[i]}\t{'A' if sequence[i] != 'A' else 'C'}\t.\t.\t.\n" for i in (100, 130)
    )
    (tmp_path / "in.vcf").write_text(
        f"##fileformat=VCFv4.2\n##contig=<ID=chr1,length={len(sequence)}>\n"
        f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n{rows}"
    )
    found = {}
    for name, value in (("plain", None), (option, "int8" if option == "quantize" else "auto")):
        out = tmp_path / f"{name}.vcf"
        more = {} if value is None else {option: value}
        run_job(
            tmp_path / "in.vcf", tmp_path / "g.fa", out, model=folder, device="cpu", options=Options(window=64), **more,
        )  # fmt: skip
        text = out.read_text()
        assert ("float32, int8" in text) == (value == "int8")
        found[name] = [float(x) for x in re.findall(r"NEXVAR_LLR=([^;\t\n,]+)", text)]
    assert len(found["plain"]) == 2
    assert found[option] == pytest.approx(found["plain"], abs=0 if option == "device_map" else 0.01)
    assert option == "device_map" or found[option] != found["plain"]


# -- bad requests


def test_wrong_requests_are_one_line(folder, monkeypatch):
    with pytest.raises(NexVarError, match="no quantisation 'int3'.*int8, int4, nf4"):
        load(folder, device="cpu", quantize="int3")
    original = quantize.importlib.import_module

    def without(name, *args):
        if name.split(".")[0] in ("torchao", "bitsandbytes"):
            raise ImportError(f"No module named {name!r}")
        return original(name, *args)

    monkeypatch.setattr(quantize.importlib, "import_module", without)
    for method, device in (("nf4", "cpu"), ("int8", "cuda"), ("int4", "cuda")):
        with pytest.raises(NexVarError, match=r"pip install 'nexvar\[quantize\]'") as error:
            quantize.quantizer(method, "striped_hyena2", torch.device(device), torch.bfloat16)
        assert "\n" not in str(error.value)
    for method in ("int8", "int4"):  # nothing is needed for these
        load(folder, device="cpu", quantize=method)
    for device, dtype, method, what in (
        ("mps", torch.float32, "int4", "CPUs and CUDA"),
        ("mps", torch.float32, "nf4", "CPUs and CUDA"),
        ("cuda", torch.float32, "int4", "bfloat16"),
    ):
        with pytest.raises(NexVarError, match=what):
            quantize.quantizer(method, "striped_hyena2", torch.device(device), dtype)

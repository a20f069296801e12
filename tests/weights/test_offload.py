"""Weights on disk, in main memory or elsewhere: the numbers of the plain model, one layer in memory at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nexvar import NexVar, NexVarError
from nexvar.weights import machine, offload
from nexvar.weights.load import load
from places import GOLDEN

FOLDERS = sorted(p.parent.name for p in GOLDEN.glob("*/config.json") if (p.parent / "weights.safetensors").exists())
TEXT = "ACGTTGCAAGCTCTAGGACTTACGGATCCATGAACGTCCATTTGCGAGTACCTTAGGCATCGAC" * 2


def ids_of(loaded):
    return torch.tensor([loaded.tokenizer.encode(TEXT[:120], special=loaded.card.special_tokens).ids])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", FOLDERS)
def test_logits_and_taps_are_those_of_the_plain_model(name, dtype, tmp_path):
    plain = load(GOLDEN / name, device="cpu", dtype=dtype)
    other = load(GOLDEN / name, device="cpu", dtype=dtype, device_map={"": "disk"}, offload_folder=tmp_path / "spilled")
    ids, taps = ids_of(plain), plain.module.tap_names
    with torch.no_grad():
        expected, found = (x.module(ids, taps=taps) for x in (plain, other))
    torch.testing.assert_close(found.logits, expected.logits, atol=0, rtol=0)
    assert all(torch.equal(found.taps[tap], expected.taps[tap]) for tap in taps)


@pytest.mark.parametrize("name", ["sh2_a", "sh1_a", "genos_tiny", "hyenadna_tiny"])
def test_generation_and_scores_with_a_cache(name, tmp_path):
    plain = NexVar(GOLDEN / name, device="cpu", dtype="float32")
    layers = offload.units(plain.model)
    mapped = NexVar(
        GOLDEN / name, device="cpu", dtype="float32", device_map={layers[1]: "disk", "": "cpu"}, offload_folder=tmp_path
    )
    made = [m.generate([TEXT[:20]], n_tokens=8, top_k=1).sequences for m in (plain, mapped)]
    assert made[0] == made[1]
    assert mapped.score_sequences([TEXT, TEXT[:30]]) == pytest.approx(
        plain.score_sequences([TEXT, TEXT[:30]]), abs=1e-6
    )
    with torch.enable_grad():  # after inference mode
        mapped.model(ids_of(mapped.loaded)).logits.float().sum()


def test_only_the_layer_in_use_is_copied(tmp_path):
    loaded = load(
        GOLDEN / "sh2_a",
        device="cpu",
        dtype="float32",
        device_map={"blocks": "disk", "": "cpu"},
        offload_folder=tmp_path,
    )
    resident = next(
        sub._parameters.resident for sub in loaded.module.modules() if isinstance(sub._parameters, offload._Lazy)
    )
    per_layer = {}
    for name, parameter in loaded.module.named_parameters():
        unit = next((u for u in offload.units(loaded.module) if name.startswith(f"{u}.")), None)
        per_layer[unit] = per_layer.get(unit, 0) + parameter.numel()
    largest = 0
    original = offload._Resident.fetch

    def watched(self, *args):
        nonlocal largest
        found = original(self, *args)
        largest = max(largest, sum(p.numel() for p in self.copies.values()))
        return found

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(offload._Resident, "fetch", watched)
        loaded.module(ids_of(loaded))
    assert 0 < largest <= max(size for unit, size in per_layer.items() if unit)
    assert {unit for unit in per_layer if unit} == set(offload.units(loaded.module))
    assert resident.unit == offload.units(loaded.module)[-1]


def test_mapped_weights_are_not_written_again(tmp_path):
    """Only what ``convert`` reorders goes to the folder; it is gone when the model is."""
    for name, spills in (("nt_v2_tiny", False), ("sh2_a", True)):
        folder = tmp_path / name
        loaded = load(GOLDEN / name, device="cpu", dtype="float32", device_map={"": "disk"}, offload_folder=folder)
        files = list(folder.glob("*/*"))
        assert bool(files) == spills
        assert sum(f.stat().st_size for f in files) < (GOLDEN / name / "weights.safetensors").stat().st_size
        with torch.no_grad():
            loaded.module(ids_of(loaded))
        del loaded
        import gc

        gc.collect()
        assert not list(folder.glob("*/*"))


def test_parameters_are_the_stored_values(tmp_path):
    plain, other = (
        load(GOLDEN / "sh2_a", device="cpu", dtype="float32", **more)
        for more in ({}, {"device_map": {"": "disk"}, "offload_folder": tmp_path})
    )
    ours, theirs = other.module.state_dict(), plain.module.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[k].float(), theirs[k].float()) for k in theirs)


def test_auto_fills_the_fastest_first(monkeypatch):
    module = load(GOLDEN / "sh2_a", device="cpu").module
    layers = offload.units(module)
    sizes = {name: 100.0 if "blocks" in name else 1.0 for name, _ in module.named_parameters()}
    unit = [sum(v for k, v in sizes.items() if k.startswith(f"{u}.")) for u in layers]
    rest = sum(sizes.values()) - sum(unit)

    def room(*gigabytes):
        free = dict(zip(("cuda:0", "cuda:1", "cpu"), gigabytes, strict=False))
        monkeypatch.setattr(machine, "devices", lambda first: [torch.device(d) for d in free])
        monkeypatch.setattr(machine, "free_memory", lambda device: free[str(device)] / offload.FILL)
        return offload.auto(module, torch.device("cuda:0"), sizes)

    everything = room(rest + sum(unit) + 1, 0, 0)
    assert set(everything.values()) == {"cuda:0"}
    assert set(room(rest + max(unit), 0, 0).values()) == {"cuda:0", "disk"}  # room for a visiting layer alone
    split = room(rest + max(unit) + unit[0] + 1, unit[1] + unit[2] + 1, unit[3] + 1)
    assert [split[u] for u in layers[:4]] == ["cuda:0", "cuda:1", "cuda:1", "cpu"]
    assert all(split[u] == "disk" for u in layers[4:])


def test_auto_on_a_machine_with_room_is_the_plain_model():
    loaded = load(GOLDEN / "sh2_a", device="cpu", device_map="auto")
    assert not any(isinstance(sub._parameters, offload._Lazy) for sub in loaded.module.modules())


MEASURE = """
import sys, threading, time, torch
torch.set_num_threads(1)
from nexvar.weights.load import load

def anonymous():
    text = open("/proc/self/status").read()
    return int(text.split("RssAnon:")[1].split()[0]) * 1024

def run(folder, **options):
    peak, going = [0], [True]
    def watch():
        while going[0]:
            peak[0] = max(peak[0], anonymous())
            time.sleep(0.002)
    load("nexvar_mito", device="cpu").module(torch.tensor([[65, 67] * 8]))  # what any forward allocates once
    before = anonymous()
    thread = threading.Thread(target=watch)
    thread.start()
    loaded = load(folder, device="cpu", dtype="float32", **options)
    with torch.no_grad():
        out = loaded.module(torch.tensor([[65, 67, 71, 84] * 8])).logits
    going[0] = False
    thread.join()
    return peak[0] - before, float(out.double().sum())

options = {"device_map": {"": "cpu", "blocks": "disk"}, "offload_folder": sys.argv[3]} if sys.argv[2] == "disk" else {}
print(*run(sys.argv[1], **options))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_is_bounded_by_a_layer(tmp_path):
    """16 layers of 3 MB each in float32, stored in bfloat16: 48 MB plain, a few layers' worth from the disk."""
    from nexvar.models import striped_hyena2
    from nexvar.weights.load import save

    config = striped_hyena2.Config(
        hidden_size=256, pattern="SDSDSDSDSDSDSDSD", num_attention_heads=4, inner_mlp_size=640, hcm_filter_groups=16
    )
    module = striped_hyena2.Model(config).bfloat16()
    folder = save(
        tmp_path / "m",
        module,
        architecture="striped_hyena2",
        config=config,
        card={"tokenizer": "byte", "objective": "causal"},
    )
    size = 4 * sum(p.numel() for p in module.parameters())
    found = {}
    for how in ("plain", "disk"):
        command = [sys.executable, "-c", MEASURE, str(folder), how, str(tmp_path / "spill")]
        out = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert out.returncode == 0, out.stderr
        found[how] = [float(x) for x in out.stdout.split()]
    assert found["plain"][1] == found["disk"][1]
    assert found["plain"][0] > 0.7 * size
    assert found["disk"][0] < 0.4 * size, found


def test_wrong_requests_are_one_line(tmp_path):
    source = GOLDEN / "sh2_a"
    for options, what in (
        ({"device_map": "balanced"}, "no device_map 'balanced'"),
        ({"device_map": {"blocks.99": "disk", "": "cpu"}}, "no part of the model is called 'blocks.99'"),
        ({"device_map": {"blocks": "disk"}}, "has no place"),
        ({"device_map": {"": "cuda:7"}}, "no device 'cuda:7'"),
        ({"device_map": "auto", "quantize": "int8"}, "do not go together|pip install"),
        ({"offload_folder": tmp_path}, "without device_map"),
    ):
        with pytest.raises(NexVarError, match=what) as error:
            load(source, device="cpu", **options)
        assert "\n" not in str(error.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(NexVarError, match="cannot write there"):
        load(source, device="cpu", device_map={"": "disk"}, offload_folder=tmp_path / "file" / "inside")


def test_a_damaged_checkpoint_is_still_refused(tmp_path):
    state = load_file(GOLDEN / "nt_v2_tiny" / "weights.safetensors")
    name = "esm.encoder.layer.1.output.dense.weight"
    state[name] = state[name] * float("nan")
    (tmp_path / "config.json").write_bytes((GOLDEN / "nt_v2_tiny" / "config.json").read_bytes())
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(NexVarError, match="NaN"):
        load(tmp_path, device="cpu", device_map={"": "disk"}, offload_folder=tmp_path / "spill")

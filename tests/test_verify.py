"""``nexvar verify``: every recorded value is compared, and a wrong one fails."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nexvar import cards, verify
from nexvar.cards import File
from nexvar.models import striped_hyena2
from nexvar.weights.load import load, save
from places import GOLDEN, ROOT

FOLDERS = sorted(p.parent.name for p in GOLDEN.glob("*/config.json") if (p.parent / "weights.safetensors").exists())


def outcomes(source: Any, **options: Any) -> dict[str, str]:
    return {check.name: check.outcome for check in verify.verify(source, device="cpu", **options)}


@pytest.fixture(scope="module")
def module() -> Any:
    config = striped_hyena2.Config(
        hidden_size=16, pattern="SD*H", num_attention_heads=2, inner_mlp_size=16, vocab_size=128, hcm_filter_groups=4
    )
    made = striped_hyena2.Model(config)
    made.init_weights(torch.Generator().manual_seed(1))
    return made.eval()


@pytest.fixture(scope="module")
def recorded(module) -> dict[str, Any]:
    """Oracles of the tiny model along slow paths: token by token through the cache, and prompt by prompt."""
    text = "ACGTTGCAAC"
    ids = torch.tensor([list(text.encode())])
    cache, states, logits = module.new_cache(1, 10), [], []
    taps = ("embedding_layer", "blocks.0", "blocks.1", "blocks.2", "norm")
    with torch.no_grad():
        for token in ids.split(1, 1):
            out = module(token, cache=cache, taps=taps)
            states.append(out.taps)
            logits.append(out.logits[0, 0])
        losses, right = [], []
        for sequence in verify.prompts():
            tokens = torch.tensor([list(sequence.encode())])
            scores = module(tokens).logits[0, :-1].double()  # exact; the check rounds as a GPU's bfloat16 does
            losses.append(torch.nn.functional.cross_entropy(scores, tokens[0, 1:]).item())
            right.append((scores.argmax(-1) == tokens[0, 1:]).float().mean().item() * 100)
    case = {
        "text": text,
        "input_ids": ids[0].tolist(),
        "mean": torch.stack([s["norm"][0, 0] for s in states]).mean(0).tolist(),
        "hidden_states": [states[0][tap][0, 0, :5].tolist() for tap in taps],
        "logits": torch.stack(logits[:3]).tolist(),
    }
    prompts = {"loss": sum(losses) / 4, "accuracy": sum(right) / 4, "tolerance": 0.02, "accuracy_tolerance": 0.5}
    return {"dtype": "float32", "absolute": 1e-4, "cases": [case], "prompts_csv": prompts, "brca1_auroc": 0.5}


def write(folder: Path, module: Any, oracles: dict[str, Any]) -> Path:
    card = {"tokenizer": "byte", "objective": "causal", "oracles": oracles}
    return save(folder, module, architecture="striped_hyena2", config=module.config, card=card)


def test_right_values_pass_and_the_line_says_how_close(tmp_path, module, recorded):
    folder = write(tmp_path / "m", module, recorded)
    checks = list(verify.verify(folder, device="cpu"))
    assert {c.name: c.outcome for c in checks if c.outcome != "ok"} == {
        "model.safetensors": "skipped",  # no card knows its checksum
        "brca1_auroc": "skipped",
    }
    names = [c.name for c in checks]
    for name in ("tensors", "tokenizer", "forward", "cache", "case 1, tokens", "case 1, mean hidden state"):
        assert name in names
    assert {"case 1, hidden states", "case 1, first logits", "prompts.csv loss", "prompts.csv accuracy"} <= set(names)
    assert "16 values, at most" in next(str(c) for c in checks if "mean" in c.name)


@pytest.mark.parametrize(
    ("where", "check"),
    [
        (("cases", 0, "mean", 3), "case 1, mean hidden state"),
        (("cases", 0, "hidden_states", 2, 1), "case 1, hidden states"),
        (("cases", 0, "logits", 1, 65), "case 1, first logits"),
        (("cases", 0, "input_ids", 0), "case 1, tokens"),
        (("prompts_csv", "loss"), "prompts.csv loss"),
        (("prompts_csv", "accuracy"), "prompts.csv accuracy"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_wrong_value_fails(tmp_path, module, recorded, where, check):
    wrong = json.loads(json.dumps(recorded))
    inner = wrong
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] += 1 if "input_ids" in where else 0.6 if "accuracy" in where else 0.05
    found = outcomes(write(tmp_path / "m", module, wrong))
    assert found[check] == "FAIL"
    if "input_ids" not in where:  # another token changes what follows from it, too
        assert [name for name, outcome in found.items() if outcome == "FAIL"] == [check]


@pytest.mark.parametrize("oracles", [[], {"cases": 3}, {"cases": [{}]}, {"absolute": 1, "cases": [{"text": "ACGé"}]}])
def test_malformed_values_fail_in_one_line(tmp_path, module, oracles):
    assert "FAIL" in outcomes(write(tmp_path / "m", module, oracles)).values()


def test_other_weights_fail(tmp_path, module, recorded):
    folder = write(tmp_path / "m", module, recorded)
    state = load_file(folder / "model.safetensors")
    state["blocks.3.filter.D"] = state["blocks.3.filter.D"] + 0.1
    save_file(state, folder / "model.safetensors")
    failed = {name for name, outcome in outcomes(folder).items() if outcome == "FAIL"}
    assert {"case 1, mean hidden state", "case 1, first logits"} <= failed


def test_a_mask_probability(tmp_path):
    """A masked model: the softmax at a masked base."""
    folder = tmp_path / "nt"
    shutil.copytree(GOLDEN / "ntv3_pre_tiny", folder, ignore=shutil.ignore_patterns("io*"))
    loaded = load(folder, device="cpu")
    text = "ACGT" * 32
    ids = torch.tensor([loaded.tokenizer.encode(text, special=False).ids])
    ids[0, 70] = loaded.tokenizer.mask_id
    base = loaded.tokenizer.base_ids()
    with torch.no_grad():
        p = loaded.module(ids).logits[0, 70, [base[b] for b in "ACGT"]].softmax(-1).tolist()
    case = {"text": text, "masked": 70, "probabilities": dict(zip("ACGT", p, strict=True))}
    tolerance = {"absolute": 1e-4}
    (check,) = verify._case(loaded, case, tolerance, "x")
    assert check.outcome == "ok", check
    case["probabilities"]["A"] += 0.01
    (check,) = verify._case(loaded, case, tolerance, "x")
    assert check.outcome == "FAIL"


@pytest.mark.parametrize("name", FOLDERS)
def test_every_architecture_computes(name):
    found = outcomes(GOLDEN / name)
    assert "FAIL" not in found.values()
    assert found["recorded values"] == "skipped"


@pytest.mark.parametrize("name", ["nt_v2_tiny", "genos_tiny", "dnabert2_tiny", "hyenadna_tiny", "caduceus_ph_tiny"])
def test_cases_of_the_shipped_kind_run_on_every_family(name):
    """The same case as the cards' files hold: the mean over all tokens, and a state for every layer."""
    loaded = load(GOLDEN / name, device="cpu", dtype="float32")
    text = "ACGTACGTAACC"
    module, ids = loaded.module, loaded.tokenizer.encode(text, special=loaded.card.special_tokens).ids
    with torch.no_grad():
        tap = module(torch.tensor([ids]), taps=(module.last_hidden,)).taps[module.last_hidden]
    case = {"text": text, "input_ids": ids, "mean": tap[0].mean(0).tolist()}
    checks = list(verify._case(loaded, case, {"absolute": 1e-5}, "x"))
    assert [c.outcome for c in checks] == ["ok", "ok"]


def test_recorded_files_of_the_cards_are_readable_and_of_known_kinds():
    known = {"cases", "prompts_csv", "generation_identity", "brca1_auroc", *verify.DESCRIBES}
    with_values = [card for card in cards.all_cards().values() if card.oracles]
    assert len(with_values) >= 20
    for card in with_values:
        oracles = verify.recorded(card)
        assert set(oracles) <= known, card.name
        assert "cases" not in oracles or oracles["absolute"] > 0


def test_hidden_states_of_genos_are_taken_where_the_notebook_prints_them():
    """13 states: the embedding, the outputs of the first 11 layers, and the final norm's."""
    oracles = verify.recorded(cards.get("genos_1.2b"))
    assert len(oracles["cases"][0]["hidden_states"]) == cards.get("genos_1.2b").config["num_hidden_layers"] + 1
    loaded = load(GOLDEN / "genos_tiny", device="cpu", dtype="float32")
    module, layers = loaded.module, loaded.module.config.num_hidden_layers
    ids = torch.tensor([loaded.tokenizer.tokenize("G")])
    with torch.no_grad():
        names = ["model.embed_tokens", *(f"model.layers.{i}" for i in range(layers - 1)), "model.norm"]
        taps = module(ids, taps=names).taps
    case = {"text": "G", "hidden_states": [taps[n][0, 0, :10].tolist() for n in names]}
    (check,) = verify._case(loaded, case, {"absolute": 1e-6}, "x")
    assert check.outcome == "ok", check


def test_files_of_a_card(tmp_path, monkeypatch):
    """A folder whose checksums a card lists is that card's; one bit off, it is nobody's."""
    folder = tmp_path / "sh2"
    shutil.copytree(GOLDEN / "sh2_a", folder, ignore=shutil.ignore_patterns("io*"))
    digest = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    size = (folder / "weights.safetensors").stat().st_size
    files = (File("weights.safetensors", digest),)
    card = dataclasses.replace(cards.get("nexvar_7b"), name="tiny", parameters=5, oracles={"odd": 1}, files=files)
    monkeypatch.setattr(cards, "all_cards", lambda: {"tiny": card})
    checks = {c.name: c for c in verify.verify(folder, device="cpu")}
    assert checks["weights.safetensors"].outcome == "ok" and "is tiny's" in checks["weights.safetensors"].detail
    assert checks["parameters"].outcome == "FAIL"  # the card claims five
    assert checks["odd"].outcome == "skipped"
    assert verify._check_file(File("weights.safetensors", digest, size), folder / "weights.safetensors").outcome == "ok"
    for wrong in (File("weights.safetensors", "0" * 64, size), File("weights.safetensors", digest, size + 1)):
        assert verify._check_file(wrong, folder / "weights.safetensors").outcome == "FAIL"
    with (folder / "weights.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    assert outcomes(folder)["weights.safetensors"] == "skipped"


def test_generation_identity_is_the_share_of_right_tokens(module):
    from nexvar.tokenizers import make
    from nexvar.weights.load import Loaded
    from tiny import tiny_card

    loaded = Loaded(module, make("byte"), tiny_card(), torch.device("cpu"), torch.float32)
    sequence = "ACGTTGCATTGACCAGTAACGGTACCATTTGC"
    tokens = list(sequence[:16].encode())
    with torch.no_grad():
        for _ in range(8):  # greedily, everything again at every token
            tokens.append(int(module(torch.tensor([tokens])).logits[0, -1].argmax()))
    truth = 100 * sum(a == b for a, b in zip(bytes(tokens[16:]), sequence[16:24].encode(), strict=True)) / 8
    assert verify.generation_identity(loaded, [sequence], 8) == [truth]
    copied = sequence[:16] + bytes(t if 32 <= t < 127 else 65 for t in tokens[16:]).decode() + "A" * 8
    (all_right,) = verify.generation_identity(loaded, [copied], 8)
    assert all_right >= truth


# -- at the command line


def nexvar(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from nexvar.cli import main; main()", "verify", *arguments, "--device", "cpu"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={"HF_HUB_OFFLINE": "1", "PATH": ""})


def test_exit_codes(tmp_path, module, recorded):
    good = write(tmp_path / "good", module, recorded)
    result = nexvar(str(good))
    assert result.returncode == 0 and result.stderr == "", result.stderr
    assert all(line.split()[0] in ("ok", "skipped") for line in result.stdout.splitlines())
    (good / "model.safetensors").write_bytes((good / "model.safetensors").read_bytes()[:-10])
    result = nexvar(str(good))
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1].startswith("FAIL")
    assert "Traceback" not in result.stderr
    for bad in (str(tmp_path / "none"), "nexvar_7bb"):
        result = nexvar(bad)
        assert result.returncode == 2 and len(result.stderr.splitlines()) == 1
    empty = tmp_path / "empty"
    empty.mkdir()
    result = nexvar(str(empty))
    assert result.returncode == 1 and "FAIL" in result.stdout and "no weights" in result.stdout
    offline = nexvar("nexvar_7b")
    assert offline.returncode == 1 and "nexvar fetch nexvar_7b" in offline.stdout


@pytest.mark.parametrize("shown", ["prompts.csv", "other sequences"])
def test_the_readme_test_script(shown, monkeypatch, capsys):
    """`python test/test_nexvar.py --model_name …`, with the built-in model; other sequences must not pass."""
    import runpy

    if shown != "prompts.csv":
        monkeypatch.setattr(verify, "prompts", lambda: ["ACGTTGCA" * 20])
    script = ROOT / "test" / "test_nexvar.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--model_name", "nexvar_mito", "--device", "cpu"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(script), run_name="__main__")
    assert stop.value.code == (0 if shown == "prompts.csv" else 1)
    assert ("Test passed" if shown == "prompts.csv" else "FAILED") in capsys.readouterr().out

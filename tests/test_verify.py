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

from nexvar import cards, oracles, verify
from nexvar.cards import File
from nexvar.models import striped_hyena2
from nexvar.weights.load import save
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
        for sequence in oracles.prompts():
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


def write(folder: Path, module: Any, values: dict[str, Any]) -> Path:
    card = {"tokenizer": "byte", "objective": "causal", "oracles": values}
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


@pytest.mark.parametrize(
    "values",
    [
        [],
        {"cases": 3},
        {"cases": [{}]},
        {"absolute": 1, "cases": [{"text": "ACGé", "mean": [1]}]},
        {"absolute": 1, "cases": [{"text": "ACGT"}]},
        {"absolute": 1, "cases": [{"text": "ACGT", "median": 1}]},
        {"cases": [{"text": "ACGT", "mean_log_prob": -1.0}]},
    ],
)
def test_malformed_values_fail_in_one_line(tmp_path, module, values):
    checks = list(verify.verify(write(tmp_path / "m", module, values), device="cpu"))
    assert checks[-1].outcome == "FAIL" and "\n" not in str(checks[-1])


def test_other_weights_fail(tmp_path, module, recorded):
    folder = write(tmp_path / "m", module, recorded)
    state = load_file(folder / "model.safetensors")
    state["blocks.3.filter.D"] = state["blocks.3.filter.D"] + 0.1
    save_file(state, folder / "model.safetensors")
    failed = {name for name, outcome in outcomes(folder).items() if outcome == "FAIL"}
    assert {"case 1, mean hidden state", "case 1, first logits"} <= failed


@pytest.mark.parametrize("name", FOLDERS)
def test_every_architecture_computes(name):
    found = outcomes(GOLDEN / name)
    assert "FAIL" not in found.values()
    assert found["recorded values"] == "skipped"


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
        monkeypatch.setattr(oracles, "prompts", lambda: ["ACGTTGCA" * 20])
    script = ROOT / "test" / "test_nexvar.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--model_name", "nexvar_mito", "--device", "cpu"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(script), run_name="__main__")
    assert stop.value.code == (0 if shown == "prompts.csv" else 1)
    assert ("Test passed" if shown == "prompts.csv" else "FAILED") in capsys.readouterr().out

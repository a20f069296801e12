"""Where the tests' files lie, for code outside fixtures."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
GOLDEN = TESTS / "golden"  # one folder per reference model, made with the original code (see their READMEs)
DATA = TESTS / "data"  # small real inputs (docs/data.md credits them)
RECIPES = ROOT / "src" / "nexvar" / "recipes"
CHECKPOINTS = sorted(p.parent for p in GOLDEN.glob("*/config.json") if (p.parent / "weights.safetensors").exists())
LANGUAGE_MODELS = [p for p in CHECKPOINTS if not p.name.startswith("segment_nt")]  # those with logits of tokens

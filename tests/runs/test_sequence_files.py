"""nexvar generate and nexvar fill: files in, FASTA out, whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nexvar import NexVar
from nexvar.errors import NexVarError
from nexvar.genome.reference import Fasta
from nexvar.inference.core.sampling import Sampling
from nexvar.runs.sequence_files import fill_file, generate_file, read_prompts
from places import GOLDEN


@pytest.fixture(scope="module")
def model() -> NexVar:
    return NexVar(GOLDEN / "sh2_a", device="cpu", dtype="float32")


def draw(n_tokens: int) -> Sampling:
    return Sampling(n_tokens, alphabet="ACGT")


@pytest.fixture
def prompts(tmp_path) -> Path:
    path = tmp_path / "prompts.fa"
    path.write_text(">one\nACGTAC\n>two\nGG\n")
    return path


def test_n_sequences_of_every_prompt_that_seeds_make_again(model, prompts, tmp_path):
    named_prompts = read_prompts(["TTT"], prompts)
    assert named_prompts == {"prompt1": "TTT", "one": "ACGTAC", "two": "GG"}
    out = tmp_path / "out.fa"
    lines = generate_file(model.loaded, named_prompts, out, draw(90), n=3, seed=7)
    assert lines == ["9 sequences after 3 prompts, seed 7"]
    made = Fasta(out)
    assert list(made.contigs) == [f"{name}_{i}" for name in named_prompts for i in (1, 2, 3)]
    assert set(made.contigs.values()) == {90}
    again = model.generate(["ACGTAC"], 90, seed=8, alphabet="ACGT").sequences[0]
    assert made.fetch("one_2", 0, 90) == again
    header = next(line for line in out.read_text().splitlines() if line.startswith(">one_2"))
    assert "model=sh2_a seed=8 mean_log_prob=-" in header
    generate_file(model.loaded, {"one": "ACGTAC"}, out, draw(5), with_prompt=True)
    assert Fasta(out).fetch("one_1", 0, 6) == "ACGTAC"
    generate_file(model.loaded, {"t": "|D__BACTERIA|GGA"}, out, draw(5), with_prompt=True)
    assert Fasta(out).contigs == {"t_1": 8}


def test_whatever_is_drawn_a_fasta_holds_letters_only_and_the_lines_say_what_is_left_out(model, tmp_path):
    """Every byte may be drawn: > and line ends would begin a record and end a line."""
    out = tmp_path / "out.fa"
    sampling = Sampling(200, top_k=0, stop=["\n", "> "])
    lines = generate_file(model.loaded, {"é": "ACGT"}, out, sampling, n=8, seed=3)
    headers, bodies = [], []
    for line in out.read_text(encoding="utf-8").splitlines():
        (headers if line.startswith(">") else bodies).append(line)
    assert len(headers) == 8 and all(header.startswith(">é_") for header in headers)
    assert all(body.isascii() and body.isalpha() for body in bodies)
    odd = next(line for line in lines if "left out of the FASTA" in line)
    with pytest.warns(UserWarning, match="no letters"):
        made = model.generate(["ACGT"] * 8, 200, top_k=0, seed=3, alphabet=None, stop=sampling.stops)
    whole = "".join(made.sequences)
    assert odd.startswith(f"{len(whole) - sum(map(len, bodies)):,} characters")


def test_nothing_is_left_after_an_error(model, tmp_path, monkeypatch):
    out = tmp_path / "out.fa"
    with pytest.raises(NexVarError):
        generate_file(model.loaded, {"a": "ACGU"}, out, draw(5))
    monkeypatch.setattr("nexvar.runs.sequence_files.WIDTH", 0)  # fails while writing
    with pytest.raises(ValueError):
        generate_file(model.loaded, {"a": "ACG"}, out, draw(2))
    assert list(tmp_path.iterdir()) == []


def test_a_tag_before_the_prompts(tmp_path):
    table = tmp_path / "t.tsv"
    table.write_text("x\td__Bacteria;p__A\n")
    tag = "|D__BACTERIA;P__A;C__NONE;O__NONE;F__NONE;G__NONE;S__NONE|"
    assert read_prompts(["ACG"], None, table, "x") == {"prompt1": tag + "ACG"}
    assert read_prompts([], None, table, "x") == {"tag": tag}
    with pytest.raises(NexVarError, match="--taxonomy"):
        read_prompts(["ACG"], None, table, None)
    with pytest.raises(NexVarError, match="no prompt"):
        read_prompts([], None)


def test_fill_a_file(tmp_path):
    model = NexVar(GOLDEN / "caduceus_ph_tiny", device="cpu", dtype="float32")
    source, out = tmp_path / "in.fa", tmp_path / "out.fa"
    source.write_text(">a\nACGNNTAC\n>b\nGGGACC\n")
    assert fill_file(model.loaded, source, out) == ["2 N filled in 2 records"]
    made = Fasta(out)
    assert made.fetch("a", 0, 8) == model.fill(["ACGNNTAC"])[0].sequence
    assert made.fetch("b", 0, 6) == "GGGACC"
    with pytest.raises(NexVarError, match="input"):
        fill_file(model.loaded, out, out)
    source.write_text(">b\nGGGACC\n")
    with pytest.raises(NexVarError, match="causal"):
        fill_file(NexVar(GOLDEN / "sh2_a", device="cpu").loaded, source, tmp_path / "no.fa")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from nexvar.cli import main; main()"]
    return subprocess.run([*program, *words], capture_output=True, text=True, timeout=120)


def test_the_command(tmp_path):
    out = tmp_path / "out.fa"
    done = run("generate", "--prompt", "ACGTACGT", "--n", "2", "--n-tokens", "12", "--seed", "1", "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert list(Fasta(out).contigs.values()) == [12, 12]
    wrong = run("generate", "--prompt", "ACGU")
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
    assert "write T for U" in wrong.stderr

"""The whole corpus through `nexvar score`: one line on standard error, exit code 2, nothing written."""

from __future__ import annotations

import sys
from importlib.resources import files

import pytest

from malformed import FASTA_CASES, OPTION_CASES, SYNONYM_CASES, TSV_CASES, VCF_CASES
from nexvar import cli

FASTA = ">chr1\n" + "ACGTTGCAAC" * 100 + "\n"
VCF = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\nchr1\t2\t.\tC\tG\t.\t.\t.\n"


def refused(arguments, monkeypatch, capfd) -> str:
    """The error line of a command that must fail."""
    monkeypatch.setattr(sys, "argv", ["nexvar", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out, err = capfd.readouterr()
    assert stopped.value.code == 2
    assert out == ""
    assert err.startswith("nexvar: ")
    assert err.count("\n") == 1
    return err.strip()


@pytest.mark.parametrize("name", [*VCF_CASES, *TSV_CASES])
def test_variants(name, tmp_path, monkeypatch, capfd):
    case = {**VCF_CASES, **TSV_CASES}[name]
    path = case.write(tmp_path, name)
    fasta = tmp_path / "ref.fa"
    fasta.write_text(FASTA)
    genome = files("nexvar") / "data" / "chrM_rCRS.fa" if name in TSV_CASES else fasta
    arguments = ["score", "--vcf", path, "--fasta", genome, "-o", tmp_path / "out.vcf.gz"]
    case.check(refused(arguments, monkeypatch, capfd), path)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("name", FASTA_CASES)
def test_fasta(name, tmp_path, monkeypatch, capfd):
    path = FASTA_CASES[name].write(tmp_path, name)
    (tmp_path / "in.vcf").write_text(VCF)
    arguments = ["score", "--vcf", tmp_path / "in.vcf", "--fasta", path, "-o", tmp_path / "out.tsv"]
    FASTA_CASES[name].check(refused(arguments, monkeypatch, capfd), path)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("name", SYNONYM_CASES)
def test_synonyms(name, tmp_path, monkeypatch, capfd):
    path = SYNONYM_CASES[name].write(tmp_path, name)
    (tmp_path / "in.vcf").write_text(VCF)
    (tmp_path / "ref.fa").write_text(FASTA)
    arguments = ["score", "--vcf", tmp_path / "in.vcf", "--fasta", tmp_path / "ref.fa", "--synonyms", path]
    SYNONYM_CASES[name].check(refused([*arguments, "-o", tmp_path / "out.tsv"], monkeypatch, capfd), path)


@pytest.mark.parametrize("options", OPTION_CASES)
def test_options(options, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.tsv").write_text("chrM\t3243\tA\tG\n")
    fasta = files("nexvar") / "data" / "chrM_rCRS.fa"
    arguments = ["score", "--vcf", "in.tsv", "--fasta", fasta, "--device", "cpu", *options.split()]
    arguments += [] if "-o " in options else ["-o", "out.vcf.gz"]
    message = refused(arguments, monkeypatch, capfd)
    assert OPTION_CASES[options] in message, message
    assert message.count(": ") >= 2, f"no fix: {message}"
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    "arguments",
    [["nope"], ["score"], ["score", "--vcf"], ["score", "--bogus"], ["generate", "--prompt", "A", "--n-tokens", "x"]],
    ids=" ".join,
)
def test_a_wrong_command_line_is_one_line(arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["nexvar", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("nexvar: ") and error.count("\n") == 1, error


@pytest.mark.parametrize("words", [["--model", "evo2_7b"], ["--random-weights"], ["-o", "x.md"]])
def test_an_option_before_the_verb_that_would_not_see_it(words, monkeypatch, capfd):
    refused(["probe", *words, "exons", "--fasta", "x.fa"], monkeypatch, capfd)

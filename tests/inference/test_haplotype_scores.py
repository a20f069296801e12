"""`--haplotype`: what stands on one copy is scored as one, and the rows say what it was."""

from __future__ import annotations

from pathlib import Path

import pysam
import pytest
import torch

from nexvar.errors import NexVarError
from nexvar.inference.options import Options
from nexvar.runs.score_run import merge
from nexvar.runs.writers import read_rows
from score_job import run_job
from tiny import tiny_loaded
from toy_genome import random_bases, write_fasta, write_vcf

GENOME = random_bases(2000, seed=9)
WINDOW = 200
LOADED = tiny_loaded()


def other(base):
    return "A" if base != "A" else "C"


def call(pos, genotype, ref=None, alt=None):
    ref = ref or GENOME[pos]
    return f"chr1\t{pos + 1}\t.\t{ref}\t{alt or other(ref[0])}\t.\t.\t.\tGT\t{genotype}\t0|0\n"


@pytest.fixture
def files(tmp_path):
    wrong = other(GENOME[820])
    lines = [
        call(500, "0|1"),
        call(530, "1|1"),
        call(560, "0|1", GENOME[560], GENOME[560] + "GG"),
        call(800, "0/1"),
        call(820, "1|0", wrong, GENOME[820]),  # not what the genome has
        call(840, "0|0"),
    ]
    header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tmy kid\tmum\n"
    return write_vcf(tmp_path / "in.vcf", lines, header), write_fasta(tmp_path / "ref.fa", chr1=GENOME)


def mean_log_likelihood(sequence):
    ids = list(sequence.encode())
    with torch.no_grad():
        log_probs = LOADED.module(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(float(log_probs[t - 1, ids[t]]) for t in range(1, len(ids))) / (len(ids) - 1)


def expected(edits):
    """The score by definition, forward strand: the window begins WINDOW // 2 before the first edit."""
    start, edited = edits[0][0] - WINDOW // 2, GENOME
    for pos, ref, alt in sorted(edits, reverse=True):
        edited = edited[:pos] + alt + edited[pos + len(ref) :]
    ref, alt = (genome[start : start + WINDOW] for genome in (GENOME, edited))
    return mean_log_likelihood(alt) - mean_log_likelihood(ref)


def run(files, out, **options):
    given = dict(
        model=LOADED, haplotypes=True, sample="my kid",
        options=Options(window=WINDOW, strand="forward", max_ref_mismatch=1.0),
    )  # fmt: skip
    return run_job(*files, out, **{**given, **options})


def test_every_haplotype_is_a_row_of_every_output(files, tmp_path):
    outputs = [tmp_path / name for name in ("out.vcf.gz", "out.tsv", "out.parquet")]
    summary = run(files, outputs)
    a, b, d = ((pos, GENOME[pos], other(GENOME[pos])) for pos in (500, 530, 800))
    c = (560, GENOME[560], GENOME[560] + "GG")
    text = {e: f"{e[0] + 1}{e[1]}>{e[2]}" for e in (a, b, c, d)}
    rows = list(read_rows(outputs[2]))
    assert [(row.id, str(row.status)) for row in rows] == [
        (f"my%20kid|2|{text[a]}+{text[b]}+{text[c]}", "OK"),
        (f"my%20kid|1|{text[b]}", "OK"),
        (f"my%20kid|.|{text[d]}", "OK"),
        (f"my%20kid|1|821{other(GENOME[820])}>{GENOME[820]}", "REF_MISMATCH"),
    ]
    assert [row.llr for row in rows[:3]] == pytest.approx([expected([a, b, c]), expected([b]), expected([d])], abs=1e-6)
    assert summary.records == 4 and summary.skipped == {"REF_MISMATCH": 1}
    assert outputs[1].read_text().splitlines()[1].split("\t")[2] == rows[0].id
    with pysam.VariantFile(str(outputs[0])) as vcf:
        records = list(vcf)
    assert [r.info["COPY"] for r in records] == [2, 1, None, 1]
    assert records[0].info["ALLELES"] == (text[a], text[b], text[c])
    assert records[0].info["NEXVAR_LLR"][0] == pytest.approx(rows[0].llr, rel=1e-5)
    assert Path(f"{outputs[0]}.tbi").exists()


def test_shards_of_haplotypes_merge_to_the_same_bytes(files, tmp_path):
    run(files, tmp_path / "whole.tsv")
    for i in (2, 1):
        run(files, tmp_path / "out.tsv", shard=(i, 2))
    merge(tmp_path / "out.tsv")
    assert (tmp_path / "out.tsv").read_bytes() == (tmp_path / "whole.tsv").read_bytes()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sample": None}, "2 samples, and none is named"),
        ({"sample": "dad"}, "no sample 'dad'"),
        ({"sample": "mum"}, "mum carries no variant"),
        ({"haplotypes": False}, "a sample without --haplotype"),
    ],
)
def test_bad_samples_are_one_line(files, tmp_path, options, says):
    with pytest.raises(NexVarError) as error:
        run(files, tmp_path / "out.vcf", **options)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_source_without_samples_has_no_haplotypes(files, tmp_path):
    with pytest.raises(NexVarError, match="samples: none"):
        run_job(None, files[1], tmp_path / "out.vcf", model=LOADED, saturate="chr1:10-12", haplotypes=True, sample="x")

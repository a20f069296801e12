"""The eight tools, asked by the SDK's own client: in this process, on stdio, and over HTTP behind the guard."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import sys
import time
from pathlib import Path

import httpx2
import numpy as np
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from nexvar.errors import NexVarError
from nexvar.inference.core.sampling import Sampling
from nexvar.inference.embed import embed
from nexvar.inference.generate import generate
from nexvar.inference.options import Options
from nexvar.runs.rows import score_variants
from nexvar.serve import mcp
from nexvar.serve.settings import Settings
from nexvar.weights.choice import ModelChoice
from nexvar.weights.load import load
from served import listening, make_server
from tiny import tiny_loaded
from toy_genome import random_bases, vcf_line, write_fasta, write_vcf

MITO = load("nexvar_mito", device="cpu")
ACCEPT = {"Accept": "application/json, text/event-stream"}
TOOLS = {
    "list_models", "find_region", "score_variants", "saturate", "embed", "generate", "score_vcf", "job",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("allowed")


@pytest.fixture(scope="module")
def server(folder):
    made = make_server([MITO], allow_dirs=(folder,))
    made.jobs.start()
    yield made
    made.close()


def call(server, name, arguments):
    """The result of one tool."""

    async def asked():
        async with Client(mcp.build(mcp.Desk(lambda: server))) as client:
            return await client.call_tool(name, arguments)

    return asyncio.run(asked())


def answer(server, name, **arguments):
    """The structure that one tool answers with."""
    result = call(server, name, arguments)
    assert not result.is_error, result.content[0].text
    return result.structured_content


def refusal(server, name, **arguments):
    """The one line in which one tool refuses."""
    result = call(server, name, arguments)
    assert result.is_error
    (content,) = result.content
    assert "\n" not in content.text and len(content.text) < 600 and "Traceback" not in content.text
    return content.text


def test_there_are_eight_and_each_says_when_to_use_it_and_what_it_is_not(server):
    async def listed():
        async with Client(mcp.build(mcp.Desk(lambda: server))) as client:
            return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in asyncio.run(listed())}
    assert set(tools) == TOOLS
    for name in ("score_variants", "saturate", "score_vcf"):
        assert "USE WHEN" in tools[name].description and "not a diagnosis" in tools[name].description
    assert "NOT FOR HARM" in tools["generate"].description
    assert all(tool.output_schema for tool in tools.values())


def test_models_and_genomes(server):
    listed = answer(server, "list_models")
    assert [model["name"] for model in listed["models"]] == ["nexvar_mito"]
    assert listed["genomes"] == ["chrM"] and "nexvar_7b" in listed["others"]


@pytest.mark.parametrize(
    "query, kind, region", [("MT-TL1", "gene", "chrM:3230-3304"), ("chrM:100-110", "region", "chrM:100-110")]
)
def test_a_gene_becomes_a_region_that_other_tools_take(server, query, kind, region):
    place = answer(server, "find_region", query=query)["places"][0]
    assert (place["kind"], place["region"]) == (kind, region)


def test_scores_are_pythons(server):
    variants = ["chrM:3243A>G", "chrM:1555A>G", "chrM:1555C>G"]
    made = answer(server, "score_variants", variants=variants)
    rows = list(score_variants(MITO, variants, server.genomes.get("chrM").fasta, Options(max_ref_mismatch=1.0)))
    assert [(v["score"], v["forward"], v["reverse"]) for v in made["variants"]] == [
        (row.llr, row.llr_fwd, row.llr_rev) for row in rows
    ]
    assert [v["status"] for v in made["variants"]] == ["OK", "OK", "REF_MISMATCH"]
    assert made["provenance"]["model"] == "nexvar_mito"
    assert any("not a diagnosis" in note for note in made["notes"])


def test_a_saturation_has_its_ends_in_the_answer_and_all_of_it_in_a_file(server, folder):
    made = answer(server, "saturate", region="chrM:3243-3252")
    assert made["count"] == 30 and len(made["lowest"]) == len(made["highest"]) == 10
    scores = [site["score"] for site in made["lowest"]]
    assert scores == sorted(scores) and made["highest"][0]["score"] >= scores[-1]
    title, *lines = Path(made["path"]).read_text().splitlines()
    assert title.split("\t")[0] == "variant" and len(lines) == 30
    assert lines[0].split("\t")[:2] == [made["lowest"][0]["variant"], str(scores[0])]


def test_embeddings_go_to_a_file(server):
    sequences = ["ACGTACGT", "TTGACA"]
    made = answer(server, "embed", sequences=sequences)
    expected = embed(MITO, sequences).numpy()
    assert made["shape"] == list(expected.shape) and made["layer"] == "norm"
    with np.load(made["path"], allow_pickle=False) as saved:
        assert np.array_equal(saved["norm"], expected)
    assert made["norms"] == pytest.approx(np.linalg.norm(expected, axis=1).tolist(), rel=1e-6)


def test_a_seed_gives_pythons_bases(server):
    made = answer(server, "generate", prompt="ACGTACGT", n=20, seed=5)
    assert made["sequence"] == generate(MITO, ["ACGTACGT"], Sampling(20, alphabet="ACGT"), seed=5).sequences[0]
    assert made["seed"] == 5 and "pathogen" in made["notes"][0]


def test_a_vcf_is_a_job(server, folder):
    fasta = server.genomes.get("chrM").fasta
    path = write_vcf(
        folder / "a.vcf", [vcf_line(fasta.fetch("chrM", 0, 400), pos0, chrom="chrM") for pos0 in (150, 300)]
    )
    job = answer(server, "score_vcf", path=str(path))
    until = time.monotonic() + 120
    while job["state"] in ("queued", "running") and time.monotonic() < until:
        time.sleep(0.1)
        job = answer(server, "job", id=job["id"])
    assert job["state"] == "done" and job["done"] == 6
    lines = [line for line in Path(job["results"]["tsv"]).read_text().splitlines() if line[:1] != "#"]
    assert len(lines) == 6


@pytest.mark.parametrize(
    "name, arguments, said",
    [
        ("score_variants", {"variants": []}, "variants"),
        ("score_variants", {"variants": ["chrM:3243A>G"] * 51}, "variants"),
        ("score_variants", {"variants": "chrM:3243A>G"}, "variants"),
        ("score_variants", {"variants": ["nonsense"]}, "nonsense"),
        ("score_variants", {"variants": ["chrM:3243A>G"], "genome": "hg38"}, "genome: no genome 'hg38'"),
        ("score_variants", {"variants": ["chrM:3243A>G"], "model": "nexvar_7b"}, "model: nexvar_7b is not loaded"),
        ("score_variants", {"variants": ["chrM:3243A>G"], "readout": "llr"}, "readout: there is no such argument"),
        ("score_variants", {}, "variants"),
        ("saturate", {"region": "chrM:1-201"}, "200 bases"),
        ("saturate", {"region": "chrQ:1-20"}, "chrQ"),
        ("find_region", {"query": ""}, "query"),
        ("embed", {"sequences": ["ACGU"]}, "not A, C, G, T or N"),
        ("embed", {"sequences": ["ACGT"], "pool": "none"}, "pool"),
        ("embed", {"sequences": ["ACGT"], "layer": "blocks.99"}, "blocks.99"),
        ("generate", {"prompt": "ACGT", "n": 2001}, "n"),
        ("generate", {"prompt": "ACGT", "n": "many"}, "n"),
        ("generate", {"prompt": ""}, "prompt"),
        ("generate", {"prompt": "MKVL"}, "prompt"),
        ("generate", {"prompt": "A", "species": "Homo sapiens"}, "taxonomy"),
        ("score_vcf", {"path": "/etc/passwd"}, "--allow-dir"),
        ("score_vcf", {"path": "../../../etc/passwd"}, "--allow-dir"),
        ("score_vcf", {"path": "a\u0000b"}, "--allow-dir"),
        ("job", {"id": "nobody"}, "nobody"),
        ("job", {"id": 5}, "id"),
    ],
)
def test_bad_input_is_one_line(server, name, arguments, said):
    assert said in refusal(server, name, **arguments)


def test_a_link_out_of_an_allowed_folder_is_refused(server, folder, tmp_path):
    (tmp_path / "secret.vcf").write_text("##fileformat=VCFv4.2\n")
    (folder / "link.vcf").symlink_to(tmp_path / "secret.vcf")
    assert "--allow-dir" in refusal(server, "score_vcf", path=str(folder / "link.vcf"))


def test_a_contig_with_slashes_makes_no_path_and_a_lost_folder_is_one_line(tmp_path):
    fasta = write_fasta(tmp_path / "odd.fa", **{"../../chr1": random_bases(200)})
    (tmp_path / "out").mkdir()
    server = make_server([tiny_loaded(window=64)], genomes={"odd": fasta}, allow_dirs=(tmp_path / "out",))
    try:
        made = answer(server, "saturate", region="../../chr1:100-101", genome="odd")
        assert Path(made["path"]).parent == tmp_path / "out"
        shutil.rmtree(tmp_path / "out")
        assert "cannot be written" in refusal(server, "embed", sequences=["ACGT"])
    finally:
        server.close()


def test_without_a_folder_nothing_is_written_or_read(folder):
    server = make_server([MITO])
    try:
        made = answer(server, "saturate", region="chrM:3243-3244")
        assert made["path"] is None and any("--allow-dir" in note for note in made["notes"])
        assert "--allow-dir" in refusal(server, "score_vcf", path=str(folder / "a.vcf"))
    finally:
        server.close()


def test_a_fault_says_nothing_of_the_inside(server, monkeypatch):
    monkeypatch.setattr("nexvar.serve.tools.list_models", lambda server: 1 / 0)
    assert "division" not in refusal(server, "list_models")


# --------------------------------------------------------------------------------------------------------- transports


def test_on_stdio_the_model_is_loaded_with_the_first_call(tmp_path):
    words = ["-m", "nexvar", "mcp", "--data-dir", str(tmp_path / "data")]
    process = StdioServerParameters(command=sys.executable, args=words, env=dict(os.environ))

    async def asked():
        async with Client(process) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            return names, await client.call_tool("score_variants", {"variants": ["chrM:3243A>G"]})

    names, result = asyncio.run(asked())
    row = next(score_variants(MITO, ["chrM:3243A>G"], make_server([MITO]).genomes.get("chrM").fasta, Options()))
    assert names == TOOLS
    assert result.structured_content["variants"][0]["score"] == row.llr


def test_a_model_that_nobody_knows_is_told_at_once():
    with pytest.raises(NexVarError, match="no model called 'nobody'"):
        mcp.on_stdio(Settings(models=(ModelChoice("nobody"),)))


def test_a_call_that_is_given_up_ends_its_work(server):
    async def given_up():
        desk = mcp.Desk(lambda: server)
        sampling = Sampling(30_000, alphabet="ACGT")
        call = asyncio.create_task(
            desk.compute(None, "causal", lambda _, loaded: generate(loaded, ["A" * 99], sampling))
        )
        while not server.thread.busy:
            await asyncio.sleep(0.01)
        call.cancel()
        until = time.monotonic() + 30
        while server.thread.busy and time.monotonic() < until:
            await asyncio.sleep(0.01)

    asyncio.run(given_up())
    assert not server.thread.busy


def test_over_http_a_client_that_leaves_ends_its_work(caplog):
    gc.collect()
    caplog.clear()  # of other tests' futures
    server = make_server([MITO])
    with listening(server) as address:
        arguments = {"prompt": "ACGT", "n": 2000}
        body = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "generate", "arguments": arguments},
        }
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"http://{address}/mcp", json=body, headers=ACCEPT, timeout=httpx2.Timeout(30, read=0.5))
        until = time.monotonic() + 60
        while server.thread.busy and time.monotonic() < until:
            time.sleep(0.05)
        assert "nexvar_tokens_total" not in httpx2.get(f"http://{address}/metrics").text  # nothing was done to its end
        assert not server.thread.busy
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_over_http_the_guard_stands_before_it(server):
    with listening(make_server([MITO], api_key="secret")) as address:

        async def asked(headers):
            async with httpx2.AsyncClient(headers=headers) as http:
                transport = streamable_http_client(f"http://{address}/mcp", http_client=http)
                async with Client(transport) as client:
                    return await client.call_tool("find_region", {"query": "MT-TL1"})

        result = asyncio.run(asked({"Authorization": "Bearer secret"}))
        assert result.structured_content["places"][0]["region"] == "chrM:3230-3304"
        first = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        key, accept = {"Authorization": "Bearer secret"}, ACCEPT
        for headers, status in (({}, 401), (key | {"Host": "elsewhere"}, 400), (key | {"Origin": "http://x"}, 403)):
            assert httpx2.post(f"http://{address}/mcp", json=first, headers=accept | headers).status_code == status
        assert httpx2.post(f"http://{address}/mcp", content="[" * 9, headers=accept | key).status_code == 415
        assert httpx2.get(f"http://{address}/mcp", headers=accept | key).status_code == 405

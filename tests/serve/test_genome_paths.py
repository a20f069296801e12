"""Genomes of a server: what the operator gives is checked at the start; search, features and tracks over HTTP."""

from __future__ import annotations

from importlib.resources import files

import pytest

from malformed.case import bgzip
from nexvar.errors import NexVarError
from nexvar.serve.genomes import Genomes
from nexvar.serve.settings import Settings
from served import client_of, make_server
from toy_genome import random_bases, write_fasta

BASES = random_bases(3000, seed=8)
EVIL = "<img src=x onerror=alert(1)>"
ROOT = "/api/v1/genomes"
GENES = (
    "##gff-version 3\nchr1\tx\tgene\t101\t900\t.\t-\t.\tID=g1;Name=MINUS1;description=a toy\n"
    f"chr1\tx\tgene\t1001\t1500\t.\t+\t.\tID=g2;Name={EVIL.replace('=', '%3D')}\n"
)
POS = 100 + BASES[100:200].index("A")  # 0-based, in the minus-strand gene
KNOWN = (
    '##fileformat=VCFv4.1\n##INFO=<ID=CLNSIG,Number=.,Type=String,Description="x">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    f"1\t{POS + 1}\t77\tA\tC\t.\t.\tCLNSIG=Conflicting_classifications_of_pathogenicity;"
    "CLNREVSTAT=criteria_provided,_conflicting_classifications;CLNHGVS=NM_1:c.5T>G;GENEINFO=MINUS1:9\n"
)
GRAPH = "".join(f"1\t{low}\t{low + 10}\t{low / 10}\n" for low in range(0, 2000, 10))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("genomes")
    write_fasta(folder / "toy.fa", chr1=BASES, chr2=BASES[:100])
    (folder / "genes.gff3").write_text(GENES)
    (folder / "known.vcf.gz").write_bytes(bgzip(KNOWN.encode()))
    (folder / "signal.bedgraph").write_text(GRAPH)
    return folder


@pytest.fixture(scope="module")
def settings(folder):
    return {
        "genomes": {"toy": folder / "toy.fa"},
        "genes": {"toy": folder / "genes.gff3"},
        "known": {"toy": folder / "known.vcf.gz"},
        "tracks": {("toy", "up"): folder / "signal.bedgraph"},
        "data_dir": folder / "data",
    }


@pytest.fixture(scope="module")
def client(settings):
    pytest.importorskip("pybigtools")
    with client_of(make_server(**settings)) as client:
        yield client


def ask(client, genome, what, **query):
    answer = client.get(f"{ROOT}/{genome}/{what}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


# -- search


@pytest.mark.parametrize(
    ("query", "kind", "name", "start", "end"),
    [
        ("mt-nd6", "gene", "MT-ND6", 14148, 14673),
        ("cytochrome b", "gene", "MT-CYB", 14746, 15887),
        ("m.3243A>G", "variant", "chrM:3243A>G", 3242, 3243),
        ("NC_012920.1:m.14484T>C", "variant", "chrM:14484T>C", 14483, 14484),
        ("MT:3,230-3,304", "region", "chrM:3230-3304", 3229, 3304),
        ("chrM:3243", "region", "chrM:3243-3243", 3242, 3243),
        ("M", "region", "chrM:1-16569", 0, 16569),
        ("d-loop", "region", "D-loop", 0, 576),
    ],
)
def test_search_on_the_built_in_genome(client, query, kind, name, start, end):
    found = ask(client, "chrM", "search", q=query)
    first = found["results"][0]
    assert (first["kind"], first["name"], first["contig"]) == (kind, name, "chrM")
    assert (first["start"], first["end"]) == (start, end)
    assert (first["ref"] is None) == (kind != "variant")
    assert found["near"] == [] and len(found["results"]) <= 20


def test_a_gene_that_is_not_there_has_near_ones(client):
    assert ask(client, "chrM", "search", q="MT-ND7") == {"results": [], "near": ["MT-ND6", "MT-ND5", "MT-ND4"]}
    assert ask(client, "chrM", "search", q="m.3243A>") == {"results": [], "near": []}


@pytest.mark.parametrize(
    ("genome", "query", "says"),
    [
        ("chrM", "chrM:16500-17000", "backwards or outside"),
        ("chrM", "chr9:1-5", "no contig 'chr9'"),
        ("chrM", "m.17000A>G", "outside of the contig"),
        ("chrM", "chrM:17000A>G", "beyond the end"),
        ("chrM", "chr9:5A>G", "no contig 'chr9'"),
        ("chrM", "NM_000059.3:c.5A>G", "transcript"),
        ("toy", "m.3243A>G", "no contig"),
    ],
)
def test_a_place_that_the_genome_does_not_have_is_told(client, genome, query, says):
    answer = client.get(f"{ROOT}/{genome}/search", params={"q": query})
    assert answer.status_code == 400
    assert says in answer.json()["error"] and answer.json()["fix"]


# -- features


def test_genes_of_a_region_and_names_as_they_are(client):
    found = ask(client, "toy", "features", set="genes", region="chr1:850-1,100")["features"]
    assert [(f["name"], f["strand"], f["start"], f["end"]) for f in found] == [
        ("MINUS1", "-", 100, 900),
        (EVIL, "+", 1000, 1500),
    ]
    assert ask(client, "toy", "features", set="genes", region="chr2") == {"features": []}


def test_known_variants_keep_the_plus_strands_alleles_and_their_words(client):
    (found,) = ask(client, "toy", "features", set="known", contig="1", start=POS, end=POS + 1)["features"]
    assert (found["pos"], found["ref"], found["alt"]) == (POS + 1, "A", "C")
    assert found["label"] == "Conflicting_classifications_of_pathogenicity" and found["group"] == "conflicting"
    assert (found["stars"], found["source"], found["genes"]) == (1, "known.vcf.gz", ["MINUS1"])


def test_labels_of_the_built_in_variants_are_words(client):
    found = ask(client, "chrM", "features", set="known", region="chrM:1-16569")["features"]
    assert len(found) == 796 and {f["label"] for f in found} == {"pathogenic", "benign"}
    assert {f["stars"] for f in found} == {None}


def test_minus_strand_nd6_on_the_built_in_genome(client):
    found = ask(client, "chrM", "features", set="genes", region="chrM:14484-14484")["features"]
    assert {(f["name"], f["strand"]) for f in found if f["kind"] == "gene"} == {("MT-ND6", "-")}
    assert {(f["kind"], f["phase"]) for f in found if f["kind"] == "CDS"} == {("CDS", 0)}


@pytest.mark.parametrize("start, end, low, high", [(0.4, 19.2, 0, 20), (-7, 15, 0, 20), (1990.5, 1e9, 1990, 2000)])
def test_fractions_are_widened_and_clipped(client, start, end, low, high):
    found = ask(client, "toy", "features", set="track", name="up", contig="chr1", start=start, end=end)["features"]
    whole = [(f["start"], f["end"], f["value"]) for f in found]
    assert whole[0][0] == low and max(e for _, e, _ in whole) <= max(high, 2000)
    for first, last, value in whole:
        assert value == pytest.approx(sum(p // 10 for p in range(first, last)) / (last - first), abs=0.05)


def test_a_track_far_away_is_binned(client):
    found = ask(client, "toy", "features", set="track", name="up", region="chr1")["features"]
    assert len(found) <= 1000 and {f["end"] - f["start"] for f in found} == {3}
    assert ask(client, "toy", "features", set="track", name="up", region="chr2") == {"features": []}


def test_the_bigwig_is_served_by_range(client):
    answer = client.get(f"{ROOT}/toy/tracks/up", headers={"Range": "bytes=0-3"})
    assert answer.status_code == 206 and answer.content == (0x888FFC26).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ({"set": "genes"}, 400, "no place"),
        ({"set": "genes", "region": "chr1:1-5", "contig": "chr1"}, 400, "no place, or two"),
        ({"set": "genes", "contig": "chr1", "start": "nan", "end": "5"}, 400, "two numbers"),
        ({"set": "genes", "contig": "chr1", "start": "9e9", "end": "1e10"}, 400, "outside of the contig"),
        ({"set": "genes", "contig": "chr7", "start": "1", "end": "5"}, 400, "no contig"),
        ({"set": "genes", "contig": "chr1", "start": "x", "end": "5"}, 422, "start"),
        ({"set": "bases", "region": "chr1:1-5"}, 422, "set"),
        ({"set": "track", "region": "chr1:1-5"}, 404, "no name"),
        ({"set": "track", "region": "chr1:1-5", "name": "down"}, 404, "no track 'down'"),
    ],
)
def test_bad_questions_are_one_line(client, query, status, says):
    answer = client.get(f"{ROOT}/toy/features", params=query)
    assert answer.status_code == status and says in answer.json()["error"]


def test_unknown_genomes_and_what_a_genome_does_not_have(client, folder, tmp_path):
    assert client.get(f"{ROOT}/hg99/search", params={"q": "x"}).status_code == 404
    assert client.get(f"{ROOT}/chrM/tracks/up").status_code == 404
    with client_of(make_server(genomes={"toy": folder / "toy.fa"}, data_dir=tmp_path)) as bare:
        for kind in ("genes", "known"):
            answer = bare.get(f"{ROOT}/toy/features", params={"set": kind, "region": "chr1:1-5"})
            assert answer.status_code == 404 and f"--{kind} toy=" in answer.json()["fix"]
        assert ask(bare, "toy", "search", q="BRCA1") == {"results": [], "near": []}


# -- the start


def test_without_files_the_mitochondrion_has_genes_and_labels(tmp_path):
    genome = Genomes.open(Settings(data_dir=tmp_path)).get(None)
    assert genome.id == "chrM" and genome.genes and genome.known
    assert not list(tmp_path.iterdir())


def test_another_sequence_called_chrm_has_neither(folder, tmp_path):
    genome = Genomes.open(Settings(genomes={"chrM": folder / "toy.fa"}, data_dir=tmp_path)).get("chrM")
    assert genome.genes is None and genome.known is None


def test_what_was_read_is_kept(settings, folder):
    for _ in range(2):
        genome = Genomes.open(Settings(**settings)).get("toy")
        assert [f.name for f in genome.genes.search("minus")] == ["MINUS1"]
    kept = sorted(path.name.partition("-")[0] for path in (folder / "data" / "genomes").iterdir())
    assert kept == ["features", "known", "known", "track"]


@pytest.mark.parametrize(
    ("option", "text", "says"),
    [
        ("genes", "chr1\tx\tgene\t9\t1\t.\t+\t.\tID=a\n", "bad:1: start '9', end '1'"),
        ("genes", "chr7\tx\tgene\t1\t9\t.\t+\t.\tID=a\n", "none of its contigs (chr7)"),
        ("known", "chr1\t5\tA\tC\n", "bad:1: "),
        ("track", "chr1\t5\t9\thigh\n", "bad:1: 'chr1\\t5\\t9\\thigh' is neither"),
        ("track", "chr1\t5\t9\t1\nchr1\t1\t3\t1\n", "bad:2: chr1:1-3 is empty, out of order"),
        ("track", "chr1\t5\t3001\t1\n", "beyond the end"),
        ("track", "chr7\t5\t9\t1\n", "no values on contigs"),
        ("track", "chr1\t\u00b2\t9\t1\n", "is neither"),
        ("track", "chr1\t1\t9\tnan\n", "is neither"),
    ],
)
def test_what_is_wrong_stops_the_start_with_one_line(folder, tmp_path, option, text, says):
    pytest.importorskip("pybigtools")
    (tmp_path / "bad").write_text(text)
    given = {"tracks": {("toy", "x"): tmp_path / "bad"}} if option == "track" else {option: {"toy": tmp_path / "bad"}}
    with pytest.raises(NexVarError) as caught:
        Genomes.open(Settings(genomes={"toy": folder / "toy.fa"}, data_dir=tmp_path / "data", **given))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_bigwig_of_another_assembly_is_refused(tmp_path, folder):
    pybigtools = pytest.importorskip("pybigtools")
    pybigtools.open(str(tmp_path / "x.bw"), "w").write({"chr1": 2900}, [("chr1", 0, 5, 1.0)])
    with pytest.raises(NexVarError, match=r"chr1 has 2,900 bases, 3,000 in toy.fa"):
        Genomes.open(
            Settings(genomes={"toy": folder / "toy.fa"}, tracks={("toy", "x"): tmp_path / "x.bw"}, data_dir=tmp_path)
        )


def test_what_a_person_should_know_is_said_at_the_start(folder, tmp_path, capsys):
    (tmp_path / "g.gff3").write_text(GENES + "chr7\tx\tgene\t1\t9\t.\t+\t.\tID=far\n")
    Genomes.open(Settings(genomes={"toy": folder / "toy.fa"}, genes={"toy": tmp_path / "g.gff3"}, data_dir=tmp_path))
    assert "1 features on contigs that toy.fa does not have" in capsys.readouterr().err


def test_a_data_folder_that_cannot_be_made(folder, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(NexVarError, match="--data-dir"):
        Genomes.open(
            Settings(
                genomes={"toy": folder / "toy.fa"}, genes={"toy": folder / "genes.gff3"}, data_dir=tmp_path / "file"
            )
        )


def test_the_packaged_files_are_there():
    assert all((files("nexvar") / "data" / name).is_file() for name in ("chrM.gff3", "mtdna_labelled.vcf"))

"""Phylogenetic tags from local taxonomies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexvar.errors import NexVarError
from nexvar.inference.core.tags import RANKS, Taxonomy, phylogenetic_tag

E_COLI = (
    "|D__BACTERIA;P__PSEUDOMONADOTA;C__GAMMAPROTEOBACTERIA;O__ENTEROBACTERALES;"
    "F__ENTEROBACTERIACEAE;G__ESCHERICHIA;S__ESCHERICHIA COLI|"
)
LINEAGE = dict(
    zip(
        RANKS,
        ["Bacteria", "Pseudomonadota", "Gammaproteobacteria", "Enterobacterales", "Enterobacteriaceae", "Escherichia",
         "Escherichia coli"],
        strict=True,
    )
)  # fmt: skip


@pytest.fixture
def taxdump(tmp_path):
    """NCBI's layout, with a rank between the seven and the names of a strain and a synonym."""
    ids = {name: str(10 * i) for i, name in enumerate(LINEAGE.values(), start=2)}
    nodes = [("1", "1", "no rank"), ("131567", "1", "cellular root")]
    parent = "131567"
    for rank, name in LINEAGE.items():
        nodes.append((ids[name], parent, "superkingdom" if rank == "domain" else rank))
        parent = ids[name]
        if rank == "family":
            nodes.append(("999", parent, "tribe"))
            parent = "999"
    nodes.append(("83333", parent, "strain"))
    names = [(ids[name], name, "", "scientific name") for name in LINEAGE.values()]
    names += [(id_, name, "", "scientific name") for id_, name in (("83333", "Escherichia coli K-12"), ("999", "X"))]
    names += [(ids["Escherichia coli"], "E. coli", "", "synonym")]
    (tmp_path / "nodes.dmp").write_text("".join("\t|\t".join((*row, "", "0")) + "\t|\n" for row in nodes))
    (tmp_path / "names.dmp").write_text("".join("\t|\t".join(row) + "\t|\n" for row in names))
    return tmp_path


@pytest.mark.parametrize("name", ["Escherichia coli", "escherichia COLI", "E. coli", "Escherichia coli K-12", 83333])
def test_taxdump(taxdump, name):
    assert Taxonomy(taxdump).tag(name) == E_COLI


def test_ranks_above_the_taxon_alone(taxdump):
    expected = E_COLI[: E_COLI.index("O__")] + "O__NONE;F__NONE;G__NONE;S__NONE|"
    assert Taxonomy(taxdump).tag("Gammaproteobacteria") == expected


def test_a_table_with_a_header(tmp_path):
    path = tmp_path / "lineages.tsv"
    rows = ["taxid", "name", "superkingdom", *RANKS[1:]], ["562", "E. coli", *LINEAGE.values()]
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    taxonomy = Taxonomy(path)
    assert taxonomy.tag(562) == taxonomy.tag("e. coli") == taxonomy.tag("Escherichia coli") == E_COLI


def test_gtdb(tmp_path):
    path = tmp_path / "bac.tsv"
    lineage = ";".join(f"{rank[0]}__{name}" for rank, name in LINEAGE.items())
    path.write_text(f"RS_GCF_000005845.2\t{lineage}\nother\td__Archaea;p__;c__\n")
    taxonomy = Taxonomy(path)
    assert taxonomy.tag("Escherichia coli") == taxonomy.tag("RS_GCF_000005845.2") == E_COLI
    assert taxonomy.tag("other") == "|D__ARCHAEA;P__NONE;C__NONE;O__NONE;F__NONE;G__NONE;S__NONE|"


@given(st.dictionaries(st.sampled_from(RANKS), st.from_regex(r"[A-Za-z][A-Za-z .-]{0,10}", fullmatch=True), min_size=1))
def test_every_rank_is_there_once_in_order(lineage):
    parts = phylogenetic_tag(lineage).strip("|").split(";")
    assert [part[:3] for part in parts] == [f"{rank[0].upper()}__" for rank in RANKS]
    assert all(part[3:] for part in parts)


def test_unknown_names_say_the_nearest(taxdump):
    with pytest.raises(NexVarError, match="did you mean.*escherichia coli"):
        Taxonomy(taxdump).tag("Escherichia cola")


@pytest.mark.parametrize(
    "text", ["", "one column\n", "a\tb\n", "name\tphylum\nx\n", "x\tk__Fungi;p__A\n", "x\td__Bac|teria\n"]
)
def test_bad_tables_are_one_line(tmp_path, text):
    path = tmp_path / "table.tsv"
    path.write_text(text)
    with pytest.raises(NexVarError) as error:
        Taxonomy(path).tag("x")
    assert "\n" not in str(error.value)


def test_bad_taxdump(tmp_path):
    (tmp_path / "nodes.dmp").write_text("1\t|\n")
    with pytest.raises(NexVarError, match="nodes.dmp:1"):
        Taxonomy(tmp_path)


@pytest.mark.parametrize("lineage", [{}, {"kingdom": "Fungi"}, {"genus": "A;B"}, {"genus": "Ä"}])
def test_bad_lineages(lineage):
    with pytest.raises(NexVarError):
        phylogenetic_tag(lineage)

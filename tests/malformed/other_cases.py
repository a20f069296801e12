"""Tables, BED files, synonym tables and variant strings that must be refused. The genome has chrM of 16,569 bases."""

from __future__ import annotations

from .case import Case, gz

TSV_CASES: dict[str, Case] = {
    "tsv_empty": Case(b"", "empty", ending=".tsv"),
    "tsv_header_only": Case(b"chrom\tpos\tref\talt\n", "no variants", ending=".tsv"),
    "tsv_three_columns": Case(b"chrM\t3243\tA\n", "3 columns", 1, ".tsv"),
    "tsv_spaces": Case(b"chrM 3243 A G\n", "1 columns", 1, ".tsv"),
    "tsv_commas": Case(b"chrM,3243,A,G\n", "1 columns", 1, ".tsv"),
    "tsv_pos_0": Case(b"chrM\t0\tA\tG\n", "position", 1, ".tsv"),
    "tsv_pos_text": Case(b"chrM\tten\tA\tG\n", "position", 1, ".tsv"),
    "tsv_pos_10_12": Case(b"chrM\t1000000000000\tA\tG\n", "position", 1, ".tsv"),
    "tsv_ref_j": Case(b"chrom\tpos\tref\talt\nchrM\t3243\tJ\tG\n", "REF is 'J'", 2, ".tsv"),
    "tsv_alt_empty": Case(b"chrM\t3243\tA\t\n", "ALT is ''", 1, ".tsv"),
    "tsv_alt_star_dot": Case(b"chrM\t3243\tA\t*.\n", "ALT is '*.'", 1, ".tsv"),
    "tsv_chrom_empty": Case(b"\t3243\tA\tG\n", "contig ''", 1, ".tsv"),
    "tsv_unsorted": Case(b"chrM\t30\tA\tG\nchrM\t3\tT\tC\n", "not sorted", 2, ".tsv"),
    "tsv_nul": Case(b"chrM\t3243\tA\0\tG\n", "NUL", 1, ".tsv"),
    "tsv_gzip_cut": Case(gz(b"chrM\t3243\tA\tG\n" * 2000)[:-10], "ends too early", ending=".tsv.gz"),
    "hgvs_file_bad_line": Case(b"chrM:3243A>G\nchrM:g.5_1del\n", "backwards", 2, ".hgvs"),
    "hgvs_file_empty": Case(b"\n\n", "no variants", ending=".hgvs"),
}

BED_CASES: dict[str, Case] = {
    "bed_empty": Case(b"", "empty", ending=".bed"),
    "bed_no_regions": Case(b"track name=x\n", "no regions", ending=".bed"),
    "bed_two_columns": Case(b"chrM\t5\n", "2 columns", 1, ".bed"),
    "bed_spaces": Case(b"chrM 5 10\n", "1 columns", 1, ".bed"),
    "bed_backwards": Case(b"chrM\t10\t5\n", "empty or beyond", 1, ".bed"),
    "bed_zero_length": Case(b"chrM\t5\t5\n", "empty or beyond", 1, ".bed"),
    "bed_beyond": Case(b"chrM\t5\t99999\n", "empty or beyond", 1, ".bed"),
    "bed_negative": Case(b"chrM\t-5\t10\n", "start", 1, ".bed"),
    "bed_text": Case(b"chrM\t5\tten\n", "end 'ten'", 1, ".bed"),
    "bed_unknown_contig": Case(b"chrM\t5\t9\nchr9\t5\t10\n", "'chr9' is not in", 2, ".bed"),
    "bed_is_gff": Case(b"chrM\tensembl\tgene\t5\t10\t.\t+\t.\tID=x\n", "start 'ensembl'", 1, ".bed"),
}

SYNONYM_CASES: dict[str, Case] = {
    "synonyms_empty": Case(b"# only a comment\n", "no synonyms"),
    "synonyms_one_column": Case(b"chr1\n", "1 columns", 1),
    "synonyms_three_columns": Case(b"a\tb\tc\n", "3 columns", 1),
    "synonyms_empty_name": Case(b"a\t\n", "2 columns", 1),
    "synonyms_contradict": Case(b"a\tb\na\tc\n", "two targets", 2),
}

VARIANT_STRINGS: dict[str, str] = {  # text: part of the message
    "": "not a variant",
    "rs1234": "not a variant",
    "chrM:3243": "not a variant",
    "chrM:3243A>": "not a variant",
    "chrM:3243A>J": "ALT is 'J'",
    "chrM:0A>G": "position",
    "chrM:99999999999A>G": "position",
    "chrM:3243A>G ": "not a variant",
    "chrM:3243A>G\n": "not a variant",
    "BRCA1:c.68A>G": "transcript or protein",
    "NP_009225.1:p.Cys61Gly": "transcript or protein",
    "chr9:g.5A>G": "no contig 'chr9'",
    "g.5A>G": "no contig ''",
    "chrM:x.5A>G": "not the genome",
    "chrM:g.5_1del": "backwards",
    "chrM:g.16569_16570del": "outside",
    "chrM:g.0del": "position",
    "chrM:g.5_8A>G": "more than one base",
    "chrM:g.5_9insACG": "two neighbours",
    "chrM:g.5insACG": "two neighbours",
    "chrM:g.5=": "changes nothing",
    "chrM:g.5_6delGG": "the genome has",
    "chrM:g.5_6dupGG": "the genome has",
    "chrM:g.5_6delGGinsT": "the genome has",
    "chrM:g.1_16569del": "whole of",
    "chrM:g.5CAG[20]": "not a variant",
    "chrM:g.(5_10)_(20_30)del": "not a variant",
    "chrM:g." + "9" * 5000 + "del": "position",
    "chrM:3243A>" + "G" * 1_000_001: "characters",
}

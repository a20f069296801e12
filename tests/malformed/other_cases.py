"""Tables, BED files, synonym tables and variant strings that must be refused. The genome has chrM of 16,569 bases."""

from __future__ import annotations

from .case import Case, gz

MAF = (
    b"#version 2.4\nHugo_Symbol\tNCBI_Build\tChromosome\tStart_Position\tEnd_Position\tStrand\t"
    b"Reference_Allele\tTumor_Seq_Allele1\tTumor_Seq_Allele2\n"
)
CLINVAR = b"#AlleleID\tAssembly\tChromosomeAccession\tChromosome\tPositionVCF\tReferenceAlleleVCF\tAlternateAlleleVCF\n"


def maf(row: bytes, says: str) -> Case:
    return Case(MAF + row + b"\n", says, 3, ".maf")


TSV_CASES: dict[str, Case] = {
    "tsv_titles_missing": Case(b"chrom\tpos\tallele\nchrM\t1\tA\n", "no column for ref, alt among", 1, ".tsv"),
    "tsv_titles_of_gwas": Case(b"CHR\tBP\tSNP\tA1\tA2\nM\t1\trs1\tA\tG\n", "no column for pos, ref, alt", 1, ".tsv"),
    "tsv_titles_start_without_end": Case(b"chr\tstart\tref\talt\nM\t1\tG\tA\n", "no column for pos", 1, ".tsv"),
    "tsv_titles_twice_nothing": Case(b"#rsid\tgene\nrs1\tMT-TL1\n", "no column for chrom, pos, ref, alt", 1, ".tsv"),
    "tsv_interval_of_another_ref": Case(b"chr\tstart\tend\tref\talt\nM\t5\t9\tA\tG\n", "place of a REF", 2, ".tsv"),
    "tsv_interval_text": Case(b"chr\tstart\tend\tref\talt\nM\tx\t9\tA\tG\n", "start 'x'", 2, ".tsv"),
    "tsv_both_empty": Case(b"chrM\t5\t-\t-\n", "REF is '-'", 1, ".tsv"),
    "tsv_ref_star": Case(b"chrM\t5\t*\t-\n", "REF is '*'", 1, ".tsv"),
    "tsv_gap_inside": Case(b"chrM\t5\tA-C\tA\n", "REF is 'A-C'", 1, ".tsv"),
    "tsv_old_mac": Case(b"chrM\t3243\tA\tG\rchrM\t8993\tT\tC\r", "carriage return", 1, ".tsv"),
    "tsv_row_too_short": Case(b"chrom\tpos\tref\talt\nchrM\t5\tA\n", "3 columns", 2, ".tsv"),
    "maf_minus_strand": maf(b"X\tGRCh38\tMT\t5\t5\t-\tA\tA\tG", "Strand is '-'"),
    "maf_allele": maf(b"X\tGRCh38\tMT\t5\t5\t+\tA\tA\tA-G", "Tumor_Seq_Allele is 'A-G'"),
    "maf_no_allele": maf(b"X\tGRCh38\tMT\t5\t6\t+\t-\t-\t-", "no allele but '-'"),
    "maf_insertion_of_three": maf(b"X\tGRCh38\tMT\t5\t9\t+\t-\t-\tA", "an insertion from 5 to 9"),
    "maf_position": maf(b"X\tGRCh38\tMT\tfive\t5\t+\tA\tA\tG", "position 'five'"),
    "maf_reference_missing": maf(b"X\tGRCh38\tMT\t5\t5\t+\t\tA\tG", "Reference_Allele is ''"),
    "maf_row_too_short": maf(b"X\tGRCh38\tMT\t5", "4 columns"),
    "clinvar_of_other_contigs": Case(CLINVAR + b"1\tGRCh38\tNC_000017.11\t17\t5\tA\tG\n", "no row is of", 1, ".txt"),
    "clinvar_without_alleles": Case(
        CLINVAR + b"1\tGRCh38\tNC_012920.1\tMT\t5\tna\tna\n", "without VCF alleles", 1, ".tsv"
    ),
    "clinvar_allele": Case(CLINVAR + b"1\tGRCh38\tNC_012920.1\tMT\t5\tA\tQ\n", "ALT is 'Q'", 2, ".tsv"),
    "list_of_rs_numbers": Case(b"rs199474657\nrs28357980\n", "a number in a database", 1, ".txt"),
    "list_with_a_file_name": Case(b"chrM:3243A>G\ncalls/in.vcf\n", "is a file", 2, ".txt"),
    "list_old_mac": Case(b"m.3243A>G\rm.8993T>G\r", "carriage return", 1, ".hgvs"),
    "tsv_empty": Case(b"", "empty", ending=".tsv"),
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
    "bed_old_mac": Case(b"chrM\t5\t9\rchrM\t15\t19\r", "carriage return", 1, ".bed"),
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
    "rs1234": "a number in a database",
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
    "calls.vcf.gz": "is a file",
    "COSV56056643": "a number in a database",
    "RCV000010205.2": "a number in a database",
    "NC_000021.9:g.5A>G": "no contig 'NC_000021.9'",
    "NC_000021.9:5:A:G": "no contig 'NC_000021.9'",
    "NC_001807.4:m.5A>G": "chrM has 16,569 bases (rCRS), NC_001807.4 (hg19's chrM) has 16,571",
    "NC_012920.1:16569:A:G": "outside",
    "NC_012920.1:3242:99999:G": "outside",
    "NC_012920.1:9999999999999:A:G": "position",
    "NC_012920.1:3242:99999999999:G": "deleted bases",
    "NC_012920.1:3242:C:": "the genome has A",
    "NC_012920.1:3242:A:A": "changes nothing",
    "NC_012920.1:3242:1:A": "changes nothing",
    "NC_012920.1:3242::": "changes nothing",
    "NC_012920.1:3242:Q:G": "'Q' is not a base",
    "NC_012920.1:0:16569:": "whole of",
    "NC_012920.1:3242:A": "not a variant",
    "NC_012920:3242:A:": "has no version",
    "chrM:3243A>" + "G" * 1_000_001: "characters",
}

# Options of `nexvar score` with the built-in causal model: arguments: part of the message
OPTION_CASES: dict[str, str] = {
    "--protocol evo3": "no protocol 'evo3'",
    "--protocol gpn": "gpn is for masked models",
    "--protocol evo1": "nexvar_mito has no begin token",
    "--protocol caduceus-vep": "window of 131,072 bases, but the context",
    "--protocol bend-causal --window 64": "puts the variant behind 512 of 513 bases",
    "--window 1": "window of 1",
    "--window 99999": "window of 99,999 bases",
    "--window=-8": "window of -8",
    "--left=-1": "-1 bases before the variant",
    "--left 1024": "1024 bases before the variant in a window of 1,024",
    "--left 3 --windowing tiled": "a tile has its variants anywhere",
    "--windowing sliding": "no windowing 'sliding'",
    "--readout llrr": "no readout 'llrr'",
    "--readout llr,": "no readout ''",
    "--readout llr,llr": "the same readout twice",
    "--readout masked_llr": "has no 'masked_llr'",
    "--readout unmasked_llr": "has no 'unmasked_llr'",
    "--readout pll": "has no 'pll'",
    "--strand reverse": "no strand 'reverse'",
    "--pool median": "no pooling 'median'",
    "--pool cls": "has no <cls> token",
    "--pool site+": "no pooling 'site+'",
    "--pool site+99999999": "no pooling 'site+99999999'",
    "--readout cosine --layer blocks.99": "no layer 'blocks.99'",
    "--layer blocks.2.mlp.l3": "site has no layer",
    "--pool max": "site has no pool",
    "--readout llr --span 3": "llr has no span",
    "--begin": "nexvar_mito has no begin token",
    "--span=-2": "span of -2",
    "--batch-tokens 0": "batch of 0 tokens",
    "--haplotype": "samples: none",
    "--haplotype --sample kid": "no sample 'kid'",
    "--sample kid": "a sample without --haplotype",
    "-o out.bed": "no format for the ending",
    "-o nowhere/out.bw": "its folder does not exist",
}

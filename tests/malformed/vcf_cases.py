"""VCFs that must be refused. ``chr1`` is the contig of the header; records start on line 5."""

from __future__ import annotations

from .case import BGZF_EOF, Case, bgzip, gz

HEAD = (
    b"##fileformat=VCFv4.2\n"
    b'##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">\n'
    b"##contig=<ID=chr1,length=1000>\n"
    b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
)
SAMPLE_HEAD = HEAD[:-1] + b"\tFORMAT\tNA1\tNA2\n"
GOOD = b"chr1\t10\t.\tA\tG\t.\t.\t.\n"


def record(line: bytes, says: str, number: int = 5) -> Case:
    """One bad record after the header, followed by a good one."""
    return Case(HEAD + line + b"\n" + b"chr1\t900\t.\tA\tG\t.\t.\t.\n", says, number)


def fields(**changed: bytes) -> bytes:
    values = {"CHROM": b"chr1", "POS": b"10", "ID": b".", "REF": b"A", "ALT": b"G", "QUAL": b".", "FILTER": b".",
              "INFO": b"."} | changed  # fmt: skip
    return b"\t".join(values.values())


def header(old: bytes, new: bytes, says: str, line: int) -> Case:
    assert old in HEAD
    return Case(HEAD.replace(old, new) + GOOD, says, line)


LARGE = HEAD + b"".join(b"chr1\t%d\t.\tA\tG\t.\t.\tDP=%d\n" % (p, p * 7919 % 1000) for p in range(1, 9000))

VCF_CASES: dict[str, Case] = {
    # the container
    "empty": Case(b"", "empty"),
    "empty_gzip": Case(gz(b""), "empty", ending=".vcf.gz"),
    "gzip_truncated": Case(gz(LARGE)[:-2000], "ends too early", ending=".vcf.gz"),
    "gzip_no_trailer": Case(gz(LARGE)[:-4], "ends too early", ending=".vcf.gz"),
    "gzip_header_only_bytes": Case(gz(LARGE)[:9], "ends too early", ending=".vcf.gz"),
    "gzip_bad_crc": Case(gz(LARGE)[:-8] + b"\0\0\0\0" + gz(LARGE)[-4:], "damaged", ending=".vcf.gz"),
    "gzip_flipped_byte": Case(gz(LARGE)[:300] + b"\xff\xff\xff\xff" + gz(LARGE)[304:], "damaged", ending=".vcf.gz"),
    "gzip_trailing_garbage": Case(gz(HEAD + GOOD) + b"garbage", "damaged", ending=".vcf.gz"),
    "bgzip_without_end_block": Case(bgzip(LARGE)[: -len(BGZF_EOF)], "end marker", ending=".vcf.gz"),
    "bgzip_cut_in_a_block": Case(bgzip(LARGE)[:-1000], "end marker", ending=".vcf.gz"),
    "bgzip_damaged_block": Case(bgzip(LARGE)[:500] + b"\0" * 64 + bgzip(LARGE)[564:], "damaged", ending=".vcf.gz"),
    "bcf_truncated": Case(bgzip(b"BCF\2\2" + (5000).to_bytes(4, "little") + HEAD), "BCF", 1, ".bcf"),
    "bcf_record_truncated": Case(
        bgzip(b"BCF\2\2" + (len(HEAD) + 1).to_bytes(4, "little") + HEAD + b"\0" + b"\x30\0\0\0\0\0\0\0short"),
        "BCF record",
        5,
        ".bcf",
    ),  # fmt: skip
    "bcf_version_1": Case(gz(b"BCF\4" + HEAD), "version 1", 1, ".bcf"),
    "zip": Case(b"PK\x03\x04" + HEAD, "zip"),
    "xz": Case(b"\xfd7zXZ\0" + HEAD, "xz"),
    "bzip2": Case(b"BZh91AY&SY", "bzip2"),
    "zstd": Case(b"(\xb5/\xfd\x24\x10", "zstd"),
    "bam": Case(bgzip(b"BAM\x01" + HEAD), "BAM", ending=".vcf.gz"),
    "cram": Case(b"CRAM\x03\0", "CRAM"),
    "utf16": Case(b"\xff\xfe" + HEAD.decode().encode("utf-16-le"), "UTF-16"),
    "utf8_bom": Case(b"\xef\xbb\xbf" + HEAD + GOOD, "byte-order mark"),
    "latin1": Case(HEAD + fields(INFO=b"NAME=M\xfcller") + b"\n", "UTF-8", 5),
    "nul_in_record": Case(HEAD + b"chr1\t10\t.\tA\0\tG\t.\t.\t.\n", "NUL", 5),
    "nul_in_header": Case(HEAD.replace(b"Depth", b"De\0th") + GOOD, "NUL", 2),
    "nul_block": Case(HEAD + GOOD + b"\0" * 4096, "NUL", 6),
    "random_bytes": Case(bytes(128 + i * i * 31 % 120 for i in range(4000)), "UTF-8", 1),
    "carriage_return_inside": Case(HEAD + fields(INFO=b"A\rB") + b"\r\n", "a carriage return in column", 5),
    "old_mac_gzip": Case(gz((HEAD + GOOD).replace(b"\n", b"\r")), "gzip -dc", 1, ".vcf.gz"),
    "old_mac": Case((HEAD + GOOD).replace(b"\n", b"\r"), "carriage return", 1),
    # the header
    "fasta": Case(b">chr1\nACGT\n", "FASTA", 1),
    "html": Case(b"<!DOCTYPE html><html>404</html>\n", "not a VCF", 1),
    "table": Case(b"chrom\tpos\tref\talt\nchr1\t10\tA\tG\n", "a table", 1),
    "newline_only": Case(b"\n", "not a VCF", 1),
    "no_fileformat": Case(HEAD.split(b"\n", 1)[1] + GOOD, "fileformat", 1),
    "version_3": header(b"VCFv4.2", b"VCFv3.3", "version", 1),
    "version_5": header(b"VCFv4.2", b"VCFv5.0", "is not VCF 4", 1),
    "version_missing": header(b"VCFv4.2", b"VCF", "is not VCF 4", 1),
    "header_line_of_a_blank": header(b"##contig", b" \n##contig", "no #CHROM line", 3),
    "no_column_line": Case(HEAD.rsplit(b"#CHROM", 1)[0] + GOOD, "no #CHROM line", 4),
    "header_without_column_line": Case(HEAD.rsplit(b"#CHROM", 1)[0], "without a #CHROM", 3),
    "header_cut": Case(HEAD[:60], "without a #CHROM", 2),
    "column_line_with_spaces": header(b"#CHROM\tPOS\tID", b"#CHROM POS ID", "spaces where tabs", 4),
    "column_line_all_spaces": Case(HEAD.replace(b"\t", b" ") + GOOD, "spaces where tabs", 4),
    "column_missing": header(b"\tQUAL", b"", "column 6", 4),
    "columns_swapped": header(b"REF\tALT", b"ALT\tREF", "column 4", 4),
    "format_missing": Case(HEAD[:-1] + b"\tNA1\n" + GOOD, "FORMAT", 4),
    "sample_twice": Case(SAMPLE_HEAD.replace(b"NA2", b"NA1") + fields() + b"\tGT\t0|1\t0|0\n", "twice", 4),
    "sample_without_name": Case(SAMPLE_HEAD.replace(b"NA2", b"") + fields() + b"\tGT\t0|1\t0|0\n", "without a name", 4),
    "contig_twice": header(b"##contig", b"##contig=<ID=chr1,length=7>\n##contig", "declared twice, with 7 and", 4),
    # the records
    "missing_columns": record(b"chr1\t10\t.\tA\tG", "5 columns"),
    "one_column": record(b"chr1", "1 columns"),
    "extra_column": record(fields() + b"\textra", "9 columns"),
    "spaces_for_tabs": record(b"chr1 10 . A G . . .", "spaces where tabs"),
    "some_spaces_for_tabs": record(b"chr1\t10 .\tA\tG\t.\t.\t.", "spaces where tabs"),
    "last_line_cut": Case(HEAD + GOOD + b"chr1\t11\t.\tA", "4 columns", 6),
    "samples_missing": Case(SAMPLE_HEAD + fields() + b"\tGT\t0|1\n", "10 columns", 5),
    "empty_line": Case(HEAD + GOOD + b"\n" + GOOD, "empty line", 6),
    "two_files_glued": Case(HEAD + GOOD + HEAD + GOOD, "header line after", 6),
    "comment_between": Case(HEAD + GOOD + b"# note\n" + GOOD, "header line after", 6),
    "chrom_empty": record(fields(CHROM=b""), "CHROM"),
    "chrom_with_space": record(fields(CHROM=b"chr 1"), "CHROM"),
    "pos_negative": record(fields(POS=b"-5"), "POS"),
    "pos_10_12": record(fields(POS=b"1000000000000"), "beyond"),
    "pos_2_31": record(fields(POS=b"2147483648"), "beyond"),
    "pos_5000_digits": record(fields(POS=b"9" * 5000), "beyond"),
    "pos_float": record(fields(POS=b"10.0"), "POS"),
    "pos_hex": record(fields(POS=b"0x10"), "POS"),
    "pos_arabic_digits": record(fields(POS="١٢".encode()), "POS"),
    "pos_empty": record(fields(POS=b""), "POS"),
    "pos_missing": record(fields(POS=b"."), "POS"),
    "pos_with_commas": record(fields(POS=b"1,000"), "POS"),
    "ref_j": record(fields(REF=b"J"), "'J' in REF"),
    "ref_empty": record(fields(REF=b""), "REF is empty"),
    "ref_missing": record(fields(REF=b"."), "'.' in REF"),
    "ref_gap": record(fields(REF=b"-"), "'-' in REF"),
    "ref_two_alleles": record(fields(REF=b"A,C"), "',' in REF"),
    "ref_symbolic": record(fields(REF=b"<DEL>"), "'<' in REF"),
    "ref_rna": record(fields(REF=b"U"), "'U' in REF"),
    "ref_number": record(fields(REF=b"1"), "'1' in REF"),
    "ref_with_space": record(fields(REF=b"A C"), "' ' in REF"),
    "alt_empty": record(fields(ALT=b""), "ALT"),
    "alt_gap": record(fields(ALT=b"-"), "ALT"),
    "alt_trailing_comma": record(fields(ALT=b"G,"), "ALT"),
    "alt_double_comma": record(fields(ALT=b"G,,T"), "ALT"),
    "alt_protein": record(fields(ALT=b"Q"), "ALT"),
    "alt_angle_not_closed": record(fields(ALT=b"<DEL"), "ALT"),
    "alt_empty_symbol": record(fields(ALT=b"<>"), "ALT"),
    "alt_breakend_half": record(fields(ALT=b"G[chr1:20"), "ALT"),
    "alt_slash": record(fields(ALT=b"G/T"), "ALT"),
    "alt_escape": record(fields(ALT=b"G\x1b[2J"), "ALT"),
    "allele_10_mb": Case(lambda: HEAD + fields(ALT=b"G" * 10_000_000) + b"\n", "10,000,000", 5),
    "ref_10_mb": Case(lambda: HEAD + fields(REF=b"A" * 10_000_000) + b"\n", "10,000,000", 5),
    "qual_text": record(fields(QUAL=b"high"), "QUAL"),
    "qual_empty": record(fields(QUAL=b""), "QUAL"),
    "qual_underscore": record(fields(QUAL=b"1_0"), "QUAL"),
    "id_empty": record(fields(ID=b""), "ID"),
    "filter_empty": record(fields(FILTER=b""), "FILTER"),
    "filter_with_space": record(fields(FILTER=b"low quality"), "FILTER"),
    "info_empty": record(fields(INFO=b""), "INFO"),
    "end_text": record(fields(ALT=b"<DEL>", INFO=b"END=far"), "END"),
    "end_huge": record(fields(ALT=b"<DEL>", INFO=b"END=" + b"9" * 30), "END"),
    "svlen_list_text": record(fields(ALT=b"<DEL>,<DUP>", INFO=b"SVLEN=5,x"), "SVLEN is 'x'"),
    "svlen_list_empty": record(fields(ALT=b"<DEL>,<DUP>", INFO=b"SVLEN=5,"), "SVLEN is ''"),
    "end_negative": record(fields(ALT=b"<DEL>", INFO=b"END=-7"), "END is '-7'"),
    "alt_insertion_half": record(fields(ALT=b"A<ctg1"), "ALT"),
    "chrom_with_brackets": record(fields(CHROM=b"Chr(1)"), "'(' in CHROM"),
    "chrom_with_quote": record(fields(CHROM=b'"chr1"'), "'\"' in CHROM"),
    "chrom_angle_not_closed": record(fields(CHROM=b"<ctg1"), "'<' in CHROM"),
    "svlen_text": record(fields(ALT=b"<DEL>", INFO=b"SVLEN=long"), "SVLEN"),
    "unsorted": Case(HEAD + fields(POS=b"20") + b"\n" + GOOD, "not sorted", 6),
    "unsorted_contigs": Case(
        HEAD.replace(b"##contig", b"##contig=<ID=chr2>\n##contig")
        + GOOD
        + fields(CHROM=b"chr2")
        + b"\n"
        + fields(POS=b"11")
        + b"\n",
        "appears again",
        8,
    ),  # fmt: skip
}

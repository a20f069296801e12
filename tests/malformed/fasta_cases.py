"""FASTAs that must be refused."""

from __future__ import annotations

from collections.abc import Callable

from .case import BGZF_EOF, Case, bgzip, gz

GOOD = b">chr1 a contig\nACGTACGTAC\nGTACGTACGT\nACG\n>chr2\nTTTTTGGGGG\nCC\n"
FAI = b"chr1\t23\t15\t10\t11\nchr2\t12\t47\t10\t11\n"
LARGE = b">chr1\n" + b"\n".join(bytes(b"ACGT"[i * i * 7919 // 13 % 4] for i in range(60)) for _ in range(4000)) + b"\n"


def block(change: Callable[[bytes], bytes]) -> Case:
    """LARGE in bgzip with its second block changed: its length is set right again, its sums are not."""
    data = bgzip(LARGE, 30_000)
    first = int.from_bytes(data[16:18], "little") + 1
    end = first + int.from_bytes(data[first + 16 : first + 18], "little") + 1
    changed = bytearray(change(data[first:end]))
    changed[16:18] = (len(changed) - 1).to_bytes(2, "little")
    return Case(data[:first] + bytes(changed) + data[end:], f"block at byte {first}", ending=".fa.gz")


def fai(data: bytes, says: str, line: int = 1) -> Case:
    return Case(GOOD, says, line, ".fa", {".fai": data})


FASTA_CASES: dict[str, Case] = {
    "empty": Case(b"", "empty"),
    "empty_gzip": Case(gz(b""), "empty", ending=".fa.gz"),
    "blank_lines_only": Case(b"\n\n\n", "no FASTA record"),
    "gzip_truncated": Case(gz(LARGE)[:-200], "cut short", ending=".fa.gz"),
    "gzip_damaged": Case(gz(LARGE)[:400] + b"\xff\xff\xff" + gz(LARGE)[403:], "damaged", ending=".fa.gz"),
    "bgzip_without_end_block": Case(bgzip(LARGE)[: -len(BGZF_EOF)], "end marker", ending=".fa.gz"),
    "bgzip_damaged_data": Case(bgzip(LARGE)[:200] + b"\0" * 40 + bgzip(LARGE)[240:], "block at byte", ending=".fa.gz"),
    "bgzip_damaged_header": Case(
        bgzip(LARGE, 30_000).replace(b"\x1f\x8b\x08\x04", b"\x1f\x8b\x08\x05", 2).replace(b"\x05", b"\x04", 1),
        "block at byte",
        ending=".fa.gz",
    ),  # fmt: skip
    "bgzip_block_of_size_0": Case(
        bgzip(LARGE, 30_000)[:16] + b"\0\0" + bgzip(LARGE, 30_000)[18:], "block at byte 0", ending=".fa.gz"
    ),
    "bgzip_size_0_but_data": block(lambda raw: raw[:-4] + b"\0" * 4),
    "bgzip_size_and_crc_0_but_data": block(lambda raw: raw[:-8] + b"\0" * 8),
    "bgzip_size_too_small": block(lambda raw: raw[:-4] + (29_000).to_bytes(4, "little")),
    "bgzip_size_too_large": block(lambda raw: raw[:-4] + (31_000).to_bytes(4, "little")),
    "bgzip_size_beyond_a_block": block(lambda raw: raw[:-4] + (70_000).to_bytes(4, "little")),
    "bgzip_wrong_crc": block(lambda raw: raw[:-8] + b"\1\2\3\4" + raw[-4:]),
    "bgzip_bytes_behind_the_data": block(lambda raw: raw[:-8] + b"ACGT" + raw[-8:]),
    "bgzip_data_without_end": block(lambda raw: raw[:-20] + raw[-8:]),
    "zip": Case(b"PK\x03\x04" + GOOD, "zip"),
    "xz": Case(b"\xfd7zXZ\0" + GOOD, "xz"),
    "twobit": Case(b"\x43\x27\x41\x1a\0\0\0\0", "2bit"),
    "utf16": Case(b"\xff\xfe" + GOOD.decode().encode("utf-16-le"), "UTF-16"),
    "utf8_bom": Case(b"\xef\xbb\xbf" + GOOD, "byte-order mark"),
    "vcf": Case(b"##fileformat=VCFv4.2\n", "a VCF", 1),
    "fastq": Case(b"@read1\nACGT\n+\nIIII\n", "FASTQ", 1),
    "html": Case(b"<!DOCTYPE html>\n<html>404</html>\n", "before the first '>'", 1),
    "text_before_first_record": Case(b"\n; comment\n" + GOOD, "before the first '>'", 2),
    "sequence_without_header": Case(b"ACGTACGT\n", "before the first '>'", 1),
    "duplicate_contig": Case(GOOD + b">chr1 again\nACGT\n", "already on line 1", 8),
    "empty_record": Case(b">chr1\nACGT\n>chr2\n>chr3\nACGT\n", "'chr2' has no sequence", 3),
    "empty_last_record": Case(b">chr1\nACGT\n>chr2\n", "'chr2' has no sequence", 3),
    "empty_last_record_no_newline": Case(b">chr1\nACGT\n>chr2", "'chr2' has no sequence", 3),
    "record_of_blank_lines": Case(b">chr1\n\n\n\n>chr2\nACGT\n", "'chr1' has no sequence", 1),
    "header_without_name": Case(b">\nACGT\n", "without a name", 1),
    "header_with_space_first": Case(b"> chr1\nACGT\n", "without a name", 1),
    "header_not_utf8": Case(b">chr\xff1\nACGT\n", "UTF-8", 1),
    "header_nul": Case(b">chr1\0x\nACGT\n", "control character", 1),
    "header_endless": Case(b">" + b"x" * 100_000, "longer than", 1),
    "old_mac": Case(GOOD.replace(b"\n", b"\r"), "old Mac", 1),
    "stray_carriage_return": Case(b">chr1\nACGT\nAC\rGT\nACGT\n", "carriage return", 3),
    "protein": Case(b">sp|P38398\nMDLSALRVEEVQNVINAMQKILECPICLELIKEPVSTKCDHIFCK\n", "protein", 2),
    "protein_without_telltale_letters": Case(b">p\n" + b"MKHRSYVWDN" * 10 + b"\n", "protein", 1),
    "stop_codon_star": Case(b">chr1\nACGT\nACG*\n", "'*'", 3),
    "gap": Case(b">chr1\nACGT--ACGT\n", "'-'", 2),
    "rna": Case(b">chr1\nACGU\n", "RNA", 2),
    "digits": Case(b">chr1\n1 ACGT\n", "'1'", 2),
    "space_inside": Case(b">chr1\nACGT ACGT\n", "' ' inside a line", 2),
    "space_before": Case(b">chr1\nACGT\n ACGT\n", "' ' inside a line", 3),
    "tab_inside": Case(b">chr1\nACGT\tACGT\n", "'\\t' inside a line", 2),
    "blanks_only": Case(b">chr1\n \t\n", "'chr1' has no sequence", 1),
    "carriage_return_before_a_blank": Case(b">chr1\nACGT\r \nACGT\n", "carriage return", 2),
    "nul_inside": Case(b">chr1\nACGT\nAC\0T\n", "'\\x00'", 3),
    "nul_tail": Case(GOOD + b"\0" * 512, "'\\x00'", 8),
    "latin1_inside": Case(b">chr1\nAC\xe9T\n", "'é'", 2),
    "header_inside_a_line": Case(b">chr1\nACGT>chr2\nACGT\n", "'>' inside", 2),
    "fai_length_stale": fai(FAI.replace(b"\t23\t", b"\t24\t"), "stale"),
    "fai_offset_stale": fai(FAI.replace(b"\t47\t", b"\t40\t"), "stale", 2),
    "fai_name_stale": fai(FAI.replace(b"chr2", b"chrX"), "stale"),
    "fai_record_missing": fai(FAI.split(b"\n")[0] + b"\n", "stale"),
    "fai_record_extra": fai(FAI + b"chr3\t5\t99\t10\t11\n", "stale", 3),
    "fai_bases_of_a_line_stale": fai(FAI.replace(b"\t10\t11\nchr2", b"\t9\t11\nchr2"), "stale"),
    "fai_width_of_a_line_stale": fai(FAI.replace(b"\t10\t11\nchr2", b"\t10\t12\nchr2"), "stale"),
    "fai_other_line_length": fai(FAI.replace(b"\t10\t11\nchr2", b"\t8\t9\nchr2"), "stale"),
    "fai_one_long_line": fai(FAI.replace(b"\t10\t11\nchr2", b"\t23\t24\nchr2"), "stale"),
    "fai_text": fai(b"hello\n", "not a .fai"),
    "fai_numbers_text": fai(FAI.replace(b"\t23\t", b"\tmany\t"), "not a .fai"),
    "fai_huge_numbers": fai(FAI.replace(b"\t23\t", b"\t" + b"9" * 5000 + b"\t"), "not a .fai"),
    "fai_binary": fai(b"\xff\xfe\x00\x01", "index cannot be read", None),
}

"""BCF as VCF lines, through pysam, after the container has been walked once: pysam is never given a broken file."""

from __future__ import annotations

from collections.abc import Iterator

from nexvar.errors import NexVarError
from nexvar.genome.textio import Lines

MAGIC = b"BCF\x02"


def is_bcf(head: bytes) -> bool:
    """Whether decompressed bytes start a BCF 2 file."""
    return head.startswith(MAGIC)


def check_container(lines: Lines) -> None:
    """Walk header and records by their length fields to the end of the file."""
    with lines.open() as file:
        head = file.read(9)
        length = int.from_bytes(head[5:9], "little")
        text = file.read(min(length, 1 << 28))
        if len(head) < 9 or len(text) < length or not text.startswith(b"##fileformat=VCF") or b"#CHROM" not in text:
            raise NexVarError(
                "the BCF header is damaged",
                where=f"{lines.name}:1",
                fix="write it again with `bcftools view`",
            )
        number = text.count(b"\n")
        while prefix := file.read(8):
            number += 1
            shared, samples = int.from_bytes(prefix[:4], "little"), int.from_bytes(prefix[4:], "little")
            body = file.read(shared + samples) if 24 <= shared < 1 << 28 and samples < 1 << 28 else b""
            if len(prefix) < 8 or len(body) < shared + samples or not body:
                raise NexVarError(
                    "a BCF record is cut short or damaged",
                    where=f"{lines.name}:{number}",
                    fix="write it again with `bcftools view`",
                )


def bcf_lines(lines: Lines) -> Iterator[tuple[int, str]]:
    """(number, line) of the VCF text of a BCF file; the number is the line's in `bcftools view` of the file."""
    import pysam

    lines.checked(check_container)
    verbosity = pysam.set_verbosity(0)
    number = 0
    try:
        with pysam.VariantFile(str(lines.path)) as file:
            for line in str(file.header).splitlines():
                number += 1
                yield number, line
            for record in file:
                number += 1
                yield number, str(record).rstrip("\n")
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise NexVarError(
            f"the BCF cannot be read ({error})",
            where=f"{lines.name}:{number + 1}",
            fix="write it again with `bcftools view`",
        ) from None
    finally:
        pysam.set_verbosity(verbosity)

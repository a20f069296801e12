"""Files that the readers must refuse with one line: ``VCF_CASES`` and ``FASTA_CASES``, name -> Case.

Generated rather than stored, since many are binary, huge, or would be mended by an editor.
``python -m tests.malformed FOLDER`` writes them all out.
"""

from .fasta_cases import FASTA_CASES
from .other_cases import BED_CASES, OPTION_CASES, SYNONYM_CASES, TSV_CASES, VARIANT_STRINGS
from .vcf_cases import VCF_CASES

__all__ = ["BED_CASES", "FASTA_CASES", "OPTION_CASES", "SYNONYM_CASES", "TSV_CASES", "VARIANT_STRINGS", "VCF_CASES"]

"""Write the corpus to a folder, for other tools to try: ``python -m tests.malformed FOLDER``."""

import sys
from pathlib import Path

from . import BED_CASES, FASTA_CASES, SYNONYM_CASES, TSV_CASES, VCF_CASES

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for kind in (VCF_CASES, FASTA_CASES, TSV_CASES, BED_CASES, SYNONYM_CASES):
        for name, case in kind.items():
            print(case.write(folder, name))

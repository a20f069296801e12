"""NCBI's genetic codes by number, and translation. Source: NCBI, "The Genetic Codes" (gc.prt), as Biopython has it.

A code is 64 letters of amino acids, of the codons TTT, TTC, TTA, TTG, TCT, … GGG (bases in the order T, C, A, G), and
the codons that a protein may begin with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nexvar.errors import NexVarError

BASES = "TCAG"
CODONS = tuple(a + b + c for a in BASES for b in BASES for c in BASES)
STOP, UNKNOWN = "*", "X"
AMINO_ACIDS = "GAVLIMFWPSTCYNQDEKRH" + STOP  # by kind: small and oily, ring-shaped, polar, charged
_PLACES = np.full(256, -1, dtype=np.int64)
for _i, _letters in enumerate(("TtUu", "Cc", "Aa", "Gg")):
    for _letter in _letters:
        _PLACES[ord(_letter)] = _i
_TABLES = """
1;FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG;TTG CTG ATG;Standard
2;FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIMMTTTTNNKKSS**VVVVAAAADDEEGGGG;ATT ATC ATA ATG GTG;Vertebrate Mitochondrial
3;FFLLSSSSYY**CCWWTTTTPPPPHHQQRRRRIIMMTTTTNNKKSSRRVVVVAAAADDEEGGGG;ATA ATG GTG;Yeast Mitochondrial
4;FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG;TTA TTG CTG ATT ATC ATA ATG GTG;Mold Mitochondrial
5;FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIMMTTTTNNKKSSSSVVVVAAAADDEEGGGG;TTG ATT ATC ATA ATG GTG;Invertebrate Mitochondrial
6;FFLLSSSSYYQQCC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG;ATG;Ciliate Nuclear
9;FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIIMTTTTNNNKSSSSVVVVAAAADDEEGGGG;ATG GTG;Echinoderm Mitochondrial
10;FFLLSSSSYY**CCCWLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG;ATG;Euplotid Nuclear
11;FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG;TTG CTG ATT ATC ATA ATG GTG;Bacterial
12;FFLLSSSSYY**CC*WLLLSPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG;CTG ATG;Alternative Yeast Nuclear
13;FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIMMTTTTNNKKSSGGVVVVAAAADDEEGGGG;TTG ATA ATG GTG;Ascidian Mitochondrial
14;FFLLSSSSYYY*CCWWLLLLPPPPHHQQRRRRIIIMTTTTNNNKSSSSVVVVAAAADDEEGGGG;ATG;Alternative Flatworm Mitochondrial
15;FFLLSSSSYY*QCC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG;ATG;Blepharisma Macronuclear
16;FFLLSSSSYY*LCC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG;ATG;Chlorophycean Mitochondrial
21;FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIMMTTTTNNNKSSSSVVVVAAAADDEEGGGG;ATG GTG;Trematode Mitochondrial
22;FFLLSS*SYY*LCC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG;ATG;Scenedesmus obliquus Mitochondrial
23;FF*LSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG;ATT ATG GTG;Thraustochytrium Mitochondrial
24;FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSSKVVVVAAAADDEEGGGG;TTG CTG ATG GTG;Pterobranchia Mitochondrial
25;FFLLSSSSYY**CCGWLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG;TTG ATG GTG;Candidate Division SR1
26;FFLLSSSSYY**CC*WLLLAPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG;CTG ATG;Pachysolen tannophilus Nuclear
27;FFLLSSSSYYQQCCWWLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG;ATG;Karyorelict Nuclear
28;FFLLSSSSYYQQCCWWLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG;ATG;Condylostoma Nuclear
29;FFLLSSSSYYYYCC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG;ATG;Mesodinium Nuclear
30;FFLLSSSSYYEECC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG;ATG;Peritrich Nuclear
31;FFLLSSSSYYEECCWWLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG;ATG;Blastocrithidia Nuclear
32;FFLLSSSSYY*WCC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG;TTG CTG ATT ATC ATA ATG GTG;Balanophoraceae Plastid
33;FFLLSSSSYYY*CCWWLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSSKVVVVAAAADDEEGGGG;TTG CTG ATG GTG;Cephalodiscidae Mitochondrial
"""  # number, amino acids, start codons, name


@dataclass(frozen=True)
class GeneticCode:
    """amino_acids: of ``CODONS``, "*" for a stop. starts: codons that a protein may begin with.

    NOTE codes 27, 28 and 31 have stops that are amino acids, too, by their context: here they are amino acids.
    """

    number: int
    name: str
    amino_acids: str
    starts: frozenset[str]

    def translate(self, dna: str) -> str:
        """The protein of all whole codons from the first base on, stops as "*"; X where a base is not A, C, G, T."""
        letters = np.frombuffer(dna.encode("ascii", "replace"), dtype=np.uint8)
        places_N3 = _PLACES[letters[: len(letters) // 3 * 3]].reshape(-1, 3)
        protein = np.frombuffer(self.amino_acids.encode(), dtype=np.uint8)[places_N3 @ (16, 4, 1)]
        return np.where((places_N3 < 0).any(1), np.uint8(ord(UNKNOWN)), protein).tobytes().decode()

    def codons_of(self, amino_acid: str) -> tuple[str, ...]:
        """Its codons, in the order of ``CODONS``."""
        return tuple(c for c, found in zip(CODONS, self.amino_acids, strict=True) if found == amino_acid)


def _parsed() -> dict[int, GeneticCode]:
    rows = (line.split(";") for line in _TABLES.strip().split("\n"))
    return {int(n): GeneticCode(int(n), name, letters, frozenset(starts.split())) for n, letters, starts, name in rows}


CODES = _parsed()


def genetic_code(number: int) -> GeneticCode:
    """NCBI's code of this number (1: standard, 2: vertebrate mitochondria, 11: bacteria)."""
    if number not in CODES:
        known = ", ".join(map(str, CODES))
        raise NexVarError(f"no genetic code {number}", where="--code", fix=f"one of NCBI's: {known}")
    return CODES[number]

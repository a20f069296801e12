"""People's files and coordinates: FASTA, VCF, BCF, BED, HGVS -> records and windows. Knows no model."""

from nexvar.genome.reference import Fasta, Interval, Variant

__all__ = ["Fasta", "Interval", "Variant"]

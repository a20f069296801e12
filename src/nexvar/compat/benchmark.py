"""The former place of ``nexvar.compat.noncoding``."""

from nexvar.compat.noncoding import GenomicModel

__all__ = ["GenomicModel"]

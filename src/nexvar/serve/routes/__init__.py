"""Paths, one file for each group: JSON in, a call of ``service``, JSON out."""

"""The non-coding variant benchmark: labelled variants, models and simple baselines -> scores, metrics, tables.

    sets.py ─ variants and which of them are compared ─┐
    regions.py ─ the seven classes of the genome       ├─ run.py ─ scores, cell by cell ─ report.py ─ tables, JSON
    windows.py ─ centred windows, groups of neighbours │
    zero_shot.py probe.py lora.py baselines.py ────────┘

The design is that of Hollis36/genomic-fm-noncoding-benchmark (commit 362d112, MIT; it has published no numbers); what
it does otherwise than it says, and what would flatter a model, is done right: docs/benchmarks.md lists it.
"""

"""The non-coding variant benchmark: labelled variants, models and simple baselines -> scores, metrics, tables.

    alleles.py sets.py   variants with a label, and which are compared with which ─┐
    regions.py           the seven classes of the genome                           ├─ run.py
    windows.py           centred windows, groups of neighbours                     │     │
    baselines.py         what needs no model                                       │     │
    cells.py             what a model says: zero_shot.py, probe.py, lora.py,       ┘     │
                         wrapped.py; kept on disk by store.py                            │
    report.py ─ rows ─ tables.py (text), writing.py (files), pictures.py ────────────────┘

The design is that of Hollis36/genomic-fm-noncoding-benchmark (commit 362d112, MIT; it has published no numbers); what
it does otherwise than it says, and what would flatter a model, is done right: docs/benchmarks.md lists it.
"""

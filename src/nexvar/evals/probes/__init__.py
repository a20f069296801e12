"""How much of a task linear models find in a frozen model's embeddings, beside what simple features find.

probe.py     task + models ─> table        leaks.py     test rows that stand in the training rows, nearly or exactly
features.py  sequences ─> numbers          fitting.py   numbers ─> predictions of rows that were never seen
"""

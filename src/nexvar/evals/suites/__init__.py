"""Public benchmarks of labelled sequences: suites of tasks that are data, measured for many models in one run.

task.py    suites/<suite>/<task>.toml ─> Task         read.py     a user's files ─> one labelled table, checked
cells.py   one model on one task ─> rows              finetune.py the same by training
run.py     models x tasks, resumable, anywhere        tables.py   rows ─> Markdown, HTML, pictures
"""

"""Public benchmarks of labelled sequences: suites of tasks that are data.

task.py   suites/<suite>/<task>.toml ─> Task          tables.py   what people see
"""

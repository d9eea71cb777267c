"""How fast fedlab is, as ratios: each file is one command, `python -m benchmarks.NAME`. README.md
has the table."""

"""From measured trajectories to numbers, tables and figures about Δ*.

`analysis` computes; of its record `text` makes tables for a terminal, `files` JSON and CSV, and
`figures` pictures (and alone needs matplotlib). The command `tbtjax analyze` is all in a row.
"""

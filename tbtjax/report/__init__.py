"""From measured trajectories to numbers, tables and figures about Δ*.

`analysis` computes, `tables` writes text, JSON and CSV, `figures` draws (and alone needs
matplotlib). The command `tbtjax analyze` is the three in a row.
"""

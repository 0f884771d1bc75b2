"""``make study-paper``: every figure of ZipML (arXiv 1611.05402v3), a module each.

A module has ``study() -> dict``, which is written to ``studies/results/paper/<module>.json``, and
``claims(report) -> list of Claim``, the rows of the table in docs/paper.md that it answers.
"""

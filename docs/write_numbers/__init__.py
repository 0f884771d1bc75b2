"""Writes numbers into README.md and docs: ``python -m docs.write_numbers``.

Run it after a benchmark or study, or after a change of the kernels; ``--check`` writes nothing, but
tells what differs, as the tests want to know.
"""

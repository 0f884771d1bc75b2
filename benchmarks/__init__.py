"""Speed, measured here: ``python -m benchmarks.packing``; ``make bench`` runs all."""

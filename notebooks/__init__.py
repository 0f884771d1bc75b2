"""Notebooks, which ``pynq get-notebooks`` copies to where they can be run and changed."""

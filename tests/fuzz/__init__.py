"""Fuzzing: text, files and the wire, with oracles where there are some.

``make fuzz`` runs all of it for minutes and writes the figures of docs/reliability.md
(``results.json``); tests/test_fuzz.py runs a little of it. Every kind is a function that takes a
budget and a seed and returns figures; what should not be is an AssertionError with what made it.
"""

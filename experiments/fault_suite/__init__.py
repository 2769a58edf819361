"""Faults that `experiments.faults` provokes: one module a kind, and what they share.

`processes` runs commands, `verdicts` judges them, `samples` are sound files, `mutations` damage
them, `tries` gives them to commands. `mutants`, `masks`, `films`, `kills`, `full_disk`,
`permissions` and `two_processes` are the kinds.
"""

"""The rows of the benchmark, in families that measure together.

A family is a module with

- `NAMES`: what `B=` calls its rows;
- `measure(stand, number)`: one round of both sides; returns a dict of figures;
- `rows(rounds)`: the rows (`report.row()`) of the figures of all rounds;
- `ROUNDS`, where it is not three.
"""

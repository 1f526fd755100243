"""Benchmarks: what the engine reaches, as ratios to what the same server can do in the same run.

`python -m benchmarks` prints a table, and last a line of JSON. Nothing here is a gate: rates depend on the machine, ratios
hardly do. Everything that production has on is on: idempotency keys, hash chain, fsync.
"""

"""Replaying a log of real cases: every recorded event becomes the call that a person or a system would have made.

`table` reads what is expected; `travel` turns a table of (state, act, by) -> state into a definition in which people
decide; `log` reads cases; `run` replays them through REST and compares. The server may be killed while it happens.
"""

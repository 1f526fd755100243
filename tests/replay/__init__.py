"""Replaying logs: the definition made from a table, the reading of logs, and a small log through a killed server."""

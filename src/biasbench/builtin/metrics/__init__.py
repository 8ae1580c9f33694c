"""Metrics that ship with biasbench."""

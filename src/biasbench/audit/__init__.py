"""Measuring a model that biasbench never saw, from one file of its outputs."""

"""The command line: a thin shell over the library, one file per command.

No module here imports torch, pandas or pydantic at its top: `--help` answers at once.
"""

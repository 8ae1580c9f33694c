"""Bad input goes through the command line in-process."""

from tests.helpers.commands import cli, home

__all__ = ["cli", "home"]

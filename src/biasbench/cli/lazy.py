"""Click, with sub-commands imported on use and a nearest name for every mistyped one."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from biasbench.errors import did_you_mean, printable


class LazyGroup(click.Group):
    """A group whose commands are named by `module:attribute` and imported when needed.

    Args:
        lazy: Command name to `"package.module:command"`, in the order to list them.
        **options: As for `click.Group`.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return None
        module, _, attribute = self.lazy[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand:
            hint = did_you_mean(args[0], self.lazy) or f"Commands: {', '.join(self.lazy)}."
            raise click.UsageError(f"no such command {printable(args[0])!r}. {hint}", ctx) from None


class Choice(click.Choice[str]):
    """A choice that names the nearest value when it refuses one."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        hint = did_you_mean(str(value), [str(c) for c in self.choices])
        return f"{super().get_invalid_choice_message(printable(value), ctx)} {hint}".strip()

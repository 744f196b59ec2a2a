"""The commands of ingestd as click knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator


def commands_of(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    """The commands of a group by name, imported."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        yield name, command

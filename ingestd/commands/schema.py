"""`ingestd schema`."""

import json

import click

from ingestd.model.message_schema import message_schema
from ingestd.model.stream import STREAMS


@click.command()
@click.argument("stream", type=click.Choice([stream.name for stream in STREAMS]))
def schema(stream: str) -> None:
    """Print the JSON Schema (2020-12) of a message.

    \b
    ingestd schema meter >meter.schema.json
    """
    (wanted,) = (one for one in STREAMS if one.name == stream)
    click.echo(json.dumps(message_schema(wanted), indent=2, ensure_ascii=False))

"""`ingestd schema`."""

import json
from typing import Final

import click

from ingestd.model import asyncapi
from ingestd.model.message_schema import message_schema
from ingestd.model.stream import STREAMS

_ASYNCAPI: Final = "asyncapi"


@click.command(short_help="Print the schema of messages or topics.")
@click.argument("document", type=click.Choice([*(stream.name for stream in STREAMS), _ASYNCAPI]))
def schema(document: str) -> None:
    """Print the JSON Schema (2020-12) of a message, or the AsyncAPI document of all topics.

    \b
    ingestd schema meter >meter.schema.json
    ingestd schema asyncapi >asyncapi.json
    """
    schemas = {stream.name: message_schema(stream) for stream in STREAMS}
    printed = asyncapi.document() if document == _ASYNCAPI else schemas[document]
    click.echo(json.dumps(printed, indent=2, ensure_ascii=False))

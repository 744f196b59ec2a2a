"""`ingestd replay`."""

from pathlib import Path

import click

from ingestd.commands.invocation import run_to_end, settings_of
from ingestd.commands.options import progress_bar
from ingestd.demo.replay import Recording
from ingestd.mqtt.publisher import connected


@click.command(short_help="Publish the messages of a file.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--shift-to-now", is_flag=True, help="Shift all timestamps so that the newest is of now.")
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="Messages a second; as fast as possible if left out."
)
@click.pass_context
def replay(context: click.Context, *, file: Path, shift_to_now: bool, rate: float | None) -> None:
    """Publish recorded messages: lines of {"topic": ..., "payload": {...}}.

    \b
    ingestd replay day.jsonl --shift-to-now --rate 500
    """
    settings = settings_of(context)
    recording = Recording(file)

    async def play() -> None:
        messages = recording.play(shift_to_now=shift_to_now)
        async with connected(settings, client_id="ingestd-replay") as publisher:
            with progress_bar(length=recording.messages, label=f"Replaying {file.name}") as bar:
                published = await publisher.publish(messages, rate=rate, progress=bar.update)
        click.echo(f"{published} messages published and acknowledged by the broker")

    run_to_end(play)

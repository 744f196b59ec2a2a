"""`python -m bench`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from bench import drain, machine
from bench.report import clear, write_json
from bench.stage import Stage
from ingestd.errors import IngestdError

OUT = Path(__file__).parent / "out"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--messages", type=click.IntRange(min=2), default=200_000, show_default=True, help="Length of the backlog."
)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="How often everybody runs.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=OUT,
    show_default="bench/out",
    help="Where the JSON goes: one file a call, named by the time.",
)
def bench(messages: int, rounds: int, out: Path) -> None:
    """Measure ingestd on this machine, on a PostgreSQL and a Mosquitto of its own that nothing remains of.

    Drain: a backlog of QoS 1 messages of 10,000 devices waits in the broker; the time from the connection to
    the last commit. Beside ingestd runs an unguaranteed pipe, `mosquitto_sub | psql -c "COPY raw FROM STDIN"`,
    into a table without an index. Both get the same messages from the same broker into the same PostgreSQL
    (fsync on), each time from scratch. "÷ pipe" is the rate as a share of the pipe's in the same round; CPU is
    user and system time in microseconds a message. It takes about a minute.

    Other work on the machine changes the absolute figures: only ratios bear comparing between machines.
    """
    if sys.platform != "linux":
        raise click.ClickException("the benchmarks read /proc, so they need Linux")
    started = datetime.now(UTC)
    try:
        with Stage() as stage:
            facts = machine.facts(stage)
            print(machine.described(facts), end="\n\n")
            results = {"machine": facts, "drain": drain.measure(stage, messages=messages, rounds=rounds)}
    except IngestdError as error:
        raise click.ClickException(str(error)) from error
    finally:
        clear()
    path = out / f"{started:%Y%m%dT%H%M%SZ}.json"
    write_json(path, results)
    print(f"\nWritten to {path}")


bench()

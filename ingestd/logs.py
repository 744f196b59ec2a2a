"""The log: lines for people on a terminal, else JSON. Each line has an event and fields (docs/operations.md)."""

import logging
import sys
from io import StringIO
from typing import Literal, TextIO

import structlog

from ingestd.last_errors import LAST_ERRORS
from ingestd.printable import printable


def set_up(*, level: str, style: Literal["console", "json"] | None) -> None:
    """Write events of `level` and above to stderr. Libraries' log lines from warning on have the same format."""
    if style is None:
        style = "console" if sys.stderr.isatty() else "json"
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=_printable_traceback)
        if style == "console"
        else structlog.processors.JSONRenderer()
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # JSON escapes control characters itself.
    shared.append(structlog.processors.format_exc_info if style == "json" else _printable_values)
    structlog.configure(
        processors=[*shared, LAST_ERRORS.note, renderer],  # of ingestd's own lines: those of libraries may say anything
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # ingestd logs an outage itself, once
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _printable_values(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A terminal obeys control characters, and devices, brokers and clients write some of the values."""
    return {name: printable(value) if isinstance(value, str) else value for name, value in event.items()}


def _printable_traceback(output: TextIO, error: structlog.typing.ExcInfo) -> None:
    text = StringIO()
    structlog.dev.plain_traceback(text, error)
    output.write(printable(text.getvalue(), but="\n"))

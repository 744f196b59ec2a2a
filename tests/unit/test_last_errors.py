# ruff: noqa: SIM300 - expected == actual
"""The last errors are few, each once, and say what the log said."""

from __future__ import annotations

from ingestd.last_errors import MAX_DETAIL, LastErrors


def note(errors: LastErrors, event: str, *, second: int = 0, level: str = "error", **fields: object) -> None:
    errors.note(None, level, {"event": event, "level": level, "timestamp": f"2026-11-20T12:00:{second:02}Z", **fields})


def test_a_line_says_its_reason_or_all_its_fields() -> None:
    errors = LastErrors()
    note(errors, "flush_failed", reason="no connection")
    note(errors, "probe_failed", level="warning", topic="ingestd/probe/a", missing="message")

    assert ["topic: ingestd/probe/a, missing: message", "no connection"] == [
        one.detail for one in errors.newest_first()
    ]
    assert ["warning", "error"] == [one.level for one in errors.newest_first()]


def test_what_is_said_again_is_one_line_that_counts() -> None:
    errors = LastErrors()
    note(errors, "flush_failed", reason="a")
    note(errors, "flush_failed", reason="b", second=1)
    note(errors, "flush_failed", reason="a", second=2)

    assert [("a", 2, "2026-11-20T12:00:02Z"), ("b", 1, "2026-11-20T12:00:01Z")] == [
        (one.detail, one.times, one.at) for one in errors.newest_first()
    ]


def test_the_list_and_each_line_are_bounded() -> None:
    errors = LastErrors(most=3)
    for number in range(5):
        note(errors, "flush_failed", reason=f"{number}{'x' * 1000}")

    assert ["4", "3", "2"] == [one.detail[0] for one in errors.newest_first()]
    assert {MAX_DETAIL} == {len(one.detail) for one in errors.newest_first()}


def test_ordinary_lines_and_addresses_of_clients_are_not_in_it() -> None:
    errors = LastErrors()
    note(errors, "ready", level="info")
    note(errors, "requests_broken", level="warning", requests=3, last_reason="no HTTP", last_remote="192.0.2.7")

    assert ["requests: 3, last_reason: no HTTP"] == [one.detail for one in errors.newest_first()]

# ruff: noqa: SIM300 - expected == actual
"""What is to be done about a database error, by its SQLSTATE (PostgreSQL manual, appendix A)."""

from __future__ import annotations

from typing import NamedTuple

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from ingestd.errors import DataStoreError, OperatorStoreError, StoreError, TransientStoreError, WorkerAwayError
from ingestd.store.sqlstate import classify, translated


class Fate(NamedTuple):
    """The class of a StoreError and, where it is transient, whether its cause is known."""

    kind: type[StoreError]
    known: bool | None = None


DATA = Fate(DataStoreError)
OPERATOR = Fate(OperatorStoreError)
TRANSIENT = Fate(TransientStoreError, known=True)
UNKNOWN = Fate(TransientStoreError, known=False)
WORKER_AWAY = Fate(WorkerAwayError, known=True)

FATES = {
    "08000": TRANSIENT,  # connection exception
    "08006": WORKER_AWAY,  # connection failure, which the server itself met
    "08P01": TRANSIENT,  # protocol violation
    "40001": TRANSIENT,  # serialization failure
    "40P01": TRANSIENT,  # deadlock
    "53100": TRANSIENT,  # disk full
    "53200": TRANSIENT,  # out of memory
    "53300": TRANSIENT,  # too many connections
    "57014": TRANSIENT,  # query cancelled
    "57P01": TRANSIENT,  # administrator shutdown
    "57P02": TRANSIENT,  # crash shutdown
    "57P03": TRANSIENT,  # cannot connect now
    "25006": TRANSIENT,  # read-only transaction
    "25P03": TRANSIENT,  # idle in transaction for too long
    "55P03": TRANSIENT,  # lock not available
    "22001": DATA,  # string too long
    "22003": DATA,  # number out of range
    "22008": DATA,  # timestamp overflow
    "22021": DATA,  # character not in repertoire
    "22P02": DATA,  # invalid text representation
    "22P03": DATA,  # invalid binary representation
    "23502": DATA,  # not null
    "23503": DATA,  # foreign key
    "23505": DATA,  # unique
    "23514": DATA,  # check
    "28000": OPERATOR,  # invalid authorization
    "28P01": OPERATOR,  # invalid password
    "3D000": OPERATOR,  # no such database
    "42501": OPERATOR,  # no privilege
    "42601": OPERATOR,  # syntax error
    "42703": OPERATOR,  # no such column
    "42P01": OPERATOR,  # no such table
    "XX000": UNKNOWN,  # internal error
    "XX001": UNKNOWN,  # data corrupted
    "P0001": UNKNOWN,  # raised by a function
    "0A000": UNKNOWN,  # feature not supported
    "25P02": UNKNOWN,  # in a failed transaction
    "55006": UNKNOWN,  # object in use
    "58030": UNKNOWN,  # input/output error
    "54000": UNKNOWN,  # program limit exceeded
    "HV000": UNKNOWN,  # foreign data wrapper
    "99999": UNKNOWN,  # nobody's
    None: TRANSIENT,  # the client library's own: the connection went
}


def error_of(state: str | None, message: str = "it went wrong\nDETAIL: row 7") -> psycopg.Error:
    error = psycopg.OperationalError(message)
    error.sqlstate = state
    return error


def fate_of(error: StoreError) -> Fate:
    return Fate(type(error), error.known if isinstance(error, TransientStoreError) else None)


@pytest.mark.parametrize(("state", "fate"), FATES.items(), ids=map(str, FATES))
def test_an_sqlstate_decides_what_is_to_be_done(state: str | None, fate: Fate) -> None:
    assert fate == fate_of(classify(error_of(state)))


@pytest.mark.parametrize(("state", "fate"), FATES.items(), ids=map(str, FATES))
def test_psycopgs_own_class_for_the_sqlstate_is_treated_alike(state: str | None, fate: Fate) -> None:
    try:
        error_class = psycopg.errors.lookup(state or "")
    except KeyError:
        error_class = psycopg.OperationalError

    if error_class.sqlstate == state:
        assert fate == fate_of(classify(error_class("it went wrong")))


@pytest.mark.parametrize(
    "message",
    ["failure on connection marked as essential: w1:5432", "server closed the connection unexpectedly\n\tThis"],
)
def test_a_worker_of_citus_that_is_lost_in_a_transaction_is_no_fault_of_a_row(message: str) -> None:
    assert WORKER_AWAY == fate_of(classify(error_of("XX000", message)))


def test_a_value_that_psycopg_itself_refuses_is_the_rows_fault() -> None:
    assert DATA == fate_of(classify(psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")))


def test_the_message_is_the_state_and_the_first_line() -> None:
    assert "42P01: it went wrong" == str(classify(error_of("42P01")))


def test_without_a_state_it_is_said_to_be_the_database() -> None:
    assert "database: it went wrong" == str(classify(error_of(None)))


def test_an_error_without_a_message_names_its_class() -> None:
    assert "08006: OperationalError" == str(classify(error_of("08006", "")))


def test_psycopg_errors_are_translated_and_kept_as_the_cause() -> None:
    error = error_of("23505")

    with pytest.raises(DataStoreError) as caught, translated():
        raise error

    assert error is caught.value.__cause__


def test_no_connection_to_be_had_is_transient() -> None:
    with pytest.raises(TransientStoreError, match="no connection to the database") as caught, translated():
        raise PoolTimeout

    assert TRANSIENT == fate_of(caught.value)


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(ZeroDivisionError), translated():
        raise ZeroDivisionError

"""Translates PostgreSQL's errors into StoreError, in one place."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg_pool import PoolTimeout

from ingestd.errors import DataStoreError, OperatorStoreError, StoreError, TransientStoreError, WorkerAwayError

_RETRIED_CLASSES: Final = {
    "08",  # connection exception
    "40",  # transaction rollback: serialization failure, deadlock
    "53",  # insufficient resources: disk full, too many connections
    "57",  # operator intervention: shutdown, crash recovery, query cancelled
}
_RETRIED_STATES: Final = {
    "25006",  # read-only transaction: a failover under way
    "25P03",  # idle in transaction for too long: we were held up
    "55P03",  # lock not available
}
_CONNECTION_FAILURE: Final = "08006"
"""Sent by a server, so it is about a connection of that server: to a worker of Citus."""
_INTERNAL_ERROR: Final = "XX000"
_WORKER_LOST: Final = re.compile(r"connection marked as essential|server closed the connection unexpectedly")
"""How Citus and libpq on the coordinator say that a worker was lost in the middle of a transaction."""
_DATA_CLASSES: Final = {
    "22",  # data exception
    "23",  # integrity constraint violation
}
_OPERATOR_CLASSES: Final = {
    "28",  # invalid authorization specification
    "3D",  # invalid catalog name: no such database
    "42",  # syntax error or access rule violation: no such table, no permission
}


def classify(error: psycopg.Error) -> StoreError:
    """What to do about a database error, by its SQLSTATE (PostgreSQL manual, appendix A).

    - Data: a row is at fault. The batch is halved until the row is found; it is kept as a dead letter.
    - Operator: a permission or an object is missing. The error is logged, and the batch is repeated slowly.
    - Transient: all other errors. The batch is repeated, because giving up would lose readings. `known=False` marks an
      unknown SQLSTATE: a row may be at fault after all.
    """
    state = error.sqlstate
    message = f"{state or 'database'}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    if state == _CONNECTION_FAILURE or (state == _INTERNAL_ERROR and _WORKER_LOST.search(message)):
        return WorkerAwayError(message)
    if state is None and isinstance(error, psycopg.DataError):
        return DataStoreError(message)  # refused by psycopg before it was sent
    if state is None or state[:2] in _RETRIED_CLASSES or state in _RETRIED_STATES:
        return TransientStoreError(message)
    if state[:2] in _DATA_CLASSES:
        return DataStoreError(message)
    if state[:2] in _OPERATOR_CLASSES:
        return OperatorStoreError(message)
    return TransientStoreError(message, known=False)


@contextmanager
def translated() -> Iterator[None]:
    """Raises psycopg's errors as StoreError. All calls of psycopg in ingestd/store run inside it."""
    try:
        yield
    except PoolTimeout as error:
        raise TransientStoreError("no connection to the database") from error
    except UnicodeEncodeError as error:
        raise DataStoreError(f"no UTF-8 text: {error.reason}") from error
    except psycopg.Error as error:
        raise classify(error) from error

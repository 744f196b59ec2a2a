"""The errors ingestd raises on purpose; an adapter translates its library's errors into these, once."""

from datetime import UTC, datetime


class IngestdError(Exception):
    """An error that is shown to the operator in one line."""


class ConfigError(IngestdError):
    """The settings are wrong; the message names the setting and the reason."""


class BrokerError(IngestdError):
    """The MQTT broker cannot be reached, refuses us, or breaks the protocol."""


class BrokerRefusedError(BrokerError):
    """The broker refuses us (credentials, access list). An operator has to act."""


class MessageTooLargeError(BrokerError):
    """The broker takes no message of this size: to send it again does not help."""


class WebhookError(IngestdError):
    """The webhook does not take alerts."""


class ArchiveError(IngestdError):
    """A day cannot be archived, or the archive cannot be read; or pyarrow is missing."""


class StoreError(IngestdError):
    """The database did not execute a statement. The subclass says what to do."""


class TransientStoreError(StoreError):
    """Repeat the same statement: connection, resources, locks, serialization, and every unknown error."""

    def __init__(self, message: str, *, known: bool = True) -> None:
        super().__init__(message)
        self.known = known


class ReplicaError(TransientStoreError):
    """The replica for reading did not answer. Readings are taken in without it."""


class ReplicaConflictError(ReplicaError):
    """The replica ended a query, because what it has to replay removes what the query reads."""


class WorkerAwayError(TransientStoreError):
    """A worker of Citus does not answer. Rows of its devices can be neither read nor stored; those of others can."""


class DataStoreError(StoreError):
    """The database will never take a row (SQLSTATE classes 22 and 23). Find it, and keep it as a dead letter."""


class NoPartitionError(DataStoreError):
    """The rows of one day cannot be stored: somebody has detached its partition."""

    def __init__(self, message: str, *, history: str, day: int) -> None:
        """`history` names the table; `day` counts from 2000-01-01."""
        super().__init__(message)
        self.history = history
        self.day = day


class OperatorStoreError(StoreError):
    """Permissions, a missing table or database. An operator has to act."""


class EmptySegmentError(IngestdError):
    """A mapping would end before or at its beginning."""


class StillReportsError(IngestdError):
    """A device that is to be forgotten has reported within its offline limit."""

    def __init__(self, stream: str, device_id: str, *, heard_at: datetime) -> None:
        super().__init__(f"{stream} {device_id} still reports: it was last heard at {heard_at.astimezone(UTC):%FT%TZ}")


class BufferFullError(IngestdError):
    """The buffer is full. The sender keeps its readings, and sends them again later."""


class TooManyReadingsError(IngestdError):
    """The answer would need more readings than one answer may read."""

"""The errors ingestd raises on purpose; an adapter translates its library's errors into these, once."""


class IngestdError(Exception):
    """Anything ingestd can say in one line to whoever runs it."""


class ConfigError(IngestdError):
    """The settings are wrong; the message names the setting and the reason."""


class BrokerError(IngestdError):
    """The MQTT broker cannot be reached, refuses us, or breaks the protocol."""


class BrokerRefusedError(BrokerError):
    """The broker answers, and says no (credentials, access list): an operator has to act."""


class MessageTooLargeError(BrokerError):
    """The broker takes no message of this size: to send it again does not help."""


class WebhookError(IngestdError):
    """The web server that is to be told of alerts does not take them."""


class StoreError(IngestdError):
    """The database did not do what was asked; the subclass says what to do about it."""


class TransientStoreError(StoreError):
    """Worth repeating as it is: connection, resources, locks, serialization, and all that is unknown."""

    def __init__(self, message: str, *, known: bool = True) -> None:
        super().__init__(message)
        self.known = known


class DataStoreError(StoreError):
    """A row the database will never take (SQLSTATE classes 22 and 23): find it and set it aside."""


class NoPartitionError(DataStoreError):
    """The rows of one day have no place to go: somebody has taken its partition out of the history."""

    def __init__(self, message: str, *, history: str, day: int) -> None:
        """`history` names the table; `day` counts from 2000-01-01."""
        super().__init__(message)
        self.history = history
        self.day = day


class OperatorStoreError(StoreError):
    """Permissions, a missing table or database: nothing helps until an operator acts."""


class EmptySegmentError(IngestdError):
    """A mapping would end before it begins, or as it begins."""


class BufferFullError(IngestdError):
    """No room for another delivery now; the sender keeps it and tries again."""


class TooManyReadingsError(IngestdError):
    """What is asked for would have to be made of more readings than an answer may take."""

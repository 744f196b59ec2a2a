"""The errors of benchmarks."""

from ingestd.errors import IngestdError


class BenchError(IngestdError):
    """A run did not do what it should, so its figures mean nothing."""

"""Ingests the telemetry of smart meters and electric vehicles; acknowledges only what is committed."""

__version__ = "0.1.0"

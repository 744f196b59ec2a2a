"""Streams, readings, energy, alerts: pure functions and data, without input or output."""

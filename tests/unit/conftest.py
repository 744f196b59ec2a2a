"""Unit tests: no server, no file outside a temporary directory, no waiting."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A busy machine must not fail a test: neither for one slow example nor for slow generation.
settings.register_profile("unit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")

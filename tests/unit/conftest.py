"""Unit tests: no server, no file outside a temporary directory, no waiting."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# A busy machine must not fail a test: neither for one slow example nor for slow generation.
settings.register_profile("unit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_logged() -> Iterator[None]:
    """Thousands of examples a second would log more than they test."""
    before = structlog.get_config()
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    # Without the cache: a logger that is first used here must not stay silent for other tests.
    structlog.configure(wrapper_class=silent, cache_logger_on_first_use=False)
    yield
    structlog.configure(**before)

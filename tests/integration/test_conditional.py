# ruff: noqa: SIM300 - expected == actual
"""A client that has an answer already is spared it (RFC 9110 §13)."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from ingestd.demo.servers import PrivateMosquitto
from tests.support.api import Names, map_vehicle
from tests.support.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def daemon(shared_database_url: str) -> Iterator[Daemon]:
    with PrivateMosquitto() as broker, Daemon(mqtt_url=broker.url, database_url=shared_database_url) as daemon:
        daemon.wait_healthy()
        yield daemon


def test_an_answer_is_sent_again_when_it_has_changed_and_not_before(daemon: Daemon) -> None:
    names = Names()
    path = f"/v1/analytics/mappings/{names.vehicle}"
    map_vehicle(daemon, names.vehicle, names.meter)
    first = daemon.request("GET", path)
    known = {"If-None-Match": first.headers["etag"]}

    unchanged = daemon.request("GET", path, headers=known)
    assert (304, b"", first.headers["etag"]) == (unchanged.status, unchanged.body, unchanged.headers["etag"])
    assert "private, no-cache" == first.headers["cache-control"] == unchanged.headers["cache-control"]

    daemon.request("DELETE", path)
    changed = daemon.request("GET", path, headers=known)
    assert (200, None) == (changed.status, changed.json()["meterId"])


@pytest.mark.parametrize("tag", ['W/"{}"', '"other", "{}"', "*"])
def test_a_tag_is_known_in_each_way_that_it_is_told(daemon: Daemon, tag: str) -> None:
    etag = daemon.request("GET", "/openapi.json").headers["etag"].removeprefix("W/").strip('"')

    assert 304 == daemon.request("GET", "/openapi.json", headers={"If-None-Match": tag.format(etag)}).status
    assert 200 == daemon.request("GET", "/openapi.json", headers={"If-None-Match": '"other"'}).status


def test_problems_and_changes_have_no_tag(daemon: Daemon) -> None:
    names = Names()

    answers = [daemon.request("GET", "/v1/vehicles?limit=0"), map_vehicle(daemon, names.vehicle, names.meter)]

    assert [(400, False), (201, False)] == [(answer.status, "etag" in answer.headers) for answer in answers]


def test_the_fleet_is_shared_and_has_a_tag_too(daemon: Daemon) -> None:
    path = "/v1/analytics/fleet?startTime=2026-11-20T00:00:00Z&endTime=2026-11-21T00:00:00Z"
    first = daemon.request("GET", path)

    again = daemon.request("GET", path, headers={"If-None-Match": first.headers["etag"]})

    assert (304, True) == (again.status, "age" in again.headers)


@pytest.mark.parametrize("path", ["/metrics", "/openapi.json", "/asyncapi.json"])
def test_large_texts_are_compressed_for_those_who_take_that(daemon: Daemon, path: str) -> None:
    plain = daemon.request("GET", path)
    compressed = daemon.request("GET", path, headers={"Accept-Encoding": "gzip"})

    assert ("gzip", "Accept-Encoding") == (compressed.headers["content-encoding"], compressed.headers["vary"])
    assert "content-encoding" not in plain.headers
    assert len(compressed.body) < len(plain.body) / 3
    assert gzip.decompress(compressed.body)[:20] == plain.body[:20]

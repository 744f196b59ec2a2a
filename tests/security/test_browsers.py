# ruff: noqa: SIM300 - expected == actual
"""What web pages of others try with an API on the loopback address, and that it fails."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from ingestd.demo.servers import PrivateMosquitto
from tests.support.api import MAPPINGS, Names, answer_on, assert_problem, connected
from tests.support.daemon import Daemon
from tests.support.readings import meter_message

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.daemon import Response

TELEMETRY = "/v1/telemetry"
OPS = "https://ops.example.org"
EVIL = "https://evil.example"
CROSS_SITE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "empty"}
FOREIGN = {
    "origin": {"Origin": EVIL},
    "origin of a sandbox": {"Origin": "null"},
    "another port of this host": {"Origin": "http://127.0.0.1:3000"},
    "a name that begins like ours": {"Origin": "http://127.0.0.1.evil.example"},
    "cross-site": CROSS_SITE,
    "same-site": {"Sec-Fetch-Site": "same-site"},
    "both": {"Origin": EVIL, **CROSS_SITE},
    "a form that is sent": {"Origin": EVIL, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
}
SAFE = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}


@pytest.fixture(scope="module")
def broker() -> Iterator[PrivateMosquitto]:
    with PrivateMosquitto() as server:
        yield server


@pytest.fixture(scope="module")
def daemon(broker: PrivateMosquitto, shared_database_url: str) -> Iterator[Daemon]:
    """With no setting of HTTP but its port."""
    with Daemon(mqtt_url=broker.url, database_url=shared_database_url, flush_interval=0.2) as daemon:
        daemon.wait_healthy()
        yield daemon


@pytest.fixture(scope="module")
def public(broker: PrivateMosquitto, shared_database_url: str) -> Iterator[Daemon]:
    """Known by a name, with a page of another origin that may use it."""
    with Daemon(
        mqtt_url=broker.url,
        database_url=shared_database_url,
        mqtt_client_id="public",
        http_hosts="meters.example.org, other.example.org",
        http_origins=OPS,
    ) as daemon:
        daemon.wait_healthy()
        yield daemon


@pytest.fixture
def names() -> Names:
    return Names()


def own_host(daemon: Daemon) -> str:
    return daemon.url.removeprefix("http://")


def change_mapping(daemon: Daemon, names: Names, **headers: str) -> Response:
    change = {"vehicleId": names.vehicle, "meterId": names.meter}
    return daemon.request("POST", MAPPINGS, body=change, headers={k.replace("_", "-"): v for k, v in headers.items()})


def assert_not_mapped(daemon: Daemon, names: Names) -> None:
    assert 404 == daemon.request("GET", f"{MAPPINGS}/{names.vehicle}").status


# Host

FOREIGN_HOSTS = [
    *("evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "meters.example.org"),
    *("10.0.0.7", "[::2]:80", "", "127.0.0.1:8080:80", "localhost@evil.example", "user:x@localhost", "localhost/"),
]


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
@pytest.mark.parametrize("path", ["/v1/vehicles", "/livez", "/nowhere"])
def test_a_name_that_was_rebound_to_the_loopback_address_reads_nothing(daemon: Daemon, host: str, path: str) -> None:
    answer = daemon.request("GET", path, headers={"Host": host})

    assert "INGESTD_HTTP_HOSTS" in assert_problem(answer, 421)


def test_a_name_that_was_rebound_changes_nothing(daemon: Daemon, names: Names) -> None:
    host = f"evil.example:{own_host(daemon).partition(':')[2]}"

    answer = change_mapping(daemon, names, Host=host, Origin=f"http://{host}", Sec_Fetch_Site="same-origin")

    assert_problem(answer, 421)
    assert_not_mapped(daemon, names)


def test_a_request_without_a_host_is_421(daemon: Daemon) -> None:
    with connected(daemon) as client:
        client.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        answer = answer_on(client)

    assert_problem(answer, 421)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:80", "127.9.9.9", "[::1]:80"])
def test_the_names_of_the_loopback_address_are_taken(daemon: Daemon, host: str) -> None:
    assert 200 == daemon.request("GET", "/livez", headers={"Host": host}).status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("meters.example.org", 200),
        ("Other.Example.org:443", 200),
        ("localhost", 200),
        ("evil.example", 421),
        ("10.0.0.7", 421),
    ],
)
def test_the_names_of_the_setting_are_taken_too(public: Daemon, host: str, status: int) -> None:
    assert status == public.request("GET", "/livez", headers={"Host": host}).status


# Content-Type

SIMPLE = ["text/plain", "text/plain; charset=UTF-8", "application/x-www-form-urlencoded", "multipart/form-data", ""]
"""What a page may send to any server without asking first."""
TRICKS = ["text/plain; application/json", "application/json, text/plain", "text/plain,application/json", "json"]


@pytest.mark.parametrize("content_type", [*SIMPLE, *TRICKS])
def test_a_mapping_in_plain_text_is_415_and_changes_nothing(daemon: Daemon, names: Names, content_type: str) -> None:
    answer = change_mapping(daemon, names, Content_Type=content_type)

    assert "application/json" in assert_problem(answer, 415)
    assert "application/json" == answer.headers["accept"]
    assert_not_mapped(daemon, names)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", TELEMETRY),
        ("POST", MAPPINGS),
        ("POST", "/v1/dead-letters/replay"),
        ("PUT", f"{MAPPINGS}/EV-1"),
        ("PUT", "/v1/devices/vehicle/EV-1/settings"),
    ],
)
def test_every_body_needs_its_type(daemon: Daemon, method: str, path: str) -> None:
    with connected(daemon) as client:
        client.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        answer = answer_on(client)

    assert_problem(answer, 415)


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_is_taken(daemon: Daemon, names: Names, content_type: str) -> None:
    assert 201 == change_mapping(daemon, names, Content_Type=content_type).status


# Pages of other origins


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_page_of_another_site_changes_nothing(daemon: Daemon, names: Names, headers: Mapping[str, str]) -> None:
    assert_problem(change_mapping(daemon, names, **headers), 403)
    assert_not_mapped(daemon, names)

    body = meter_message(names.meter, datetime.now(UTC) - timedelta(minutes=1))[1]
    assert_problem(daemon.request("POST", TELEMETRY, body=body, headers=headers), 403)
    assert 404 == daemon.request("GET", f"/v1/analytics/meter/{names.meter}/live").status
    assert_problem(daemon.request("POST", "/v1/dead-letters/1/replay", headers=headers), 403)


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN.keys())
@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS"])
def test_nor_by_any_other_method(daemon: Daemon, names: Names, method: str, headers: Mapping[str, str]) -> None:
    change_mapping(daemon, names)

    asked = {**headers, "Access-Control-Request-Method": "DELETE"} if method == "OPTIONS" else headers
    answer = daemon.request(method, f"{MAPPINGS}/{names.vehicle}", body={"meterId": "m-evil"}, headers=asked)

    assert_problem(answer, 403)
    assert "access-control-allow-origin" not in answer.headers
    assert names.meter == daemon.request("GET", f"{MAPPINGS}/{names.vehicle}").json()["meterId"]


@pytest.mark.parametrize("dest", ["empty", "script", "image", "iframe", "object", "embed"])
@pytest.mark.parametrize("path", ["/v1/vehicles", "/v1/export/meters.csv", "/metrics", "/"])
def test_a_page_of_another_site_embeds_nothing(daemon: Daemon, path: str, dest: str) -> None:
    mode = "navigate" if dest in {"iframe", "object", "embed"} else "no-cors"
    embedded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}

    assert_problem(daemon.request("GET", path, headers=embedded), 403)


def test_a_link_on_another_site_may_be_followed(daemon: Daemon) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}

    assert 200 == daemon.request("GET", "/", headers=link).status


def test_a_page_of_this_server_may_do_all(daemon: Daemon, names: Names) -> None:
    own = {"Origin": daemon.url, "Sec_Fetch_Site": "same-origin"}

    assert 201 == change_mapping(daemon, names, **own).status


def test_behind_a_proxy_with_tls_the_page_is_still_of_this_server(public: Daemon, names: Names) -> None:
    own = {"Origin": "https://meters.example.org", "Host": "meters.example.org", "Sec_Fetch_Site": "same-origin"}

    assert 201 == change_mapping(public, names, **own).status


# CORS


def test_no_answer_lets_another_origin_read_it(daemon: Daemon) -> None:
    for headers in ({}, {"Origin": daemon.url}, {"Origin": EVIL}):
        answer = daemon.request("GET", "/livez", headers=headers)
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_an_origin_of_the_setting_may_read_and_write(public: Daemon, names: Names) -> None:
    page = {"Origin": OPS, "Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "cors"}
    asked = {"Origin": OPS, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-type"}

    preflight = public.request("OPTIONS", MAPPINGS, headers=asked)
    written = change_mapping(public, names, **page)
    refused = public.request("GET", f"{MAPPINGS}/{names.meter}", headers={"Origin": OPS})

    assert [204, 201, 404] == [preflight.status, written.status, refused.status]
    for answer in (preflight, written, refused):
        assert OPS == answer.headers["access-control-allow-origin"]
        assert "Origin" == answer.headers["vary"]
        assert "access-control-allow-credentials" not in answer.headers
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    assert "Content-Type" in preflight.headers["access-control-allow-headers"]


def test_an_origin_of_the_setting_reads_live_values_and_goes_on_where_it_was(public: Daemon) -> None:
    asked = {"Origin": OPS, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "last-event-id"}

    preflight = public.request("OPTIONS", "/v1/stream", headers=asked)
    stream = public.request("HEAD", "/v1/stream", headers={"Origin": OPS, "Last-Event-ID": "1"})

    assert "Last-Event-ID" in preflight.headers["access-control-allow-headers"]
    assert (200, OPS) == (stream.status, stream.headers["access-control-allow-origin"])


@pytest.mark.parametrize("origin", [EVIL, "null", "http://ops.example.org", f"{OPS}.evil.example", f"{OPS}:8443"])
def test_any_other_origin_may_not(public: Daemon, names: Names, origin: str) -> None:
    answer = change_mapping(public, names, Origin=origin)

    assert_problem(answer, 403)
    assert "access-control-allow-origin" not in answer.headers


# Headers


@pytest.mark.parametrize("path", ["/", "/livez", "/health", "/metrics", "/v1/vehicles", "/nowhere", "/v1/vehicles?x=1"])
def test_every_answer_tells_the_browser_to_be_careful(daemon: Daemon, path: str) -> None:
    answer = daemon.request("GET", path)

    assert SAFE == {name: answer.headers.get(name) for name in SAFE}


def test_also_an_answer_that_no_route_gives(daemon: Daemon) -> None:
    with connected(daemon) as client:
        client.sendall(b"no HTTP\r\n\r\n")
        answer = answer_on(client)

    assert SAFE == {name: answer.headers.get(name) for name in SAFE}

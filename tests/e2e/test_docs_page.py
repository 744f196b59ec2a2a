# ruff: noqa: SIM300 - expected == actual
"""The page of the HTTP API in a real browser. Each test leaves screenshots in tests-output/."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from ingestd.demo.servers import PrivateMosquitto
from tests.support.browser import IS_MISSING, MISSING, PHONE, WIDE, Browser
from tests.support.daemon import Daemon
from tests.support.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(IS_MISSING, reason=MISSING)

HTML: Final = {"Accept": "text/html"}
NAME: Final = {"name": "vehicleId", "in": "path", "required": True, "schema": {"type": "string", "maxLength": 64}}
READING: Final = {
    "anyOf": [
        {"title": f"{kind} message", "type": "object", "properties": {f"{kind}Id": {"type": "string"}}}
        for kind in ("meter", "vehicle")
    ]
}
LIST: Final = {"type": "array", "items": READING, "maxItems": 10}
DOCUMENT: Final[dict[str, Any]] = {
    "openapi": "3.1.0",
    "info": {"title": "Example", "version": "7", "description": "One paragraph with `code`.\n\n- a list\n- of two"},
    "security": [{"token": ["read"]}],
    "paths": {
        "/v1/vehicles": {
            "get": {
                "x-scope": "read",
                "tags": ["Devices"],
                "summary": "All vehicles",
                "parameters": [
                    {"$ref": "#/components/parameters/limit"},
                    {
                        "name": "sort",
                        "in": "query",
                        "schema": {"anyOf": [{"enum": ["id", "lastSeen"], "type": "string"}, {"type": "null"}]},
                    },
                ],
                "responses": {
                    "200": {
                        "description": "A page of them",
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Vehicles"}}},
                    },
                    "400": {"$ref": "#/components/responses/Problem"},
                },
            }
        },
        "/v1/mappings/{vehicleId}": {
            "parameters": [NAME],
            "put": {
                "tags": ["Mappings"],
                "x-scope": "admin",
                "summary": "Set a mapping",
                "security": [{"token": ["admin"]}],
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["meterId"],
                                "properties": {
                                    "meterId": {"type": "string", "description": "the meter"},
                                    "validTo": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
                                },
                            },
                            "examples": {"one": {"value": {"meterId": "meter-1"}}},
                        }
                    }
                },
                "responses": {"200": {"description": "Set"}, "409": {"description": "It would overlap others"}},
            },
        },
        "/v1/telemetry": {
            "post": {
                "x-scope": "ingest",
                "security": [],
                "tags": ["Devices"],
                "requestBody": {"content": {"application/json": {"schema": {"anyOf": [READING, LIST]}}}},
                "responses": {"201": {"description": "Stored"}, "304": {"description": "Not Modified"}},
            }
        },
        "/livez": {"get": {"x-scope": "open", "security": [], "responses": {"200": {"description": "It answers"}}}},
    },
    "components": {
        "parameters": {
            "limit": {
                "name": "limit",
                "in": "query",
                "description": "how many",
                "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
            }
        },
        "responses": {
            "Problem": {
                "description": "Something is wrong",
                "content": {"application/problem+json": {"schema": {"type": "object", "additionalProperties": {}}}},
            }
        },
        "schemas": {
            "Vehicles": {
                "type": "object",
                "required": ["vehicles"],
                "properties": {
                    "vehicles": {"type": "array", "items": {"$ref": "#/components/schemas/Vehicle"}},
                    "next": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                },
            },
            "Vehicle": {
                "type": "object",
                "properties": {
                    "vehicleId": {"type": "string"},
                    "soc": {"type": ["number", "null"], "exclusiveMinimum": 0},
                    "status": {"enum": ["online", "offline"]},
                    "kind": {"const": "car"},
                    "energy": {"type": "object", "additionalProperties": {"type": "number"}},
                    "trailer": {"oneOf": [{"$ref": "#/components/schemas/Vehicle"}, {"type": "boolean"}]},
                },
            },
        },
    },
}
"""With all that documents of ours have."""


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return Tokens(tmp_path_factory.mktemp("tokens") / "tokens")


@pytest.fixture(scope="module")
def daemon(shared_database_url: str) -> Iterator[Daemon]:
    with (
        PrivateMosquitto() as broker,
        Daemon(mqtt_url=broker.url, database_url=shared_database_url, mqtt_client_id="ingestd-docs") as daemon,
    ):
        daemon.wait_healthy()
        yield daemon


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser, daemon: Daemon) -> Iterator[Browser]:
    """Its pages get DOCUMENT. It has complained about nothing and asked no other server when the test is over."""
    chromium.emulate(*WIDE)
    chromium.complaints()
    chromium.requests()
    name = chromium.answer_with("/openapi.json", DOCUMENT)
    yield chromium
    chromium.undo(name)
    assert [] == chromium.complaints()
    assert [] == [url for url in chromium.requests() if not url.startswith((f"{daemon.url}/", "about:", "data:"))]
    chromium.open("about:blank")


def all_opened(browser: Browser, daemon: Daemon, *, at_least: int = 4) -> None:
    browser.open(f"{daemon.url}/docs")
    browser.some(".operation", at_least=at_least)
    browser.run("for (const one of document.querySelectorAll('details.operation')) one.open = true;")
    browser.some(".operation .part", at_least=at_least)
    browser.run("for (const one of document.querySelectorAll('details')) one.open = true;")


def test_the_real_document_is_shown_whole(chromium: Browser, daemon: Daemon) -> None:
    paths = daemon.request("GET", "/openapi.json").json()["paths"]
    told = {f"{method.upper()} {path}" for path, item in paths.items() for method in item}
    chromium.complaints()
    chromium.requests()
    all_opened(chromium, daemon, at_least=len(told))

    shown = chromium.texts(".operation > summary")
    assert told == {" ".join(text.split()[:2]) for text in shown}
    assert len(told) == len(shown)
    for said in ("undefined", "[object", "NaN"):
        assert said not in chromium.run("return document.body.innerText")
    assert all(chromium.texts(".operation .part", at_least=len(told)))
    chromium.emulate(*PHONE, dark=True)
    assert 390 == chromium.run("return document.documentElement.scrollWidth")
    chromium.run("for (const one of document.querySelectorAll('details')) one.open = false;")
    chromium.picture("docs-phone-dark")
    chromium.emulate(*WIDE)
    chromium.picture("docs")
    assert [] == chromium.complaints()
    assert [] == [url for url in chromium.requests() if not url.startswith((f"{daemon.url}/", "about:", "data:"))]


def text_of(browser: Browser, identity: str) -> str:
    """What an operation shows, in one line."""
    return " ".join(browser.texts(f"#{identity}")[0].split())


def test_each_operation_is_shown_with_all_that_is_said_of_it(browser: Browser, daemon: Daemon) -> None:
    all_opened(browser, daemon)

    assert [
        "GET /v1/vehicles All vehicles",
        "POST /v1/telemetry",
        "PUT /v1/mappings/{vehicleId} Set a mapping",
        "GET /livez",
    ] == [" ".join(text.split()) for text in browser.texts(".operation > summary")]
    assert ["Devices", "Mappings", "Operations"] == browser.texts("section > h2")
    vehicles = text_of(browser, "get-v1-vehicles")
    for said in (
        "Needs a token with the scope read",
        "limit integer in the query, at least 1, at most 1000, 100 if missing how many",
        'sort "id" or "lastSeen" or null in the query',
        "200 A page of them application/json: object",
        "vehicles array of object, required",
        "soc number or null, more than 0",
        'status "online" or "offline"',
        'kind "car"',
        "trailer object or boolean",
        "400 Something is wrong application/problem+json: object",
        '"vehicles": [ { "vehicleId": "…"',
    ):
        assert said in vehicles, said
    mapping = text_of(browser, "put-v1-mappings-vehicleId")
    for said in (
        "with the scope admin",
        "vehicleId string in the path, required, at most 64 characters",
        "meterId string, required the meter",
        "validTo string or null, date-time",
        "409 It would overlap others",
        f"curl -X PUT '{daemon.url}/v1/mappings/{{vehicleId}}'",
        '-d \'{"meterId":"meter-1"}\'',
    ):
        assert said in mapping, said
    telemetry = text_of(browser, "post-v1-telemetry")
    body = "meter message or vehicle message or array of meter message or vehicle message"
    assert f"{body} meter message: meterId string vehicle message: vehicleId string Example" in telemetry
    assert "For the scope ingest; no tokens are used here." in telemetry
    assert "Open: no token is needed." in text_of(browser, "get-livez")
    browser.picture("docs-example")


def test_the_page_fits_a_phone_in_the_dark(browser: Browser, daemon: Daemon) -> None:
    browser.emulate(*PHONE, dark=True)
    all_opened(browser, daemon)

    assert 390 == browser.run("return document.documentElement.scrollWidth")
    color = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", color)[:3])) < 80
    browser.picture("docs-example-phone-dark")


def test_operations_are_found_by_words(browser: Browser, daemon: Daemon) -> None:
    browser.open(f"{daemon.url}/docs")
    browser.one("input[name=find]").send_keys("put map")
    browser.wait_for_text("1 of 4 operations")

    assert ["put-v1-mappings-vehicleId"] == [
        one.get_attribute("id") for one in browser.all(".operation") if one.is_displayed()
    ]
    assert ["Mappings"] == [one.text for one in browser.all("section > h2") if one.is_displayed()]


def test_an_address_leads_to_an_operation(browser: Browser, daemon: Daemon) -> None:
    browser.open(f"{daemon.url}/docs#get-livez")
    browser.wait_for_text("Open: no token is needed.")

    assert ["get-livez"] == [one.get_attribute("id") for one in browser.all(".operation[open]")]


def test_a_request_is_tried_and_its_answer_shown(browser: Browser, daemon: Daemon) -> None:
    all_opened(browser, daemon)
    browser.run(
        "const form = document.querySelector('#get-v1-vehicles form');"
        "form.elements.limit.value = '7'; form.elements.sort.value = 'lastSeen'; form.requestSubmit();"
    )
    browser.wait_for_text("GET /v1/vehicles?limit=7&sort=lastSeen")
    browser.wait_for_text('"next": null')

    assert "200 OK, application/json" in text_of(browser, "get-v1-vehicles")


def test_a_page_of_a_document_that_is_not_there_says_so(chromium: Browser, daemon: Daemon) -> None:
    name = chromium.answer_with("/openapi.json", {})
    chromium.open(f"{daemon.url}/docs")

    assert chromium.one("[role=alert]").is_displayed()
    chromium.undo(name)
    chromium.complaints()


def test_every_control_has_a_name(browser: Browser, daemon: Daemon) -> None:
    all_opened(browser, daemon)

    assert 0 == browser.run(
        "return [...document.querySelectorAll('input, select, button, a, summary')]"
        ".filter(one => !(one.textContent.trim() || one.ariaLabel || one.labels?.length)).length"
    )


def test_the_page_is_open_and_tries_requests_with_the_login_of_the_browser(
    chromium: Browser, tokens: Tokens, shared_database_url: str
) -> None:
    name = chromium.answer_with("/openapi.json", DOCUMENT)
    with (
        PrivateMosquitto() as broker,
        Daemon(
            mqtt_url=broker.url,
            database_url=shared_database_url,
            mqtt_client_id="ingestd-docs-tokens",
            tokens_file=str(tokens.path),
        ) as daemon,
    ):
        daemon.wait_healthy()
        page = daemon.request("GET", "/docs", headers=HTML)
        send(chromium, daemon)
        chromium.wait_for_text("401 Unauthorized")
        chromium.click("#get-v1-vehicles [role=status] a")
        chromium.one("#token").send_keys(tokens.of["read"])
        chromium.click("form button")
        chromium.wait_for_text("Fleet, last 24 hours")
        send(chromium, daemon)
        chromium.wait_for_text('"next": null')
        chromium.open("about:blank")
    chromium.undo(name)

    assert (200, "text/html; charset=utf-8") == (page.status, page.headers["content-type"])
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert "'unsafe" not in page.headers["content-security-policy"]


def send(browser: Browser, daemon: Daemon) -> None:
    all_opened(browser, daemon)
    browser.run("document.querySelector('#get-v1-vehicles form').requestSubmit()")

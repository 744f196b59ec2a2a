# ruff: noqa: SIM300 - expected == actual
"""The page in a real browser, of a real daemon with a fleet. Each test leaves screenshots in tests-output/."""

from __future__ import annotations

import gzip
import json
import re
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from selenium.webdriver.common.keys import Keys

from ingestd.demo.fleet import Fleet
from ingestd.demo.servers import PrivateMosquitto
from ingestd.http.event_streams import EventStreamLimits
from tests.support.api import map_vehicle
from tests.support.browser import IS_MISSING, MISSING, PHONE, WIDE, Browser
from tests.support.daemon import Daemon
from tests.support.event_streams import EventReader
from tests.support.polling import until
from tests.support.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.daemon import Response

pytestmark = pytest.mark.skipif(IS_MISSING, reason=MISSING)

DEVICES = 12
HOUR = timedelta(hours=1)
HTML = {"Accept": "text/html"}
VIEWS = {
    "fleet": "The worst ten",
    "vehicles": "EV-0001",
    "meters": "meter-0001",
    "vehicle/EV-0001": "Charging sessions",
    "meter/meter-0001": "Energy by day",
    "alerts?state=all": "battery at 56.5",
    "dead-letters": "vehicles/EV-0001/telemetry",
    "health": "healthy",
}
"""And a text that each of them shows."""


@pytest.fixture(scope="module")
def daemon(shared_database_url: str) -> Iterator[Daemon]:
    """With a fleet that has been there for more than a day, an alert that is over, and a dead letter."""
    with (
        PrivateMosquitto() as broker,
        Daemon(mqtt_url=broker.url, database_url=shared_database_url, mqtt_client_id="ingestd-page") as daemon,
    ):
        daemon.wait_healthy()
        now = datetime.now(UTC).replace(microsecond=0)
        fleet = Fleet(meters=DEVICES, vehicles=DEVICES, seed=1, one_is_bad=True)
        for vehicle, charger in zip(fleet.vehicles, fleet.chargers, strict=True):
            map_vehicle(daemon, vehicle.vehicle_id, charger.meter_id, now - timedelta(hours=26))
        past = [
            json.loads(body)
            for _, body in fleet.past(
                until=now - timedelta(minutes=5), span=timedelta(hours=25), interval=timedelta(minutes=5)
            )
        ]
        for begin in range(0, len(past), 5000):
            assert 201 == daemon.request("POST", "/v1/telemetry", body=past[begin : begin + 5000]).status
        charge(daemon, now)
        with psycopg.connect(shared_database_url) as database:
            database.execute(
                "INSERT INTO alert (kind, subject, state, since, raised_at, cleared_at, value, bound, detail) VALUES"
                " ('battery-over-temperature', 'EV-0001', 'cleared', now(), now(), now(), 56.5, 60, 'battery at 56.5')"
            )
        daemon.request("POST", "/v1/telemetry", body=[{"vehicleId": "EV-0001", "soc": 101}])  # becomes a dead letter
        until(lambda: judged(daemon) == DEVICES, within=120)
        yield daemon


def charge(daemon: Daemon, now: datetime) -> None:
    """EV-0003 charges now."""
    at = [(now - timedelta(seconds=seconds)).isoformat() for seconds in (200, 100, 0)]
    vehicle = [
        {"vehicleId": "EV-0003", "soc": 41, "kwhDeliveredDc": 1.0, "batteryTemp": 30, "timestamp": one} for one in at
    ]
    meter = [{"meterId": "meter-0003", "kwhConsumedAc": 1.1, "voltage": 230, "timestamp": one} for one in at]
    assert 201 == daemon.request("POST", "/v1/telemetry", body=vehicle + meter).status


def judged(daemon: Daemon) -> int:
    """How many vehicles have a ratio: until the ledger is made, they have none."""
    vehicles = daemon.request("GET", "/v1/vehicles").json()["vehicles"]
    return sum(vehicle["efficiencyRatio"] is not None for vehicle in vehicles)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return Tokens(tmp_path_factory.mktemp("tokens") / "tokens")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser, daemon: Daemon) -> Iterator[Browser]:
    """It has complained about nothing and asked no other server when the test is over."""
    chromium.emulate(*WIDE)
    chromium.complaints()
    chromium.requests()
    yield chromium
    assert [] == chromium.complaints()
    assert [] == [
        url for url in chromium.requests() if not url.startswith((f"{daemon.url}/", "about:", "data:", "blob:"))
    ]
    chromium.open("about:blank")


def view(browser: Browser, daemon: Daemon, name: str) -> None:
    browser.open(f"{daemon.url}/#/{name}")
    browser.wait_for_text(VIEWS[re.sub("-000[0-9]", "-0001", name)])
    until(lambda: "Loading" not in browser.run("return document.body.innerText"), within=20)


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_has_a_link_and_shows_what_there_is(browser: Browser, daemon: Daemon, name: str) -> None:
    view(browser, daemon, name)

    assert browser.texts("h1")[0]
    assert 1 == len(browser.all("nav a[aria-current]"))
    assert not browser.one("#notice").is_displayed()
    browser.picture(f"wide-{re.sub('[/?=]', '-', name)}")


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_fits_a_phone_in_the_dark(browser: Browser, daemon: Daemon, name: str) -> None:
    browser.emulate(*PHONE, dark=True)
    view(browser, daemon, name)

    assert 390 == browser.run("return document.documentElement.scrollWidth")
    red, green, blue = map(
        int, re.findall(r"\d+", browser.run("return getComputedStyle(document.body).backgroundColor"))[:3]
    )
    assert max(red, green, blue) < 80
    browser.picture(f"phone-dark-{re.sub('[/?=]', '-', name)}")


def test_the_fleet_has_tiles_bars_and_the_worst_ten(browser: Browser, daemon: Daemon) -> None:
    view(browser, daemon, "fleet")

    assert 10 == len(browser.some(".tile", at_least=10))
    assert len(browser.some("svg .bar")) >= 24
    assert 10 == len(browser.all("section[aria-label='The worst ten'] tbody tr"))
    assert "EV-0001" == browser.texts("section[aria-label='The worst ten'] tbody a")[0]
    until(lambda: "…" not in browser.texts(".tile")[1], within=20)  # a rate needs two looks
    browser.picture("wide-fleet")


def test_the_fleet_shows_who_charges_now(browser: Browser, daemon: Daemon) -> None:
    view(browser, daemon, "fleet")
    rows = browser.texts("section[aria-label='Sessions under way'] tbody tr")

    (row,) = [one for one in rows if one.startswith("EV-0003")]
    assert "36.0\xa0kW" in row
    browser.run(
        "[...document.querySelectorAll(\"section[aria-label='Sessions under way'] a\")]"
        ".find(one => one.textContent === 'EV-0003').click()"
    )
    browser.wait_for_text("Vehicle EV-0003")
    browser.wait_for_text("under way")


def test_the_first_row_of_a_table_is_there_soon(browser: Browser, daemon: Daemon) -> None:
    browser.note_first("tbody tr")
    for name in ("vehicles", "fleet"):
        view(browser, daemon, name)
        milliseconds = browser.time_of_first("tbody tr")

        print(f"{name}: the first row is there {milliseconds:.0f} ms after loading began")  # noqa: T201
        assert milliseconds > 0  # a busy machine takes longer: the contract of 1 s is looked at, not asserted


def test_devices_are_searched_and_filtered(browser: Browser, daemon: Daemon) -> None:
    browser.open(f"{daemon.url}/#/vehicles?search=0007")
    browser.wait_for_text("EV-0007")
    assert ["EV-0007"] == browser.texts("tbody a")

    browser.open(f"{daemon.url}/#/vehicles?show=below")
    browser.wait_for_text("EV-0001")
    assert ["EV-0001"] == browser.texts("tbody a")


def test_dead_letters_are_filtered_and_shown(browser: Browser, daemon: Daemon) -> None:
    browser.open(f"{daemon.url}/#/dead-letters?reason=too-large")
    browser.wait_for_text("There are no such dead letters.")
    browser.open(f"{daemon.url}/#/dead-letters?reason=schema&hours=1&device=EV-0001")
    browser.click("tbody summary")

    browser.wait_for_text('"soc":101')


def test_a_dead_letter_is_replayed_and_what_became_of_it_is_said(
    browser: Browser, daemon: Daemon, shared_database_url: str
) -> None:
    reading = {"meterId": "meter-again", "kwhConsumedAc": 1, "voltage": 230, "timestamp": datetime.now(UTC).isoformat()}
    for payload in (json.dumps(reading), "nonsense"):
        with psycopg.connect(shared_database_url) as database:
            database.execute(
                "INSERT INTO dead_letter (received_at, source, stream, topic, payload, reason, detail) VALUES"
                " (now(), 'mqtt', 'meter', 'meters/meter-again/telemetry', %s, 'database', 'refused for a while')",
                (payload.encode(),),
            )
    browser.open(f"{daemon.url}/#/dead-letters?device=meter-again")
    browser.some("tbody button", at_least=2)

    browser.click("tbody tr:last-child button")
    browser.wait_for_text("1 stored.")
    until(lambda: len(browser.all("tbody button")) == 1, within=20)
    browser.click("#main p button")  # all of the filter
    browser.wait_for_text("1 refused again.")
    browser.wait_for_text("not-json: ")
    browser.picture("wide-replay")

    assert 200 == daemon.request("GET", "/v1/analytics/meter/meter-again/live").status


def test_a_long_list_has_pages(browser: Browser, daemon: Daemon) -> None:
    now = datetime.now(UTC).isoformat()
    many = [
        {"meterId": f"page-{number:03}", "kwhConsumedAc": 0.1, "voltage": 230, "timestamp": now}
        for number in range(130)
    ]
    assert 201 == daemon.request("POST", "/v1/telemetry", body=many).status
    browser.open(f"{daemon.url}/#/meters?search=page-&sort=id")
    browser.wait_for_text("page-129")  # a search shows all that it found
    browser.open(f"{daemon.url}/#/meters?sort=id")
    browser.wait_for_text("100 meters on page 1")
    first = set(browser.texts("tbody a"))
    browser.run("[...document.querySelectorAll('button')].find(one => one.textContent === 'Next page').click()")
    browser.wait_for_text("on page 2")
    browser.wait_for_text("page-129")

    assert set() == first & set(browser.texts("tbody a"))


def test_an_empty_system_says_what_to_do_and_a_broken_one_what_is_wrong(chromium: Browser, database_url: str) -> None:
    with (
        PrivateMosquitto() as broker,
        Daemon(mqtt_url=broker.url, database_url=database_url, mqtt_client_id="ingestd-page-empty") as daemon,
    ):
        daemon.wait_healthy()
        for name in ("fleet", "vehicles", "meters"):
            chromium.open(f"{daemon.url}/#/{name}")
            chromium.wait_for_text("Nothing has reported yet: publish")
        chromium.open(f"{daemon.url}/#/%E0%A4%A")
        chromium.wait_for_text("No view has the address #/%E0%A4%A.")
        chromium.open(f"{daemon.url}/#/fleet")
        chromium.wait_for_text("Nothing has reported yet: publish")
        chromium.picture("empty")

        assert [] == chromium.complaints()
        broker.stop()
        chromium.open(f"{daemon.url}/#/health")
        chromium.wait_for_text("broker connection lost")
        chromium.picture("wide-errors")
        chromium.complaints()  # /health is 503
        chromium.open("about:blank")


def test_those_below_the_threshold_come_first(browser: Browser, daemon: Daemon) -> None:
    view(browser, daemon, "vehicles")

    assert "EV-0001" == browser.texts("tbody a", at_least=DEVICES)[0]


def test_a_vehicle_has_bars_lines_and_its_quality_in_words(browser: Browser, daemon: Daemon) -> None:
    view(browser, daemon, "vehicle/EV-0001")

    assert len(browser.some("section[aria-label='AC and DC energy'] .bar")) > 40
    assert len(browser.some("svg .line", at_least=3)) >= 3
    assert len(browser.all("svg .band")) >= 2  # charging sessions
    assert "below the threshold" in browser.texts("section[aria-label='Data quality']")[0]


def test_a_gap_is_a_gap(browser: Browser, daemon: Daemon) -> None:
    now = datetime.now(UTC)
    sent = [
        {
            "vehicleId": "EV-gap",
            "soc": 50 + minutes / 60,
            "kwhDeliveredDc": 0.1,
            "batteryTemp": 20,
            "timestamp": (now - timedelta(minutes=minutes)).isoformat(),
        }
        for minutes in (*range(0, 120, 5), *range(360, 480, 5))
    ]
    assert 201 == daemon.request("POST", "/v1/telemetry", body=sent).status
    assert 201 == map_vehicle(daemon, "EV-gap", "meter-gap", now).status
    browser.open(f"{daemon.url}/#/vehicle/EV-gap?hours=24")

    browser.some("section[aria-label='State of charge'] .line", at_least=2)
    assert 2 == len(browser.all("section[aria-label='State of charge'] .line"))
    assert "the longest" in browser.texts("section[aria-label='Data quality']")[0]
    browser.picture("wide-gap")


def test_spread_energy_is_hatched_and_explained(browser: Browser, daemon: Daemon) -> None:
    now = datetime.now(UTC)
    slow = [
        {"meterId": "meter-slow", "kwhConsumedAc": 4, "voltage": 230, "timestamp": (now - hours * HOUR).isoformat()}
        for hours in range(12)
    ]
    assert 201 == daemon.request("POST", "/v1/telemetry", body=slow).status
    browser.open(f"{daemon.url}/#/meter/meter-slow")

    browser.some("svg rect.spread", at_least=20)
    browser.wait_for_text("is spread evenly over its time")
    browser.picture("wide-spread")
    browser.click("section[aria-label='AC energy'] summary")
    assert any("(spread)" in row for row in browser.texts("section[aria-label='AC energy'] tbody tr"))

    view(browser, daemon, "meter/meter-0001")
    assert [] == browser.all("svg rect.spread")


def test_a_window_is_chosen_and_is_in_the_address(browser: Browser, daemon: Daemon) -> None:
    view(browser, daemon, "vehicle/EV-0001")
    browser.run(
        "const select = document.querySelector('select[name=hours]');"
        "select.value = '168'; select.dispatchEvent(new Event('change'));"
    )

    until(lambda: str(browser.run("return location.hash")) == "#/vehicle/EV-0001?hours=168")
    browser.wait_for_text("Charging sessions, the newest first")
    begin, end = (datetime.now(UTC) - timedelta(hours=hours) for hours in (12, 6))
    browser.open(f"{daemon.url}/#/vehicle/EV-0001?start={begin:%Y-%m-%dT%H:%M:00Z}&end={end:%Y-%m-%dT%H:%M:00Z}")
    browser.some("section[aria-label='State of charge'] .line")
    assert browser.one("input[name=start]").is_displayed()


def test_a_mapping_is_set_and_a_conflict_is_explained(browser: Browser, daemon: Daemon) -> None:
    view(browser, daemon, "vehicle/EV-0002")
    set_mapping(browser, "meter-of-page", "2026-01-01T08:00", "2026-01-01T10:00")
    browser.wait_for_text("Set: meter-of-page")
    set_mapping(browser, "meter-other", "2026-01-01T09:00", "2026-01-01T11:00")
    browser.wait_for_text("Nothing was changed")
    browser.picture("wide-conflict")

    history = "/v1/analytics/mappings/EV-0002"
    assert {"meter-0002", "meter-of-page"} == {
        one["meterId"] for one in daemon.request("GET", history).json()["history"]
    }
    assert any("409" in complaint for complaint in browser.complaints())  # the browser notes each answer of this kind

    browser.click(".problem button")
    browser.wait_for_text("Set: meter-other")
    assert "meter-other" in {one["meterId"] for one in daemon.request("GET", history).json()["history"]}


def set_mapping(browser: Browser, meter: str, begin: str, end: str) -> None:
    browser.run(
        "const form = document.querySelector('form[aria-label=\"Set a mapping\"]');"
        "[form.elements.meterId.value, form.elements.validFrom.value, form.elements.validTo.value] = arguments;"
        "form.requestSubmit();",
        meter,
        begin,
        end,
    )


def test_settings_are_saved(browser: Browser, daemon: Daemon) -> None:
    view(browser, daemon, "meter/meter-0001")
    browser.run(
        "const form = document.querySelector('form[aria-label=\"Settings\"]');"
        "form.elements.offlineAfter.value = '2h'; form.requestSubmit();"
    )
    browser.wait_for_text("Saved.")

    assert "2h" == daemon.request("GET", "/v1/devices/meter/meter-0001/settings").json()["offlineAfter"]

    save(browser, "-1")
    browser.wait_for_text("Nothing was saved.")
    assert "Saved." not in browser.texts("section[aria-label='Settings of this meter']")[0]
    browser.run("document.querySelector('input[name=maxKw]').dispatchEvent(new Event('input', {bubbles: true}))")
    assert "" == browser.texts("section[aria-label='Settings of this meter'] [role=status]")[0]
    save(browser, "7")
    browser.wait_for_text("Saved.")
    browser.run("document.querySelector('input[name=offlineAfter]').value = ''")
    for _ in range(2):  # the second time there is nothing to delete
        save(browser, "")
        browser.wait_for_text("The same as for all other devices.")
    assert daemon.request("GET", "/v1/devices/meter/meter-0001/settings").json()["offlineAfter"] is None


def save(browser: Browser, max_kw: str) -> None:
    """Sends the form of a meter's settings with this power."""
    browser.run("document.querySelector('input[name=maxKw]').value = arguments[0]", max_kw)
    browser.click("form[aria-label='Settings'] button.main")


@pytest.mark.parametrize(("kind", "sections"), [("vehicle", 2), ("meter", 1)])
def test_a_device_that_never_reported_is_one_card(browser: Browser, daemon: Daemon, kind: str, sections: int) -> None:
    browser.open(f"{daemon.url}/#/{kind}/NOPE")
    browser.wait_for_text(f"No {kind} NOPE has ever reported")

    assert 1 == sum(one.is_displayed() for one in browser.all("section"))
    assert f"{kind}s/NOPE/telemetry" in browser.texts("section")[0]
    browser.picture(f"wide-unknown-{kind}")
    browser.click("section button")
    assert 1 + sections == sum(one.is_displayed() for one in browser.all("section"))
    browser.click("section a")
    browser.wait_for_text(f"{kind}-0001" if kind == "meter" else "EV-0001")
    browser.complaints()  # the 404s


def test_an_unknown_view_leads_to_the_fleet(browser: Browser, daemon: Daemon) -> None:
    browser.open(f"{daemon.url}/#/nothing")
    browser.wait_for_text("No view has the address #/nothing.")
    browser.click("#main a")

    browser.wait_for_text("Fleet, last 24 hours")


def test_the_fleet_asks_for_no_metrics_and_keeps_its_rate(browser: Browser, daemon: Daemon) -> None:
    view(browser, daemon, "fleet")
    until(lambda: "…" not in browser.texts(".tile")[1], within=20)
    browser.run("location.hash = '#/health'")
    browser.wait_for_text("healthy")
    browser.requests()
    browser.run("location.hash = '#/fleet'")
    browser.wait_for_text("Charging now")

    assert "…" not in browser.texts(".tile")[1]
    assert [] == [url for url in browser.requests() if url.endswith("/metrics")]


@pytest.mark.parametrize(("name", "voltage"), [("meter/meter-0002", 211.5), ("meters", 212.5)])
def test_a_new_value_shows_by_itself_and_without_a_question(
    browser: Browser, daemon: Daemon, name: str, voltage: float
) -> None:
    view(browser, daemon, name)
    until(lambda: any("/v1/stream?kind=meter&device=" in url for url in browser.requests()))
    browser.run(NO_MORE_QUESTIONS)
    send_voltage(daemon, voltage)

    browser.wait_for_text(str(voltage))


@pytest.mark.parametrize("name", ["vehicle/EV-0003", "vehicles"])
def test_a_new_value_of_a_vehicle_too(browser: Browser, daemon: Daemon, name: str) -> None:
    soc = 33.3 if name == "vehicles" else 44.4
    view(browser, daemon, name)
    browser.run(NO_MORE_QUESTIONS)
    now = datetime.now(UTC).isoformat()
    reading = {"vehicleId": "EV-0003", "kwhDeliveredDc": 0.0, "soc": soc, "batteryTemp": 20, "timestamp": now}
    assert 201 == daemon.request("POST", "/v1/telemetry", body=reading).status

    browser.wait_for_text(f"{soc}")


def test_where_the_stream_is_refused_the_page_asks(chromium: Browser, daemon: Daemon) -> None:
    """There are as many streams of this address as may be."""
    with ExitStack() as held:
        for _ in range(EventStreamLimits().of_client):
            held.enter_context(EventReader(daemon, "kind=meter&device=nobody"))
        view(chromium, daemon, "meter/meter-0003")
        until(lambda: any("503" in complaint for complaint in chromium.complaints()))
        send_voltage(daemon, 213.5, meter="meter-0003")

        chromium.wait_for_text("213.5")
    chromium.open("about:blank")
    chromium.complaints()


def test_after_a_restart_of_the_daemon_new_values_show_again(chromium: Browser, daemon: Daemon) -> None:
    view(chromium, daemon, "meter/meter-0004")
    until(lambda: daemon.metric("ingestd_http_event_streams") == 1)
    chromium.run(NO_MORE_QUESTIONS)
    assert 0 == daemon.terminate()
    daemon.start()
    daemon.wait_healthy()
    until(lambda: daemon.metric("ingestd_http_event_streams") == 1)
    send_voltage(daemon, 214.5, meter="meter-0004")

    chromium.wait_for_text("214.5")
    chromium.open("about:blank")
    chromium.complaints()  # that nobody listened for a moment


def test_a_tab_that_is_not_seen_has_no_stream(browser: Browser, daemon: Daemon) -> None:
    view(browser, daemon, "meters")
    until(lambda: daemon.metric("ingestd_http_event_streams") == 1)
    hide = "Object.defineProperty(document, 'hidden', {value: HIDDEN, configurable: true});"
    told = "document.dispatchEvent(new Event('visibilitychange'));"
    browser.run(hide.replace("HIDDEN", "true") + told)
    until(lambda: daemon.metric("ingestd_http_event_streams") == 0)
    browser.run(hide.replace("HIDDEN", "false") + told)

    until(lambda: daemon.metric("ingestd_http_event_streams") == 1)
    assert 1 == daemon.metric("ingestd_http_event_streams")


NO_MORE_QUESTIONS = "window.fetch = () => new Promise(() => {});"
"""So what the page shows from now on was told to it."""


def send_voltage(daemon: Daemon, voltage: float, *, meter: str = "meter-0002") -> None:
    now = datetime.now(UTC).isoformat()
    reading = {"meterId": meter, "kwhConsumedAc": 0.001, "voltage": voltage, "timestamp": now}
    assert 201 == daemon.request("POST", "/v1/telemetry", body=reading).status


def test_an_offline_device_is_shown_first_and_is_marked(
    browser: Browser, daemon: Daemon, shared_database_url: str
) -> None:
    with psycopg.connect(shared_database_url, autocommit=True) as database:
        database.execute(
            "INSERT INTO meter_live (meter_id, ts, received_at, voltage, kwh_consumed_ac)"
            " VALUES ('zz-silent', now() - interval '2 hours', now() - interval '2 hours', 230, 0.1)"
        )
        try:
            browser.open(f"{daemon.url}/#/meters")
            first, *others = browser.texts("tbody tr", at_least=DEVICES)
            browser.picture("wide-offline")
        finally:
            database.execute("DELETE FROM meter_live WHERE meter_id = 'zz-silent'")

    assert first.startswith("zz-silent\toffline\t2.0\xa0h ago")
    assert all("\tonline\t" in row for row in others)


FOCUS = """
    const one = document.activeElement;
    const style = getComputedStyle(one);
    const box = one.getBoundingClientRect();
    return {
      number: all().indexOf(one),
      seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 && box.width > 0
        && box.bottom > 0 && box.top < innerHeight,
      what: one.outerHTML.slice(0, 80),
    };
    function all() {
      return [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
        .filter((each) => !each.disabled && each.checkVisibility());
    }
"""
"""The element with the focus: its place among all that can have it, and whether one sees that it has it."""
COUNT = FOCUS.replace("return {", "return all().length; ({").replace("};\n    function", "});\n    function")


@pytest.mark.parametrize("name", VIEWS)
def test_the_tab_key_walks_through_each_view_in_order(browser: Browser, daemon: Daemon, name: str) -> None:
    view(browser, daemon, name)
    reached: list[dict[str, Any]] = []
    while True:
        browser.press(Keys.TAB)
        now = browser.run(FOCUS)
        if now["number"] == -1 or (reached and now["number"] < reached[-1]["number"]):  # behind the end of the page
            break
        if not reached or now["number"] != reached[-1]["number"]:  # a field for a time has a stop for each of its parts
            reached.append(now)

    assert len(reached) >= 9  # the link to the content, the name, six views, and something of the view itself
    assert list(range(len(reached))) == [one["number"] for one in reached]
    assert [] == [one["what"] for one in reached if not one["seen"]]
    assert len(reached) == int(browser.run(COUNT))


def test_enter_opens_what_has_the_focus(browser: Browser, daemon: Daemon) -> None:
    view(browser, daemon, "fleet")
    browser.press(Keys.TAB, Keys.ENTER)  # the link that skips to the content
    assert "main" == browser.run("return document.activeElement.id")
    browser.run("document.querySelector(\"nav a[href='#/dead-letters']\").focus()")
    browser.press(Keys.ENTER)
    browser.wait_for_text("vehicles/EV-0001/telemetry")
    assert "main" == browser.run("return document.activeElement.id")  # a screen reader begins to read here
    browser.run("document.querySelector('tbody summary').focus()")
    browser.press(Keys.ENTER)

    browser.some("tbody details[open]")


UNNAMED = """
    const named = (one) => (one.ariaLabel || one.textContent || one.labels?.[0]?.textContent || "").trim();
    const kinds = "a, button, input, select, summary, section, svg[role], [role=region]";
    const faults = [...document.querySelectorAll(kinds)].filter((one) => one.checkVisibility() && !named(one));
    faults.push(...[...document.querySelectorAll("svg:not([role])")]);
    faults.push(...[...document.querySelectorAll("table")].filter((one) => !one.caption?.textContent));
    faults.push(...[...document.querySelectorAll("th")].filter((one) => !one.scope));
    const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
    const levels = [...document.querySelectorAll("h1, h2, h3")].map((one) => Number(one.tagName[1]));
    return {
      faults: faults.map((one) => one.outerHTML.slice(0, 100)),
      twice: ids.filter((one, at) => ids.indexOf(one) !== at),
      headings: levels[0] === 1 && levels.filter((level) => level === 1).length === 1
        && levels.every((level, at) => at === 0 || level <= levels[at - 1] + 1),
      landmarks: ["header", "nav[aria-label]", "main", "footer"].map((one) => document.querySelectorAll(one).length),
      language: document.documentElement.lang,
    };
"""


@pytest.mark.parametrize("name", VIEWS)
def test_a_screen_reader_finds_names_headings_and_landmarks(browser: Browser, daemon: Daemon, name: str) -> None:
    view(browser, daemon, name)

    assert {"faults": [], "twice": [], "headings": True, "landmarks": [1] * 4, "language": "en"} == browser.run(UNNAMED)


def test_there_is_no_log_out_where_no_tokens_are_used(browser: Browser, daemon: Daemon) -> None:
    view(browser, daemon, "health")

    assert not browser.one("#logout").is_displayed()
    assert {"tokens": False}.items() <= daemon.request("GET", "/").json().items()


def test_the_keyboard_reaches_the_content_first(browser: Browser, daemon: Daemon) -> None:
    view(browser, daemon, "fleet")

    assert "Skip to the content" == browser.run("return document.querySelector('a').textContent")
    unnamed = (
        "return [...document.querySelectorAll('input, select, button, a')]"
        ".filter(one => !(one.textContent.trim() || one.ariaLabel || one.labels?.length)).length"
    )
    for name in VIEWS:
        view(browser, daemon, name)
        assert 0 == browser.run(unnamed), name


def test_files_are_sent_once_and_small(daemon: Daemon) -> None:
    page = daemon.request("GET", "/", headers=HTML)
    names = {"/", "/web/app.js", *re.findall(r'"(/web/[a-z_.]+)"', page.body.decode())}
    sizes: dict[str, tuple[int, int]] = {}
    while names:
        name = names.pop()
        plain, small = (fetched(daemon, name, encoding) for encoding in ("identity", "gzip"))
        assert plain.body == gzip.decompress(small.body)
        names |= {one for one in re.findall(r'from "(/web/[a-z_.]+)"', plain.body.decode()) if one not in sizes}
        sizes[name] = (len(plain.body), len(small.body))
        again = daemon.request("GET", name, headers={**HTML, "If-None-Match": plain.headers["etag"]})
        assert (304, b"") == (again.status, again.body)

    plain_size, small_size = (sum(size[i] for size in sizes.values()) for i in (0, 1))
    print(f"{len(sizes)} files, {plain_size} bytes, {small_size} gzipped")  # noqa: T201
    assert small_size < 50_000


def fetched(daemon: Daemon, name: str, encoding: str) -> Response:
    answer = daemon.request("GET", name, headers={**HTML, "Accept-Encoding": encoding})
    assert 200 == answer.status
    return answer


def test_programs_get_json_and_browsers_the_page(daemon: Daemon) -> None:
    page, program = daemon.request("GET", "/", headers=HTML), daemon.request("GET", "/")

    assert ("text/html; charset=utf-8", "application/json") == (
        page.headers["content-type"],
        program.headers["content-type"].partition(";")[0],
    )
    assert "Accept" in page.headers["vary"]
    assert "Accept" in program.headers["vary"]
    assert "'unsafe" not in page.headers["content-security-policy"]


@pytest.mark.parametrize("name", ["index.html", "login.html", "nothing.js", "..%2f__init__.py", "%2e%2e", "app.js%00"])
def test_no_other_file_is_sent(daemon: Daemon, name: str) -> None:
    assert 404 == daemon.request("GET", f"/web/{name}").status


def test_one_logs_in_with_a_token_and_out_again(chromium: Browser, tokens: Tokens, shared_database_url: str) -> None:
    with (
        PrivateMosquitto() as broker,
        Daemon(
            mqtt_url=broker.url,
            database_url=shared_database_url,
            mqtt_client_id="ingestd-page-tokens",
            tokens_file=str(tokens.path),
        ) as daemon,
    ):
        daemon.wait_healthy()
        chromium.open(f"{daemon.url}/#/health")
        chromium.one("#token")
        assert [] == [one for one in chromium.complaints() if "username fields" not in one]  # a token has no name
        chromium.one("#token").send_keys(tokens.of["read"])
        chromium.picture("login")
        chromium.click("form button")
        chromium.wait_for_text("Messages since the start")  # the view that was asked for
        chromium.open(f"{daemon.url}/#/dead-letters")
        chromium.wait_for_text("scope admin")
        until(lambda: chromium.one("#logout").is_displayed(), within=20)
        chromium.click("#logout")
        chromium.one("#token")
        chromium.open(f"{daemon.url}/")

        assert chromium.one("#token").is_displayed()


def test_a_login_that_ends_while_the_page_is_open_leads_to_the_login_and_back(
    chromium: Browser, tokens: Tokens, shared_database_url: str
) -> None:
    with (
        PrivateMosquitto() as broker,
        Daemon(
            mqtt_url=broker.url,
            database_url=shared_database_url,
            mqtt_client_id="ingestd-page-expiry",
            tokens_file=str(tokens.path),
        ) as daemon,
    ):
        daemon.wait_healthy()
        asked = f"{daemon.url}/#/alerts?state=past"
        chromium.open(asked)
        for _ in range(2):
            chromium.one("#token").send_keys(tokens.of["read"])
            chromium.click("form button")
            chromium.wait_for_text("Updated at")
            assert asked == chromium.run("return location.href")

            (cookie,) = chromium.driver.get_cookies()
            chromium.driver.delete_all_cookies()  # the browser forgets it, as it does when its time is over
            assert "ingestd" == cookie["name"]
            chromium.one("#token")
            assert f"{daemon.url}/login#/alerts?state=past" == chromium.run("return location.href")
        chromium.complaints()
        chromium.open("about:blank")


def test_the_register_of_a_device_is_shown(browser: Browser, daemon: Daemon, shared_database_url: str) -> None:
    with psycopg.connect(shared_database_url, autocommit=True) as database:
        database.execute(
            "INSERT INTO meter_live (meter_id, ts, received_at, voltage, kwh_consumed_ac_register)"
            " VALUES ('a-register', now(), now(), 230, 1234.5)"
        )
        try:
            browser.open(f"{daemon.url}/#/meter/a-register")
            browser.wait_for_text("Register of AC energy")
            browser.wait_for_text("1,234.5")
            view(browser, daemon, "meters")
            browser.wait_for_text("1,234.5")
        finally:
            database.execute("DELETE FROM meter_live WHERE meter_id = 'a-register'")
            browser.complaints()  # 404: it has no history


def test_on_a_phone_the_cells_of_a_row_stand_below_each_other(browser: Browser, daemon: Daemon) -> None:
    browser.emulate(*PHONE)
    view(browser, daemon, "vehicles")

    tops = browser.run(
        "return [...document.querySelector('tbody tr').children].map((cell) => cell.getBoundingClientRect().top)"
    )

    assert tops == sorted(set(tops))
    assert len(tops) > 3

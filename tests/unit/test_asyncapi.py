# ruff: noqa: SIM300 - expected == actual
"""The AsyncAPI document: its structure, what it says of each stream, and that it says what the pages say."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from jsonschema.validators import validator_for
from pydantic_core import to_json

from ingestd.model.alert import FLEET_KINDS, KINDS, Alert
from ingestd.model.asyncapi import REASONS, document
from ingestd.model.dead_letter import Reason
from ingestd.model.stream import STREAMS
from tests.support.asyncapi import NotToBeHadError, official_schema, references, resolved, schema_of_topic
from tests.support.documents import ROOT, blocks

if TYPE_CHECKING:
    from ingestd.model.stream import Stream

CONTRACT: Final = ROOT / "docs" / "contract.md"
ALERT: Final = Draft7Validator(
    document()["components"]["schemas"]["alert"], format_checker=Draft7Validator.FORMAT_CHECKER
)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: ANN401 - a validator
    try:
        schema = official_schema(tmp_path_factory.mktemp("asyncapi"))
    except NotToBeHadError as error:
        pytest.skip(f"no official schema of AsyncAPI: {error}")
    return validator_for(schema)(schema)


def test_the_document_is_valid_by_the_official_schema(official: Any) -> None:  # noqa: ANN401
    assert [] == [f"{[*error.absolute_path]}: {error.message}" for error in official.iter_errors(document())]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("asyncapi",), "2.6.0"),
        (("info",), {}),
        (("operations", "sendAlert", "action"), "publish"),
        (("operations", "sendAlert", "bindings", "mqtt", "qos"), 3),
        (("servers", "password", "host"), 8883),
        (("components", "securitySchemes", "password", "type"), "secret"),
        (("components", "schemas", "meter", "type"), "thing"),
        (("channels", "alerts", "topic"), "ingestd/alerts"),
    ],
)
def test_the_official_schema_refuses_what_is_wrong(official: Any, path: tuple[str, ...], value: object) -> None:  # noqa: ANN401
    wrong = deepcopy(document())
    inner = wrong
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value

    assert not official.is_valid(wrong)


def test_every_reference_leads_somewhere() -> None:
    found = document()

    assert [*references(found)]
    assert all(resolved(found, reference) is not None for reference in references(found))


def test_every_operation_is_of_a_channel_with_its_messages() -> None:
    found = document()
    for operation in found["operations"].values():
        channel = operation["channel"]["$ref"]
        assert resolved(found, channel)["address"]
        assert operation["messages"]
        assert all(one["$ref"].startswith(f"{channel}/messages/") for one in operation["messages"])
    assert len(found["channels"]) == len({one["channel"]["$ref"] for one in found["operations"].values()})


def test_addresses_have_the_parameters_that_are_described() -> None:
    for channel in document()["channels"].values():
        assert sorted(channel["parameters"]) == sorted(re.findall(r"\{(\w+)\}", channel["address"]))


def test_every_schema_is_one_and_the_examples_fit() -> None:
    found = document()
    for schema in found["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)
    for message in found["components"]["messages"].values():
        validator = Draft7Validator(resolved(found, message["payload"]["$ref"]))
        assert message["examples"]
        assert [] == [one for one in message["examples"] if not validator.is_valid(one["payload"])]


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_every_stream_is_received_with_qos_1(stream: Stream) -> None:
    found = document()
    operation = found["operations"][f"receive{stream.name.capitalize()}Telemetry"]

    assert ("receive", 1) == (operation["action"], operation["bindings"]["mqtt"]["qos"])
    assert (
        f"{stream.topic_root}/{{{stream.id_key}}}/telemetry" == resolved(found, operation["channel"]["$ref"])["address"]
    )
    assert stream.columns.keys() < schema_of_topic(found, stream.topic("x"))["properties"].keys()


def test_alerts_are_sent_retained_with_qos_1() -> None:
    found = document()
    binding = found["operations"]["sendAlert"]["bindings"]["mqtt"]

    assert ("send", 1, True) == (found["operations"]["sendAlert"]["action"], binding["qos"], binding["retain"])
    assert list(KINDS) == found["channels"]["alerts"]["parameters"]["kind"]["enum"]


def test_the_examples_are_those_of_the_contract() -> None:
    shown = [json.loads(line) for one in blocks(CONTRACT) if one.language == "jsonl" for line in one.text.splitlines()]
    messages = document()["components"]["messages"]

    assert shown == [one["payload"] for stream in STREAMS for one in messages[stream.name]["examples"]]


def test_the_reasons_of_dead_letters_are_those_of_the_contract() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", CONTRACT.read_text(encoding="utf-8"), re.MULTILINE))

    assert set(get_args(Reason)) == set(REASONS)
    assert REASONS == {reason: meaning.replace("`", "") for reason, meaning in rows.items()}
    assert all(meaning in document()["info"]["description"] for meaning in REASONS.values())


times = st.datetimes(timezones=st.timezones())
alerts = st.builds(
    Alert,
    id=st.integers(min_value=1),
    kind=st.sampled_from(KINDS),
    subject=st.from_regex(r"[A-Za-z0-9._:-]{1,64}", fullmatch=True),
    state=st.sampled_from(["active", "cleared"]),
    since=times,
    raised_at=times,
    over_since=st.none() | times,
    cleared_at=st.none() | times,
    value=st.floats(allow_nan=False, allow_infinity=False),
    bound=st.floats(allow_nan=False, allow_infinity=False),
    detail=st.text(max_size=100).filter(lambda text: text.isprintable()),
)


@given(alert=alerts)
def test_what_alerts_are_published_as_fits_their_schema(alert: Alert) -> None:
    published = json.loads(to_json(alert.described()))

    ALERT.validate(published)
    assert (published["deviceId"] is None) == (alert.kind in FLEET_KINDS)
    assert ALERT.schema == schema_of_topic(document(), alert.topic)


@pytest.mark.parametrize(
    "change",
    [{"kind": "bad-luck"}, {"state": "pending"}, {"id": None}, {"value": "61.5"}, {"since": None}, {"deviceId": 7}],
    ids=str,
)
def test_what_is_no_published_alert_does_not_fit(change: dict[str, object]) -> None:
    (example,) = document()["components"]["messages"]["alert"]["examples"]

    assert ALERT.is_valid(example["payload"])
    assert not ALERT.is_valid(example["payload"] | change)
    for key in example["payload"]:
        assert not ALERT.is_valid({name: value for name, value in example["payload"].items() if name != key})


def test_no_secret_and_no_address_of_a_system_is_in_it() -> None:
    text = json.dumps(document())

    assert ["{broker}:8883", "{broker}:8884", "127.0.0.1:1883"] == [
        server["host"] for server in document()["servers"].values()
    ]
    assert "mqtt://" not in text
    assert "ingestd-" not in text

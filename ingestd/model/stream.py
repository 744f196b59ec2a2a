"""The streams: each kind of device is one `Stream`, declared here."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, NotRequired, TypeAlias

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, with_config
from typing_extensions import TypedDict  # typing's own serves pydantic from Python 3.12 on

Row: TypeAlias = tuple[Any, ...]
"""One reading: (device id: str, timestamp: int, *figures in the stream's column order, received_at: int)."""


IDENTITY_RULE: Final = "1 to 64 of A-Z a-z 0-9 . _ : -"


IDENTITY: Final = r"[A-Za-z0-9._:-]{1,64}"


is_identity: Final = re.compile(IDENTITY).fullmatch


TIMESTAMP_RULE: Final = "an RFC 3339 timestamp with an offset, such as 2026-11-20T10:30:00Z"


# RFC 3339 §5.6 allows lower case; upper-cased by the validator so that `fromisoformat` takes it.
Timestamp: TypeAlias = Annotated[
    str,
    StringConstraints(
        strict=True,
        to_upper=True,
        # Hours and the offset are bounded here, as Python's releases differ on hour 24 and offset +00:60.
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]([01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
        r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$",
    ),
]


_Identity: TypeAlias = Annotated[str, Field(strict=True)]


def _number(low: float, high: float, unit: str) -> Any:  # noqa: ANN401 - a pydantic field description has no narrower type
    """A JSON number within [low, high]; no string, no boolean, nothing that is not finite."""
    return Field(strict=True, ge=low, le=high, allow_inf_nan=False, description=unit)


_KilowattHours: TypeAlias = Annotated[float, _number(0, 10_000, "kWh of the interval that ends at the timestamp")]


_Register: TypeAlias = Annotated[float, _number(0, 1_000_000_000, "kWh, cumulative")]


def _examples(*messages: dict[str, Any]) -> ConfigDict:
    """Messages that the schema shows."""
    return ConfigDict(json_schema_extra={"examples": list(messages)})


@with_config(
    _examples(
        {"meterId": "meter-001", "kwhConsumedAc": 0.42, "voltage": 231.5, "timestamp": "2026-11-20T10:30:00Z"},
        {
            "meterId": "meter-002",
            "kwhConsumedAcRegister": 12840.7,
            "voltage": 229.8,
            "timestamp": "2026-11-20T11:30:00+01:00",
        },
    )
)
class MeterPayload(TypedDict):
    """A meter's message: the energy of the interval ending at the timestamp, or its cumulative register."""

    meterId: NotRequired[_Identity]
    kwhConsumedAc: NotRequired[_KilowattHours]
    kwhConsumedAcRegister: NotRequired[_Register]
    voltage: Annotated[float, _number(0, 1000, "V")]
    timestamp: Timestamp


@with_config(
    _examples(
        {
            "vehicleId": "EV-101",
            "soc": 85.5,
            "kwhDeliveredDc": 0.38,
            "batteryTemp": 28.5,
            "timestamp": "2026-11-20T10:30:00Z",
        },
        {
            "vehicleId": "EV-102",
            "soc": 40,
            "kwhDeliveredDcRegister": 5213.25,
            "batteryTemp": 21,
            "timestamp": "2026-11-20T10:30:00Z",
        },
    )
)
class VehiclePayload(TypedDict):
    """A vehicle's message: the energy of the interval ending at the timestamp, or its cumulative register."""

    vehicleId: NotRequired[_Identity]
    soc: Annotated[float, _number(0, 100, "%")]
    kwhDeliveredDc: NotRequired[_KilowattHours]
    kwhDeliveredDcRegister: NotRequired[_Register]
    batteryTemp: Annotated[float, _number(-60, 150, "°C")]
    timestamp: Timestamp


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stream:
    """One kind of device: the topic of its messages, their fields, their tables."""

    name: str
    """Names the tables, and the stream in metrics, alerts and paths of the API."""
    topic_root: str
    id_key: str
    columns: dict[str, str]
    """JSON key -> column of the history and live tables, in COPY order; every one is double precision."""
    energy_key: str = ""
    """Energy of the interval, kWh. Exactly one of this and `register_key` is sent, the other is NULL in the row.

    Empty: its devices send no energy and have no ledger.
    """
    register_key: str = ""
    """Cumulative energy, kWh."""
    max_kw: float = 0.0
    """The maximum power of a device, unless it is set."""
    averaged_key: str = ""
    """The figure that answers show as a mean over time. It is in every reading. Empty: there is none."""
    optional: frozenset[str] = frozenset()
    """Keys of figures that may be left out, apart from those of energy. They are NULL in the row."""
    validate_json: Callable[[bytes], dict[str, Any]]
    """A payload in bytes -> its known members. Raises pydantic's ValidationError."""
    validate_object: Callable[[dict[str, Any]], dict[str, Any]]
    """The same for a payload that is parsed already."""
    payload_schema: Callable[[], dict[str, Any]]
    """The JSON Schema of a payload by itself, as pydantic writes it; see message_schema.py."""

    @property
    def title(self) -> str:
        """Its part in the names of the OpenAPI document."""
        return self.name.title().replace("-", "").replace("_", "")

    @property
    def topic_filter(self) -> str:
        return f"{self.topic_root}/+/telemetry"

    @property
    def id_column(self) -> str:
        return f"{self.name}_id"

    @property
    def history(self) -> str:
        return f"{self.name}_history"

    @property
    def live(self) -> str:
        return f"{self.name}_live"

    @property
    def row_columns(self) -> list[str]:
        """The columns of the history and live tables in the order of a Row."""
        return [self.id_column, "ts", *self.columns.values(), "received_at"]

    @property
    def copy_types(self) -> tuple[str, ...]:
        """PostgreSQL types of a Row's fields for binary COPY; there a bigint of microseconds is a timestamptz."""
        return ("text", "int8", *("float8" for _ in self.columns), "int8")

    def topic(self, identity: str) -> str:
        return f"{self.topic_root}/{identity}/telemetry"


_METER_PAYLOAD: Final = TypeAdapter(MeterPayload)
_VEHICLE_PAYLOAD: Final = TypeAdapter(VehiclePayload)

METER: Final = Stream(
    name="meter",
    topic_root="meters",
    id_key="meterId",
    columns={
        "kwhConsumedAc": "kwh_consumed_ac",
        "voltage": "voltage",
        "kwhConsumedAcRegister": "kwh_consumed_ac_register",
    },
    energy_key="kwhConsumedAc",
    register_key="kwhConsumedAcRegister",
    averaged_key="voltage",
    validate_json=_METER_PAYLOAD.validator.validate_json,
    validate_object=_METER_PAYLOAD.validator.validate_python,
    payload_schema=_METER_PAYLOAD.json_schema,
)


VEHICLE: Final = Stream(
    name="vehicle",
    topic_root="vehicles",
    id_key="vehicleId",
    columns={
        "soc": "soc",
        "kwhDeliveredDc": "kwh_delivered_dc",
        "batteryTemp": "battery_temp",
        "kwhDeliveredDcRegister": "kwh_delivered_dc_register",
    },
    energy_key="kwhDeliveredDc",
    register_key="kwhDeliveredDcRegister",
    averaged_key="batteryTemp",
    validate_json=_VEHICLE_PAYLOAD.validator.validate_json,
    validate_object=_VEHICLE_PAYLOAD.validator.validate_python,
    payload_schema=_VEHICLE_PAYLOAD.json_schema,
)


STREAMS: Final = (METER, VEHICLE)
"""All kinds of devices. Another one is declared above, is named here, and has its tables by one migration that calls
`ingestd_create_stream`."""
WITH_ENERGY: Final = tuple(stream for stream in STREAMS if stream.energy_key)
"""The streams with a ledger."""
CHARGING: Final = (METER, VEHICLE)
"""The two sides of a charge, for efficiency: AC from the grid, DC into the battery."""

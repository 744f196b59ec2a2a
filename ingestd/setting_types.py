"""The types of settings: durations, powers, hosts, URLs, lists, text that MQTT takes. Each says what is wrong."""

import re
from datetime import timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from ingestd.database_url import check_database_url

_UNIT_SECONDS: Final = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_match_duration: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|)\s*").fullmatch


def parse_duration(value: object) -> timedelta:
    """`90d`, `300s`, `1.5h`, `250ms`, or a plain number of seconds. Raises ValueError."""
    matched = _match_duration(str(value))
    if isinstance(value, bool) or matched is None:
        raise ValueError("a duration is a number and one of ms, s, m, h, d (seconds without one), such as 90d or 1.0")
    number, unit = matched.groups()
    try:
        return timedelta(seconds=float(number) * _UNIT_SECONDS[unit])
    except OverflowError as error:
        raise ValueError("too long a duration") from error


def format_duration(value: timedelta) -> str:
    """The shortest way to write it that `parse_duration` reads back."""
    seconds = value.total_seconds()
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNIT_SECONDS[unit] == 0:
            return f"{seconds / _UNIT_SECONDS[unit]:.0f}{unit}"
    return f"{seconds:f}".rstrip("0").rstrip(".") + "s"


Duration = Annotated[
    timedelta,
    BeforeValidator(lambda value: value if isinstance(value, timedelta) else parse_duration(value)),
]


Kilowatts = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]


def lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


POSITIVE: Final = Field(gt=timedelta(0))
_CENTURY: Final = timedelta(days=36_500)


def _within_a_century(value: timedelta) -> timedelta:
    """So that what lies as far back is still a date."""
    if value > _CENTURY:
        raise ValueError(f"must not be more than {format_duration(_CENTURY)}")
    return value


Kept = Annotated[Duration, AfterValidator(_within_a_century)]


_LONGEST_OF_MQTT: Final = 65_535
"""Bytes: MQTT writes a length in front of a string, in 16 bits (MQTT 5.0 §1.5.4)."""


_ENDS_OF_PLANES: Final = "".join(chr(plane << 16 | end) for plane in range(17) for end in (0xFFFE, 0xFFFF))
_disliked_by_mqtt: Final = re.compile(f"[\x01-\x1f\x7f-\x9f\ufdd0-\ufdef{_ENDS_OF_PLANES}]").search


def _no_control_character(value: str) -> str:
    """A broker may end the connection over one, without a word (MQTT 5.0 §1.5.4)."""
    if found := _disliked_by_mqtt(value):
        raise ValueError(f"must not contain U+{ord(found[0]):04X}: brokers refuse control and non-characters")
    return value


def fits_mqtt(value: str) -> str:
    if (size := len(value.encode())) > _LONGEST_OF_MQTT:
        raise ValueError(f"MQTT takes at most {_LONGEST_OF_MQTT} bytes, it is {size} long")
    return value


def no_wildcard(value: str) -> str:
    """It is a part of the topic of our own messages to us."""
    if "#" in value or "+" in value:
        raise ValueError("must not contain # or +, which are wildcards in topics")
    return value


MqttText = Annotated[str, AfterValidator(_no_control_character)]


def split(value: object) -> object:
    """`a, b` of the environment as a list, which a TOML file may also have."""
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


HostName = Annotated[str, Field(pattern=r"^([A-Za-z0-9._-]+|[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*)$")]
Origin = Annotated[str, Field(pattern=r"^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$")]


def _is_database_url(url: SecretStr) -> SecretStr:
    check_database_url(url.get_secret_value())
    return url


DatabaseUrl = Annotated[SecretStr, AfterValidator(_is_database_url)]

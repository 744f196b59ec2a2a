"""The settings: environment, `.env`, or a TOML file; `X_FILE` names a file that holds the value of X.

Unknown keys are errors, so that a misspelt setting is not silently its default.
"""

import os
import re
import ssl
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from ingestd import sources, tls
from ingestd.database_url import mask, without_passwords
from ingestd.errors import ConfigError
from ingestd.server_tls import ServerTls
from ingestd.setting_types import (
    POSITIVE,
    DatabaseUrl,
    Duration,
    HostName,
    Kept,
    Kilowatts,
    MqttText,
    Origin,
    fits_mqtt,
    format_duration,
    lower,
    no_wildcard,
    split,
)
from ingestd.sources import PREFIX

TOKEN_VARIABLE: Final = f"{PREFIX}TOKEN"
"""No setting: the token that `ingestd status` shows to the daemon."""
_match_web_url: Final = re.compile(
    r"https?://([^\s/?#@]+@)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?#]\S*)?"
).fullmatch
_has_surrogate: Final = re.compile("[\ud800-\udfff]").search


class Settings(BaseModel):
    """Everything that can be set; field names in capitals behind INGESTD_ are the environment's names.

    The text under each field is its meaning in docs/settings.md, which `make docs` writes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)

    mqtt_url: str = "mqtt://127.0.0.1:1883"
    """The address of the broker; `mqtts://` for TLS."""
    mqtt_client_id: Annotated[MqttText, Field(min_length=1, max_length=256), AfterValidator(no_wildcard)] = "ingestd"
    """The client id, which names the session that the broker keeps. Without `#` and `+`. If you change it, the session
    of the old client id collects messages in the broker until it expires."""
    mqtt_username: Annotated[MqttText, AfterValidator(fits_mqtt)] | None = None
    """The account of ingestd at the broker."""
    mqtt_password: SecretStr | None = None
    """The password of that account."""
    mqtt_ca_file: Path | None = None
    """The certificate of the authority that signed the broker's certificate; if not given, the authorities that the
    system trusts. With `mqtts://` only. The file is read again at each connection."""
    mqtt_cert_file: Path | None = None
    """A certificate that ingestd shows to the broker. With `mqtts://` only. The file is read again at each
    connection."""
    mqtt_key_file: Path | None = None
    """The key of that certificate. It must not be encrypted."""
    mqtt_shared_group: Annotated[MqttText, Field(max_length=256, pattern=r"^[^/+#]+$")] | None = None
    """The name of a shared subscription: several daemons with the same client id share the messages. Without `/`, `+`
    and `#`. See [many daemons](scaling.md#many-daemons)."""
    mqtt_sessions: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many sessions, `<client id>-1` and so on, the daemons of a shared group hold between them. More than 1 needs
    `INGESTD_MQTT_SHARED_GROUP`. After lowering it, run `ingestd leave`."""
    mqtt_probe: bool = True
    """Whether ingestd sends a message to itself every 10 s, to check that the broker delivers."""
    mqtt_sys: bool = True
    """Whether ingestd subscribes to the broker's count of dropped messages (`$SYS`)."""
    database_url: DatabaseUrl = SecretStr("postgresql://ingestd@127.0.0.1:5432/ingestd")
    """The PostgreSQL database. A connection pooler between must be in session mode."""
    owner_database_url: DatabaseUrl | None = None
    """The same database for the role that owns the tables, such as `ingestd_owner`: it is used to migrate, and to drop
    what is past its retention. If not given, `INGESTD_DATABASE_URL` is."""
    read_database_url: DatabaseUrl | None = None
    """A replica of the database (streaming replication), which answers analytics, lists, exports and live values. If
    not given, `INGESTD_DATABASE_URL` does."""
    citus_shard_count: Annotated[int, Field(ge=1, le=64_000)] = 32
    """How many shards the tables of a kind of device get when they are distributed, if the database has the extension
    Citus: at least as many as all workers may ever have CPU cores."""
    http_host: str = "127.0.0.1"
    """The address that the HTTP API listens on."""
    http_port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    """The port that the HTTP API listens on; 0 is any free port."""
    http_cert_file: Path | None = None
    """The certificate of the HTTP API, for TLS 1.2 or newer, with those between it and the authority. Without it, the
    API is not encrypted. The file is read again on SIGHUP, and by `ingestd reload`."""
    http_key_file: Path | None = None
    """The key of that certificate. It must not be encrypted."""
    tokens_file: Path | None = None
    """The file of the tokens of the HTTP API, which `ingestd token` writes; only its owner may have access to it. With
    it, requests need a token. Without it, ingestd listens on loopback addresses only. The file is read again on
    SIGHUP, and by `ingestd reload`."""
    http_hosts: Annotated[tuple[HostName, ...], BeforeValidator(split)] | None = None
    """Further names, divided by commas, by which clients reach the API, such as `meters.example.org`. A request whose
    `Host` is another is answered with 421. `localhost`, loopback addresses, `INGESTD_HTTP_HOST` and the address that
    the connection came in at are always taken."""
    http_origins: Annotated[tuple[Origin, ...], BeforeValidator(split)] | None = None
    """Origins, divided by commas, whose pages may use the API in a browser (CORS), such as `https://ops.example.org`.
    Pages of all other sites are refused."""
    flush_interval: Annotated[Duration, POSITIVE] = timedelta(seconds=1)
    """A transaction begins at the latest this long after a message arrived, and earlier when 32,000 messages wait."""
    buffer_max_messages: Annotated[int, Field(ge=1)] = 100_000
    """When ingestd holds this many messages, it stops reading from the broker until half of them are stored."""
    max_devices: Annotated[int, Field(ge=1)] = 100_000
    """How many devices there may be, of all kinds together. While so many have reported and were not forgotten, a
    reading of any other device becomes a dead letter (`unknown-device`)."""
    max_age: Annotated[Duration, POSITIVE] = timedelta(days=90)
    """How far in the past a timestamp may lie. An older reading becomes a dead letter."""
    max_skew: Annotated[Duration, Field(ge=timedelta(0))] = timedelta(seconds=300)
    """How far in the future a timestamp may lie. A newer reading becomes a dead letter."""
    efficiency_threshold: Annotated[float, Field(gt=0, le=1)] = 0.85
    """A vehicle with a lower ratio of DC to AC is `below-threshold`, unless it has a `threshold` of its own."""
    efficiency_min_kwh: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.5
    """How much AC (kWh) must be compared. With less there is no ratio."""
    efficiency_min_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Which share of all energy must be compared. With less there is no ratio."""
    max_gap: Annotated[Duration, Field(ge=timedelta(minutes=30), le=timedelta(days=1))] = timedelta(hours=1)
    """If the previous reading is older than this, the interval of a reading is unknown. After a change the energy of
    all readings is counted again."""
    vehicle_max_kw: Kilowatts = 400
    """The most power (kW) that a vehicle can have, unless it has a `maxKw` of its own. What is above that counts no
    energy. After a change the energy of all readings is counted again."""
    meter_max_kw: Kilowatts = 2000
    """The same for a meter."""
    session_min_kw: Kilowatts = 0.3
    """A charging session has at least this much power (kW) on average."""
    session_pause: Annotated[Duration, Field(ge=timedelta(0), le=timedelta(days=1))] = timedelta(minutes=15)
    """A pause up to this long belongs to the charging session; a longer pause ends it."""
    offline_after: Annotated[Duration, Field(gt=timedelta(0), lt=timedelta(days=7))] = timedelta(minutes=10)
    """A device that has sent nothing for this long is offline, and silent for the alerts, unless it has an
    `offlineAfter` of its own."""
    alert_min_duration: Annotated[Duration, Field(ge=timedelta(seconds=1))] = timedelta(minutes=5)
    """How long a condition must hold before its alert is raised, and be over before the alert is cleared."""
    alert_battery_temp: Annotated[float, Field(ge=-60, le=150)] = 60
    """A battery that is hotter than this (°C) raises an alert."""
    alert_webhook_url: SecretStr | None = None
    """Where alerts are posted, besides the broker. It is never shown, as it may hold a secret."""
    dead_letter_retention: Annotated[Kept, POSITIVE] = timedelta(days=90)
    """How long dead letters are kept; 36500d at most."""
    dead_letter_max_per_device: Annotated[int, Field(ge=0)] = 100
    """How many dead letters of one device are stored in an hour. What is beyond is counted in
    `ingestd_dead_letters_suppressed_total`, and not stored."""
    dead_letter_max_bytes: Annotated[int, Field(ge=0)] = 2**30
    """How many bytes all dead letters together may take in the database. What is beyond is counted, and not stored."""
    retention: Kept | None = None
    """How long history is kept: a day that ended longer ago is dropped. At least `INGESTD_MAX_AGE`, 36500d at most. If
    not given, history is kept for ever."""
    archive_dir: Path | None = None
    """A directory where each day of history goes as Parquet before it is dropped, and where exports look for it. It
    must be there. Needs `pip install 'ingestd[parquet]'`. If not given, what is past `INGESTD_RETENTION` is gone."""
    rollup_retention: Kept | None = None
    """How long the ledger is kept, by whole months. At least `INGESTD_RETENTION`, which must be given too, 36500d at
    most. If not given, the ledger is kept for ever."""
    log_format: Annotated[Literal["console", "json"] | None, BeforeValidator(lower)] = None
    """If not given: `console` where stderr is a terminal, else `json`."""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(lower)] = "info"
    """Messages of a lower level are not logged."""

    @field_validator("*", mode="before")
    @classmethod
    def _is_text(cls, value: object) -> object:
        """Neither MQTT nor PostgreSQL takes anything else."""
        if isinstance(value, str) and "\0" in value:
            raise ValueError(sources.NUL)
        if isinstance(value, str) and _has_surrogate(value):  # how Python hands on bytes that are no UTF-8
            raise ValueError("must be UTF-8 text")
        return value

    @field_validator("mqtt_password")
    @classmethod
    def _password_fits_mqtt(cls, password: SecretStr | None) -> SecretStr | None:
        if password is not None:
            fits_mqtt(password.get_secret_value())
        return password

    @field_validator("mqtt_sessions")
    @classmethod
    def _sessions_of_group(cls, sessions: int, info: ValidationInfo) -> int:
        if sessions > 1 and info.data.get("mqtt_shared_group") is None:
            raise ValueError(f"several sessions share the messages: set {PREFIX}MQTT_SHARED_GROUP too")
        return sessions

    @field_validator("mqtt_url")
    @classmethod
    def _broker_url(cls, url: str) -> str:
        if "@" in url:  # asked first: an unescaped password may look like a port or a path
            raise ValueError("put the credentials into INGESTD_MQTT_USERNAME and INGESTD_MQTT_PASSWORD")
        parts = urlsplit(url)
        if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname:
            raise ValueError("must look like mqtt://host:1883 or mqtts://host:8883")
        _ = parts.port  # raises ValueError where it is no port
        return url

    @field_validator("mqtt_ca_file", "mqtt_cert_file", "mqtt_key_file")
    @classmethod
    def _only_with_tls(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None and urlsplit(info.data.get("mqtt_url", "mqtts:")).scheme != "mqtts":
            raise ValueError(f"is for TLS, and {PREFIX}MQTT_URL does not begin with mqtts://")
        if info.field_name == "mqtt_key_file" and path is not None and info.data.get("mqtt_cert_file") is None:
            raise ValueError(f"is the key of a certificate: set {PREFIX}MQTT_CERT_FILE too")
        return path

    @field_validator("http_key_file")
    @classmethod
    def _key_of_certificate(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None and info.data.get("http_cert_file") is None:
            raise ValueError(f"is the key of a certificate: set {PREFIX}HTTP_CERT_FILE too")
        return path

    @field_validator("alert_webhook_url")
    @classmethod
    def _web_url(cls, url: SecretStr) -> SecretStr:
        if _match_web_url(url.get_secret_value()) is None:  # whose errors, unlike urlsplit's, show nothing of it
            raise ValueError("must look like https://host/path")
        return url

    @field_validator("retention", "rollup_retention")
    @classmethod
    def _outlasts_what_is_accepted(cls, kept: timedelta | None, info: ValidationInfo) -> timedelta | None:
        """A reading that is accepted must not belong to a day that is gone, nor go later than its rollup."""
        if info.field_name == "rollup_retention" and kept is not None and info.data.get("retention") is None:
            raise ValueError(f"rollups cannot go before the history they stand for: set {PREFIX}RETENTION too")
        for name in ("retention", "max_age"):
            least = info.data.get(name)  # not there where it is wrong itself
            if kept is not None and least is not None and kept < least:
                raise ValueError(f"must not be less than {PREFIX}{name.upper()}, which is {format_duration(least)}")
        return kept

    @property
    def session_ids(self) -> tuple[str, ...]:
        """The client ids of the sessions that this daemon and others of its client id hold."""
        if self.mqtt_shared_group is None:
            return (self.mqtt_client_id,)
        return tuple(f"{self.mqtt_client_id}-{number}" for number in range(1, self.mqtt_sessions + 1))

    @property
    def owner_dsn(self) -> str:
        """The database for the role that owns the tables."""
        return (self.owner_database_url or self.database_url).get_secret_value()

    @property
    def read_dsn(self) -> str:
        """The database that answers what need not be of this moment."""
        return (self.read_database_url or self.database_url).get_secret_value()

    def tls(self) -> ssl.SSLContext | None:
        """For an mqtts:// broker, from the files as they are now; raises ConfigError where one cannot be used."""
        if urlsplit(self.mqtt_url).scheme != "mqtts":
            return None
        return tls.context(ca=self.mqtt_ca_file, certificate=self.mqtt_cert_file, key=self.mqtt_key_file)

    def http_tls(self) -> ServerTls | None:
        """For the HTTP server, from the files as they are now; raises ConfigError where one cannot be used."""
        if self.http_cert_file is None:
            return None
        return ServerTls(certificate=self.http_cert_file, key=self.http_key_file)

    def described(self) -> dict[str, str]:
        """Environment name -> effective value, secrets masked, for people to read."""
        return {f"{PREFIX}{name}".upper(): _describe(getattr(self, name)) for name in type(self).model_fields}


def _describe(value: object) -> str:
    match value:
        case None:
            return ""
        case timedelta():
            return format_duration(value)
        case tuple():
            return ",".join(value)
        case SecretStr():
            return mask(value.get_secret_value())
        case _:
            return str(value)


def load(config_file: Path | None = None, *, environment: Mapping[str, str] | None = None) -> Settings:
    """The effective settings: the environment over `.env` over the TOML file over the defaults.

    TOML keys are the field names (`mqtt_url = "mqtt://…"`). Raises ConfigError, one line for each thing wrong.
    """
    given = os.environ if environment is None else environment
    injected = sources.injected(given)
    known = Settings.model_fields
    values = sources.toml(config_file) if config_file is not None else {}
    in_env_file = sources.env_file(_ENV_FILE)
    if config_file is not None:
        _refuse_readable(config_file, values)
    _refuse_readable(_ENV_FILE, {name.removeprefix(PREFIX).lower(): value for name, value in in_env_file.items()})
    values |= sources.settings(in_env_file, known=known, secret=_SECRETS)
    environment = {name: value for name, value in given.items() if name not in {*injected, TOKEN_VARIABLE}}
    values |= sources.settings(environment, known=known, secret=_SECRETS)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(problem) for problem in error.errors(include_url=False))) from error
    for side in ("mqtt", "http"):
        # Without a file of its own, the key is in that of the certificate.
        name = f"{side}_key_file" if getattr(settings, f"{side}_key_file") else f"{side}_cert_file"
        if (file := getattr(settings, name)) is not None and sources.holds_key(file):
            sources.refuse_readable(file, name=f"{PREFIX}{name}".upper())
    return settings


_SECRETS: Final = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
_ENV_FILE: Final = Path(".env")


def _refuse_readable(path: Path, written: Mapping[str, object]) -> None:
    """Raises ConfigError if everybody can read a file with a secret. The URL of a database may have no password."""
    for name in _SECRETS & written.keys():
        value = written[name]
        if isinstance(value, str) and value and mask(value) != value:
            sources.refuse_readable(path, name=str(path))


_LONGEST_SHOWN: Final = 100
"""Characters of a wrong value in an error."""


def _explain(problem: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    name = PREFIX + ".".join(map(str, problem["loc"])).upper()
    if problem["type"] == "extra_forbidden":
        return f"{name}: no such setting"
    message = problem["msg"].removeprefix("Value error, ")
    # The value of a secret must not reach a terminal or a log.
    if any(word in name for word in ("PASSWORD", "DATABASE_URL", "WEBHOOK_URL")):
        return f"{name}: {message}"
    given = problem["input"]
    shown = _shortened(without_passwords(given)) if isinstance(given, str) else given
    return f"{name}: {message} (is {shown!r})"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"

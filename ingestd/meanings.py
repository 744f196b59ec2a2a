"""What settings mean to the model and to the broker: one function for each object that is made of several settings."""

from datetime import timedelta
from typing import Final

from ingestd.config import Settings
from ingestd.model.efficiency import EfficiencyPolicy
from ingestd.model.register import Rule
from ingestd.model.sessions import SessionRule
from ingestd.model.stream import METER, VEHICLE, WITH_ENERGY, Stream
from ingestd.mqtt.extras import Extra

_MICROSECOND: Final = timedelta(microseconds=1)


def extras(settings: Settings) -> list[Extra]:
    chosen: dict[Extra, bool] = {"probe": settings.mqtt_probe, "$SYS": settings.mqtt_sys}
    return [extra for extra, wanted in chosen.items() if wanted]


def policy(settings: Settings) -> EfficiencyPolicy:
    return EfficiencyPolicy(
        threshold=settings.efficiency_threshold,
        min_kwh=settings.efficiency_min_kwh,
        min_share=settings.efficiency_min_share,
        session_min_kw=settings.session_min_kw,
    )


def session_rule(settings: Settings) -> SessionRule:
    return SessionRule(min_kw=settings.session_min_kw, pause=settings.session_pause // _MICROSECOND)


def energy_rules(settings: Settings) -> dict[Stream, Rule]:
    max_gap = settings.max_gap // _MICROSECOND
    of_setting: dict[Stream, float] = {METER: settings.meter_max_kw, VEHICLE: settings.vehicle_max_kw}
    return {stream: Rule(max_kw=of_setting.get(stream, stream.max_kw), max_gap=max_gap) for stream in WITH_ENERGY}

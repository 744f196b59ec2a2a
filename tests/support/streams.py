"""Readings of one device, as hypothesis makes them up: intervals, a register, or both, with bad values among them."""

from __future__ import annotations

from hypothesis import strategies as st

from ingestd.model.energy import HOUR, MINUTE, QUARTER, Reading

pauses = st.sampled_from(
    [MINUTE, MINUTE, MINUTE, 10 * MINUTE, QUARTER, 30 * MINUTE, 59 * MINUTE, HOUR, 61 * MINUTE, 125 * MINUTE, 15 * HOUR]
)
steps = st.sampled_from([0.0, 0.0, 0.1, 1.0, 5.0, 11.0])
bad_values = st.sampled_from([0.0, 0.1, 49.0, 260.0, 5000.0])


@st.composite
def streams(draw: st.DrawFn) -> list[Reading]:
    """One device that sends intervals, its register, or now this and now that, with bad values among them."""
    kinds = draw(st.sampled_from(["interval", "register", "both"]))
    time, value = 0, draw(st.sampled_from([0.0, 10.0, 500.0]))
    readings = []
    for _ in range(draw(st.integers(1, 16))):
        time += draw(pauses)
        if kinds == "interval" or (kinds == "both" and draw(st.booleans())):
            readings.append(Reading(time, kwh=draw(st.sampled_from([0.0, 0.0, 0.1, 2.75, 11.0, 999.0]))))
            continue
        if draw(st.integers(0, 9)) == 0:
            value = draw(bad_values)
        value = round(value + draw(steps), 6)
        readings.append(Reading(time, register=draw(bad_values) if draw(st.integers(0, 5)) == 0 else value))
    return readings

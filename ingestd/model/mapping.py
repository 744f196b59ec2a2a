"""Which meter feeds which vehicle."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ingestd.errors import IngestdError


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """A meter feeds a vehicle from valid_from up to but not including valid_to; None: until further notice."""

    vehicle_id: str
    meter_id: str
    valid_from: datetime
    valid_to: datetime | None

    def described(self) -> dict[str, object]:
        """The segment as the API and the audit show it; times are datetimes."""
        return {
            "vehicleId": self.vehicle_id,
            "meterId": self.meter_id,
            "validFrom": self.valid_from,
            "validTo": self.valid_to,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingSegment:
    """A meter feeds a vehicle in (start, end], in microseconds, cut to the time that is asked for."""

    vehicle: str
    meter: str
    start: int
    end: int

    def overlaps(self, start: int, end: int) -> bool:
        return self.start < end and start < self.end


class MappingConflictError(IngestdError):
    """A new mapping would overlap these segments of its vehicle."""

    def __init__(self, segments: Sequence[Mapping]) -> None:
        super().__init__(f"{len(segments)} segments are in the way")
        self.segments = segments

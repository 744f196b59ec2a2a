"""The open alerts of a kind for single devices, and how a look at the devices changes them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ingestd.model.alert import Alert, Change, Found, Watch, step
from ingestd.model.observations import summary


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAlerts:
    """At most `most` alerts are open. If more devices are concerned, one summary stands for the others.

    Until the summary is cleared, no new alerts are opened. Otherwise each cleared alert would make room for a new one,
    and after an outage of the fleet each device would have had an alert.
    """

    kind: str
    alerts: Mapping[str, Alert]
    """By device, pending or active."""
    summary: Alert | None
    most: int

    @property
    def limit(self) -> int:
        """How many devices are looked at one by one; those with an open alert come first."""
        return len(self.alerts) if self.summary else max(len(self.alerts), self.most)

    def changes(self, found: Found, watch: Watch) -> Sequence[Change]:
        """The changes after a look. The summary comes first, so that it is also delivered first."""
        looks = [
            (alert := self.alerts.get(device), step(alert, found.seen.get(device), watch))
            for device in {**self.alerts, **found.seen}
        ]
        devices = found.others + sum(after is not None and _concerns(after) for _, after in looks)
        both = [(self.summary, self._summary_after(devices, watch)), *looks]
        return [(before, after) for before, after in both if before != after]

    def _summary_after(self, devices: int, watch: Watch) -> Alert | None:
        seen = summary(self.kind, devices=devices, limit=self.most)
        after = step(self.summary, seen, watch)
        # A summary shows the newest number of devices; other alerts show the value at which they were raised.
        return replace(after, value=seen.value, bound=seen.bound, detail=seen.detail) if after else None


def _concerns(alert: Alert) -> bool:
    """Whether the condition of the alert still holds."""
    return alert.state != "cleared" and alert.over_since is None

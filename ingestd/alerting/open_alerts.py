"""The open alerts of a kind that concerns single devices, and what becomes of all of them after a look. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ingestd.model.alert import Alert, Change, Found, Watch, step, summary


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAlerts:
    """No more than `most` are open; where more devices are concerned, a summary stands for the others.

    Until the summary is cleared no new ones are opened. Otherwise each device that comes back would make room for
    another, and a fleet that comes back would have had an alert for each of its devices.
    """

    kind: str
    alerts: Mapping[str, Alert]
    """By device, pending or active."""
    summary: Alert | None
    most: int

    @property
    def limit(self) -> int:
        """So many devices are looked at one by one, those with an open alert first."""
        return len(self.alerts) if self.summary else max(len(self.alerts), self.most)

    def changes(self, found: Found, watch: Watch) -> Sequence[Change]:
        """The summary comes first, so that it is also the first to be delivered."""
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
        # Unlike others it shows the newest figure, as that is what it is for.
        return replace(after, value=seen.value, bound=seen.bound, detail=seen.detail) if after else None


def _concerns(alert: Alert) -> bool:
    """Whether its device is not on its way back."""
    return alert.state != "cleared" and alert.over_since is None

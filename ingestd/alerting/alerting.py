"""The watcher and its channels, which start and stop together."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta

from ingestd.alerting.channels import BrokerChannel, Channel, WebhookChannel
from ingestd.alerting.ports import AlertStore, Broker, Efficiencies, Webhook
from ingestd.alerting.watcher import Rules, Watcher
from ingestd.metrics import Metrics


class Alerting:
    """The alerts of one daemon, while it is the active one."""

    def __init__(
        self,
        *,
        rules: Rules,
        holder: str,
        store: AlertStore,
        efficiencies: Efficiencies,
        clock_difference: Callable[[], timedelta | None],
        broker: Broker,
        webhook: Webhook | None,
        dead_letters: Callable[[], Mapping[str, int]],
        metrics: Metrics,
    ) -> None:
        """`holder` tells this daemon from others on the same database. `webhook` is None where none is set."""
        interval = rules.interval
        self._channels: list[Channel] = [BrokerChannel(holder=holder, store=store, interval=interval, broker=broker)]
        if webhook is not None:
            self._channels.append(WebhookChannel(holder=holder, store=store, interval=interval, webhook=webhook))
        self._watcher = Watcher(
            rules=rules,
            holder=holder,
            store=store,
            efficiencies=efficiencies,
            clock_difference=clock_difference,
            broker=broker,
            dead_letters=dead_letters,
            metrics=metrics,
            channels=[channel.name for channel in self._channels],
        )

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watcher.run(), name="alert-watcher")
            for channel in self._channels:
                tasks.create_task(channel.run(), name=f"alert-{channel.name}")

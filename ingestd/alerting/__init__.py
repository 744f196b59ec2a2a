"""Raises and clears alerts, and delivers their changes. It never delays readings.

The Watcher looks every 15 s at live rows and counters, never at history, and at efficiencies when another hour is
closed. Of each kind a bounded number of alerts is open; where more devices are concerned, one summary stands for the
others. A change of state is written together with a row in the outbox of every Channel, which repeats until it is
delivered.
"""

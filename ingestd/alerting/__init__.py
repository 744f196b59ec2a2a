"""Raises and clears alerts by what has arrived, and tells of them; beside the way of the readings, never in it.

The Watcher looks every 15 s at live rows and counters, never at history, and at efficiencies when another hour is
closed. Of each kind a bounded number of alerts is open; beyond that a summary stands for all. A change of state is
written together with a row in the outbox of every Channel, which tries until it gets through.
"""

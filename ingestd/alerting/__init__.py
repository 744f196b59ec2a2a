"""Raises and clears alerts by what has arrived, and tells of them; beside the way of the readings, never in it.

The Watcher looks every 15 s, at efficiencies every 5 min: at live rows and counters, never at history. A change of
state is written together with a row in the outbox of every Channel, which tries until it gets through.
"""

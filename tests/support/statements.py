"""Which of the statements that `ingestd sql` prints the tests look at."""

from __future__ import annotations

from ingestd import statements

GOING = {"energy", "rollup", "totals", "series", "sessions", "analytics"}
"""Files that will be deleted."""
LISTS = {"lists.judged_devices", "lists.page"}
"""What a page of a list is made of is known only when it is asked for."""
STAYING = [statement for statement in statements.all_statements() if statement.file not in GOING]

-- How far the ledger is.

-- name: made_until
-- Up to when the rows of all devices of each stream are made.
SELECT stream, ingestd_microseconds(nullif(min(made_until), '-infinity')) AS made_until
FROM ledger_share
GROUP BY stream

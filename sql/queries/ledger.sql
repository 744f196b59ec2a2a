-- How far the ledger is.

-- name: made_until
-- Up to when the rows of all devices of each stream are made, and by which rule.
SELECT stream, max_kw, max_gap, ingestd_microseconds(nullif(min(made_until), '-infinity')) AS made_until
FROM ledger
JOIN ledger_share USING (stream)
GROUP BY stream, max_kw, max_gap

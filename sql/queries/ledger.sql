-- The progress of the ledger.

-- name: made_until
-- For each stream: up to where the rows of all devices are made, and by which rule.
SELECT stream, max_kw, max_gap, ingestd_microseconds(nullif(min(made_until), '-infinity')) AS made_until
FROM ledger
JOIN ledger_share USING (stream)
GROUP BY stream, max_kw, max_gap

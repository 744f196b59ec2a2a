-- What is stored of one device. {quarter}, {history} and so on are the tables and columns of its stream.

-- name: exceptions
-- Of the device its most power, where it is set, and the first quarter that has to be made anew.
SELECT
    (SELECT max_kw FROM device_setting WHERE kind = {stream} AND id = %(id)s) AS max_kw,
    CASE WHEN isfinite(min(start)) THEN ingestd_microseconds(min(start)) END AS stale_from, count(*) > 0 AS is_stale
FROM {stale}
WHERE {id} = %(id)s AND due <= %(now)s

-- name: quarters
-- Rows that start in [since, until).
SELECT
    ingestd_microseconds(start) AS start, kwh, samples, parts, (known_seconds * 1e6)::bigint AS known,
    averaged_sum AS averaged, resets, excluded
FROM {quarter}
WHERE {id} = %(id)s AND start >= %(since)s AND start < %(until)s

-- name: final_row
-- The first row from a quarter on behind which nothing of that quarter, nor of what was before, is open.
SELECT ingestd_microseconds(start) AS start
FROM {quarter}
WHERE {id} = %(id)s AND start >= %(quarter)s AND start < %(until)s
  AND final_until >= %(quarter)s::timestamptz + interval '15 minutes'
ORDER BY start
LIMIT 1

-- name: readings_within
-- Readings in (since, until], as arrays in order of time; no row where there is none.
SELECT array_agg(at) AS at, array_agg(kwh) AS kwh, array_agg(register) AS register, array_agg(averaged) AS averaged
FROM (
    SELECT ingestd_microseconds(ts) AS at, {energy} AS kwh, {register} AS register, {averaged} AS averaged
    FROM {history}
    WHERE {id} = %(id)s AND ts > %(since)s AND ts <= %(until)s
    ORDER BY ts
) AS reading
HAVING count(*) > 0

-- name: neighbours
-- Of each stretch without a reading the last one before it, and the first one behind.
SELECT
    (
        SELECT ingestd_microseconds(ts) FROM {history}
        WHERE {id} = %(id)s AND ts <= ingestd_moment(since) ORDER BY ts DESC LIMIT 1
    ) AS before,
    (
        SELECT ingestd_microseconds(ts) FROM {history}
        WHERE {id} = %(id)s AND ts > ingestd_moment(until) ORDER BY ts LIMIT 1
    ) AS after
FROM unnest(%(since)s::bigint[], %(until)s::bigint[]) WITH ORDINALITY AS stretch (since, until, number)
ORDER BY number

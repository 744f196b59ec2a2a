-- Reads the energy of one device. {quarter}, {history} and so on are tables and columns of its stream.

-- name: reading_ranges
-- For each range (start, end] of quarters: the base (as `base` of closing.sql) and the end of the readings that decide
-- its energy, and the device's own maximum power. The readings begin after the base; readings before `kept_since` are
-- deleted, so the base is no older than that where there is a row. They end 1 minute after the first row whose
-- `final_until` lies at or after the end of the range; NULL: they go on to the newest. Rows from the first stale quarter
-- on are not used. There is no max(start) here: PostgreSQL 18 evaluated it once, for the first range, and used the result
-- for all.
WITH trusted AS (
    SELECT least(%(made_until)s, min(start) - interval '15 minutes') AS until
    FROM {stale}
    WHERE {id} = %(id)s AND due <= %(now)s
)
SELECT
    (SELECT max_kw FROM device_setting WHERE kind = {stream} AND id = %(id)s) AS max_kw,
    (
        SELECT ingestd_microseconds(start + interval '16 minutes')
        FROM {quarter}
        WHERE {id} = %(id)s AND start >= ingestd_timestamp(asked.end) - interval '15 minutes'
          AND start < (SELECT until FROM trusted) AND final_until >= ingestd_timestamp(asked.end)
        ORDER BY start
        LIMIT 1
    ) AS until,
    ingestd_microseconds(base.start) AS start,
    ingestd_microseconds(previous_at) AS previous_at, at_rest,
    high_water, ingestd_microseconds(changed_at) AS changed_at, ingestd_microseconds(read_at) AS read_at
FROM unnest(%(starts)s::bigint[], %(ends)s::bigint[]) WITH ORDINALITY AS asked (start, "end", number)
LEFT JOIN LATERAL (
    SELECT final_until
    FROM {quarter}
    WHERE {id} = %(id)s AND start < least(ingestd_timestamp(asked.start), (SELECT until FROM trusted))
    ORDER BY start DESC
    LIMIT 1
) AS newest ON true
LEFT JOIN LATERAL (
    SELECT *
    FROM {quarter}
    WHERE {id} = %(id)s AND start < least(ingestd_timestamp(asked.start), (SELECT until FROM trusted))
      AND start <= greatest(newest.final_until, %(kept_since)s) - interval '15 minutes'
    ORDER BY start DESC
    LIMIT 1
) AS base ON true
ORDER BY number

-- name: quarters
-- Rows that start in [since, until).
SELECT
    ingestd_microseconds(start) AS start, kwh, samples, parts, (known_seconds * 1e6)::bigint AS known,
    averaged_sum AS averaged, resets, excluded
FROM {quarter}
WHERE {id} = %(id)s AND start >= %(since)s AND start < %(until)s

-- name: readings_within
-- Readings in (since, until] as arrays in order of time. Returns no row if there are none.
SELECT array_agg(at) AS at, array_agg(kwh) AS kwh, array_agg(register) AS register, array_agg(averaged) AS averaged
FROM (
    SELECT ingestd_microseconds(ts) AS at, {energy} AS kwh, {register} AS register, {averaged} AS averaged
    FROM {history}
    WHERE {id} = %(id)s AND ts > %(since)s AND ts <= %(until)s AND coalesce({energy}, {register}) IS NOT NULL
    ORDER BY ts
) AS reading
HAVING count(*) > 0

-- name: readings_around
-- For each range of time without a reading: the time of the last reading before it, and of the first one after it.
SELECT
    (
        SELECT ingestd_microseconds(ts) FROM {history}
        WHERE {id} = %(id)s AND ts <= ingestd_timestamp(since) ORDER BY ts DESC LIMIT 1
    ) AS before,
    (
        SELECT ingestd_microseconds(ts) FROM {history}
        WHERE {id} = %(id)s AND ts > ingestd_timestamp(until) ORDER BY ts LIMIT 1
    ) AS after
FROM unnest(%(since)s::bigint[], %(until)s::bigint[]) WITH ORDINALITY AS asked (since, until, number)
ORDER BY number

-- Closing quarters of the ledger. {quarter}, {hour}, {stale} and so on are the tables and columns of one stream.

-- name: progress
-- How far the ledger of a stream is, and by which rule it was made.
SELECT nullif(closed_until, '-infinity') AS closed_until, max_kw, max_gap FROM ledger WHERE stream = {stream}

-- name: shares
-- Up to where each share is made.
SELECT share, nullif(made_until, '-infinity') AS made_until FROM ledger_share WHERE stream = {stream} ORDER BY share

-- name: begin
-- The ledger begins: every share where history does.
UPDATE ledger_share SET made_until = %(since)s WHERE stream = {stream} AND made_until = '-infinity'

-- name: begin_anew
-- Every share goes back to there.
UPDATE ledger_share SET made_until = %(since)s WHERE stream = {stream}

-- name: set_rule
-- By which rule rows are made from now on.
UPDATE ledger SET max_kw = %(max_kw)s, max_gap = %(max_gap)s WHERE stream = {stream}

-- name: forget_quarters
-- All that history can tell anew; what lies behind its retention stays.
DELETE FROM {quarter} WHERE start >= %(since)s

-- name: forget_hours
-- The same of hours.
DELETE FROM {hour} WHERE start >= %(since)s

-- name: first_day
-- When the partitions of history that end later than a moment begin. Told by their bounds, as one that somebody
-- attached may have any name, and be of more than a day.
SELECT ingestd_microseconds(min(bounds[1]::timestamptz)) AS first_day
FROM pg_inherits
JOIN pg_class AS child ON child.oid = inhrelid
CROSS JOIN regexp_match(pg_get_expr(relpartbound, child.oid), 'FROM \(''(.+)''\) TO \(''(.+)''\)') AS bounds
WHERE inhparent = '{history}'::regclass AND bounds[2]::timestamptz > %(later_than)s

-- name: first_reading
-- Of a stretch without partitions of known bounds: what is there lies in the default one, or in one without a beginning.
SELECT ingestd_microseconds(min(ts)) AS at FROM {history} WHERE ts > %(since)s AND ts < %(until)s::timestamptz

-- name: hold_writers
-- Waits until every transaction that asked what is closed has ended, and holds new ones up until this one has.
SELECT pg_advisory_xact_lock(1768843110, 1)

-- name: close
-- Readings up to this moment mark their quarter as stale from now on.
UPDATE ledger SET closed_until = %(until)s WHERE stream = {stream} AND closed_until < %(until)s

-- name: take_share
-- One daemon at a time makes rows of a share; no row where another one does.
SELECT nullif(made_until, '-infinity') AS made_until
FROM ledger_share
WHERE stream = {stream} AND share = %(share)s
FOR UPDATE SKIP LOCKED

-- name: move_on
-- The rows of the share are made up to here.
UPDATE ledger_share SET made_until = %(until)s WHERE stream = {stream} AND share = %(share)s

-- name: make_month
-- The partition of one month; false where it is there already.
SELECT ingestd_make_month(%(parent)s::text, %(month)s::date)

-- name: active
-- Devices with readings in (since, until], and how many.
SELECT {id} AS id, count(*) AS readings
FROM {history}
WHERE ts > %(since)s AND ts <= %(until)s
GROUP BY {id}

-- name: own_max_kw
-- Devices with a most power of their own.
SELECT id, max_kw FROM device_setting WHERE kind = {stream} AND max_kw IS NOT NULL

-- name: bases
-- For each of many devices the row behind which others have to be made: the last one that ends before all is open
-- behind its newest row. Only rows of the last hours are looked at.
SELECT DISTINCT ON (id)
    id, ingestd_microseconds(start) AS start,
    ingestd_microseconds(previous_at) AS previous_at, at_rest,
    high_water, ingestd_microseconds(changed_at) AS changed_at, ingestd_microseconds(read_at) AS read_at
FROM (
    SELECT
        {id} AS id, start, previous_at, at_rest, high_water, changed_at, read_at,
        first_value(final_until) OVER (PARTITION BY {id} ORDER BY start DESC) AS final_until
    FROM {quarter}
    WHERE {id} = ANY(%(ids)s) AND start >= %(since)s AND start < %(until)s
) AS row
WHERE start + interval '15 minutes' <= final_until
ORDER BY id, start DESC

-- name: base
-- The same for one device, however old its rows are. Each row is found by the index alone, before it is read.
WITH newest AS (
    SELECT final_until
    FROM {quarter}
    WHERE {id} = %(id)s AND start = (SELECT max(start) FROM {quarter} WHERE {id} = %(id)s AND start < %(until)s)
)
SELECT
    ingestd_microseconds(start) AS start,
    ingestd_microseconds(previous_at) AS previous_at, at_rest,
    high_water, ingestd_microseconds(changed_at) AS changed_at, ingestd_microseconds(read_at) AS read_at
FROM {quarter}
WHERE {id} = %(id)s AND start = (
    SELECT max(start) FROM {quarter}
    WHERE {id} = %(id)s AND start <= (SELECT final_until FROM newest) - interval '15 minutes'
)

-- name: base_before_history
-- The newest row that ends before a moment: what lies before it cannot be made anew, as its readings are gone.
SELECT
    ingestd_microseconds(start) AS start,
    ingestd_microseconds(previous_at) AS previous_at, at_rest,
    high_water, ingestd_microseconds(changed_at) AS changed_at, ingestd_microseconds(read_at) AS read_at
FROM {quarter}
WHERE {id} = %(id)s AND start = (
    SELECT max(start) FROM {quarter}
    WHERE {id} = %(id)s AND start < %(until)s AND start <= %(history)s::timestamptz - interval '15 minutes'
)

-- name: readings
-- Of many devices those later than `since`, each as arrays in order of time. What has neither an interval nor a register
-- came in by hand, and says nothing.
SELECT id, array_agg(at) AS at, array_agg(kwh) AS kwh, array_agg(register) AS register, array_agg(averaged) AS averaged
FROM (
    SELECT
        asked.id, ingestd_microseconds(ts) AS at, {energy} AS kwh, {register} AS register, {averaged} AS averaged
    FROM unnest(%(ids)s::text[], %(since)s::bigint[]) AS asked (id, since)
    JOIN {history} AS history ON history.{id} = asked.id AND ts > ingestd_timestamp(asked.since)
    WHERE ts > %(oldest)s AND ts <= %(until)s AND coalesce({energy}, {register}) IS NOT NULL
    ORDER BY asked.id, ts
) AS reading
GROUP BY id

-- name: readings_of_device
-- Of one device, at most `most` of them.
SELECT ingestd_microseconds(ts) AS at, {energy} AS kwh, {register} AS register, {averaged} AS averaged
FROM {history}
WHERE {id} = %(id)s AND ts > %(since)s AND ts <= %(until)s AND coalesce({energy}, {register}) IS NOT NULL
ORDER BY ts
LIMIT %(most)s

-- name: states_of_device
-- The states of the rows of one device, by which to see whether all is as before.
SELECT
    ingestd_microseconds(start) AS start,
    ingestd_microseconds(previous_at) AS previous_at, at_rest,
    high_water, ingestd_microseconds(changed_at) AS changed_at, ingestd_microseconds(read_at) AS read_at
FROM {quarter}
WHERE {id} = %(id)s AND start >= %(since)s AND start < %(until)s

-- name: rows_of_devices
-- The rows from a moment on, of each device its own.
SELECT
    asked.id, ingestd_microseconds(start) AS start, kwh, samples, parts, (known_seconds * 1e6)::bigint AS known,
    averaged_sum AS averaged, resets, excluded,
    ingestd_microseconds(final_until) AS final_until, ingestd_microseconds(previous_at) AS previous_at, at_rest,
    high_water, ingestd_microseconds(changed_at) AS changed_at, ingestd_microseconds(read_at) AS read_at
FROM unnest(%(ids)s::text[], %(since)s::bigint[]) AS asked (id, since)
JOIN {quarter} AS row ON row.{id} = asked.id AND start >= ingestd_timestamp(asked.since)
WHERE start >= %(oldest)s AND start < %(until)s

-- name: store
-- Rows of quarters, in place of those that are there.
INSERT INTO {quarter} AS row (
    {id}, start, kwh, samples, parts, known_seconds, averaged_sum, resets, excluded,
    final_until, previous_at, at_rest, high_water, changed_at, read_at
)
SELECT
    id, ingestd_timestamp(start), kwh, samples, parts, known / 1e6, averaged, resets, excluded,
    ingestd_timestamp(final_until), ingestd_timestamp(previous_at), at_rest,
    high_water, ingestd_timestamp(changed_at), ingestd_timestamp(read_at)
FROM unnest(
    %(id)s::text[], %(start)s::bigint[], %(kwh)s::double precision[], %(samples)s::integer[], %(parts)s::integer[],
    %(known)s::bigint[], %(averaged)s::double precision[], %(resets)s::integer[], %(excluded)s::integer[],
    %(final_until)s::bigint[], %(previous_at)s::bigint[], %(at_rest)s::boolean[],
    %(high_water)s::double precision[], %(changed_at)s::bigint[], %(read_at)s::bigint[]
) AS made (
    id, start, kwh, samples, parts, known, averaged, resets, excluded,
    final_until, previous_at, at_rest, high_water, changed_at, read_at
)
ON CONFLICT ({id}, start) DO UPDATE SET
    kwh = excluded.kwh, samples = excluded.samples, parts = excluded.parts,
    known_seconds = excluded.known_seconds, averaged_sum = excluded.averaged_sum,
    resets = excluded.resets, excluded = excluded.excluded,
    final_until = excluded.final_until, previous_at = excluded.previous_at, at_rest = excluded.at_rest,
    high_water = excluded.high_water, changed_at = excluded.changed_at, read_at = excluded.read_at

-- name: devices_of_quarters
-- Devices with a row in [since, until).
SELECT DISTINCT {id} AS id FROM {quarter} WHERE start >= %(since)s AND start < %(until)s

-- name: sum_hours
-- The hours up to `until` anew, out of their quarters; of each device from its own moment on.
INSERT INTO {hour} AS row ({id}, start, kwh, samples, parts, known_seconds, averaged_sum, resets, excluded, filled)
SELECT
    {id}, date_trunc('hour', start, 'UTC'),
    sum(kwh), sum(samples), sum(parts), sum(known_seconds), sum(averaged_sum), sum(resets), sum(excluded),
    count(*) FILTER (WHERE samples + parts > 0)
FROM unnest(%(ids)s::text[], %(since)s::bigint[]) AS asked (id, since)
JOIN {quarter} AS quarter ON quarter.{id} = asked.id AND start >= ingestd_timestamp(asked.since)
WHERE start >= %(oldest)s AND start < %(until)s
GROUP BY 1, 2
ON CONFLICT ({id}, start) DO UPDATE SET
    kwh = excluded.kwh, samples = excluded.samples, parts = excluded.parts,
    known_seconds = excluded.known_seconds, averaged_sum = excluded.averaged_sum,
    resets = excluded.resets, excluded = excluded.excluded, filled = excluded.filled

-- name: mark
-- These quarters have to be made anew, when they are due.
INSERT INTO {stale} ({id}, start, due)
SELECT id, ingestd_timestamp(start), ingestd_timestamp(due)
FROM unnest(%(ids)s::text[], %(starts)s::bigint[], %(due)s::bigint[]) AS mark (id, start, due)

-- name: stale_devices
-- Devices with quarters that are due, those that wait for longest in front and those that rest at the end; and how many
-- there are in all.
SELECT {id} AS id, count(*) OVER () AS devices
FROM {stale}
WHERE due <= %(now)s AND start < %(until)s
GROUP BY {id}
ORDER BY {id} = ANY(%(paused)s), min(due), min(start)
LIMIT %(limit)s

-- name: take_marks
-- Those of one device that are due; readings are looked at afterwards, so none is missed.
DELETE FROM {stale}
WHERE {id} = %(id)s AND due <= %(now)s AND start < %(until)s
RETURNING CASE WHEN isfinite(start) THEN ingestd_microseconds(start) END AS start

-- Closes quarters of the ledger and makes their rows. {quarter}, {hour}, {stale} and so on are tables and columns of
-- one stream.

-- name: progress
-- Up to where the quarters of a stream are closed, and the rule by which its rows were made.
SELECT nullif(closed_until, '-infinity') AS closed_until, max_kw, max_gap FROM ledger WHERE stream = {stream}

-- name: shares
-- Up to where the rows of each share of the devices are made.
SELECT share, nullif(made_until, '-infinity') AS made_until FROM ledger_share WHERE stream = {stream} ORDER BY share

-- name: begin
-- Begin the ledger: all shares start where history starts.
UPDATE ledger_share SET made_until = %(since)s WHERE stream = {stream} AND made_until = '-infinity'

-- name: begin_anew
-- Set all shares back to a time, to make the rows after it again.
UPDATE ledger_share SET made_until = %(since)s WHERE stream = {stream}

-- name: set_rule
-- Store the rule by which rows are made from now on.
UPDATE ledger SET max_kw = %(max_kw)s, max_gap = %(max_gap)s WHERE stream = {stream}

-- name: forget_quarters
-- Delete quarters that can be made again from history.
DELETE FROM {quarter} WHERE start >= %(since)s AND start < %(until)s

-- name: forget_hours
-- Delete hours that can be made again from history.
DELETE FROM {hour} WHERE start >= %(since)s AND start < %(until)s

-- name: first_day
-- The start of the first partition of history that ends later than a time. It is taken from the partition's bounds,
-- because a partition that an operator attached may have any name and any length.
SELECT ingestd_microseconds(min(bounds[1]::timestamptz)) AS first_day
FROM pg_inherits
JOIN pg_class AS child ON child.oid = inhrelid
CROSS JOIN regexp_match(pg_get_expr(relpartbound, child.oid), 'FROM \(''(.+)''\) TO \(''(.+)''\)') AS bounds
WHERE inhparent = '{history}'::regclass AND bounds[2]::timestamptz > %(later_than)s

-- name: first_reading
-- The first reading in a range of time that no partition with known bounds covers. Such a reading is in the default
-- partition, or in a partition without a lower bound.
SELECT ingestd_microseconds(min(ts)) AS at FROM {history} WHERE ts > %(since)s AND ts < %(until)s::timestamptz

-- name: hold_writers
-- Wait until every transaction that has read `closed_until` has ended, and make new ones wait until this one has ended.
SELECT pg_advisory_xact_lock(1768843110, 1)

-- name: close
-- Close quarters: a reading up to this time that is stored from now on marks its quarter as stale.
UPDATE ledger SET closed_until = %(until)s WHERE stream = {stream} AND closed_until < %(until)s

-- name: take_share
-- Lock a share, so that only one daemon makes its rows. Returns no row if another daemon has locked it.
SELECT nullif(made_until, '-infinity') AS made_until
FROM ledger_share
WHERE stream = {stream} AND share = %(share)s
FOR UPDATE SKIP LOCKED

-- name: move_on
-- Store that the rows of the share are made up to this time.
UPDATE ledger_share SET made_until = %(until)s WHERE stream = {stream} AND share = %(share)s

-- name: months
-- The months whose partitions both tables of the ledger have, as YYYYMM. Partitions of others may have any name.
SELECT right(child.relname, 6) AS month
FROM pg_inherits
JOIN pg_class AS child ON child.oid = inhrelid
JOIN pg_class AS parent ON parent.oid = inhparent
WHERE inhparent IN ('{quarter}'::regclass, '{hour}'::regclass) AND NOT inhdetachpending
  AND child.relname ~ ('^' || parent.relname || '_\d\d\d\d\d\d$')
GROUP BY 1
HAVING count(*) = 2

-- name: make_month
-- Make the partition of one month. Returns false if it exists.
SELECT ingestd_make_month(%(parent)s::text, %(month)s::date)

-- name: active
-- Devices with readings in (since, until], and the number of these readings.
SELECT {id} AS id, count(*) AS readings
FROM {history}
WHERE ts > %(since)s AND ts <= %(until)s
GROUP BY {id}

-- name: own_max_kw
-- Devices with a maximum power of their own.
SELECT id, max_kw FROM device_setting WHERE kind = {stream} AND max_kw IS NOT NULL

-- name: bases
-- For many devices the row after which rows are made (the base): the last one that no later reading can change, as
-- `final_until` of the newest row says. Only rows that start in [since, until) are looked at.
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
-- The same for one device, however old its rows are. Each of the two rows is found by the index alone before it is
-- read.
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
-- The newest row that ends before history begins. Rows up to there cannot be made anew, because their readings are
-- deleted.
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
-- The readings of many devices, each device's later than its own `since`, as arrays in order of time. A row with
-- neither an interval nor a register was inserted by hand and is ignored.
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
-- The readings of one device in (since, until], at most `most` of them.
SELECT ingestd_microseconds(ts) AS at, {energy} AS kwh, {register} AS register, {averaged} AS averaged
FROM {history}
WHERE {id} = %(id)s AND ts > %(since)s AND ts <= %(until)s AND coalesce({energy}, {register}) IS NOT NULL
ORDER BY ts
LIMIT %(most)s

-- name: states_of_device
-- The states of the stored rows of one device. They are compared with rows that are made anew, to see from where on
-- nothing has changed.
SELECT
    ingestd_microseconds(start) AS start,
    ingestd_microseconds(previous_at) AS previous_at, at_rest,
    high_water, ingestd_microseconds(changed_at) AS changed_at, ingestd_microseconds(read_at) AS read_at
FROM {quarter}
WHERE {id} = %(id)s AND start >= %(since)s AND start < %(until)s

-- name: rows_of_devices
-- The rows of many devices, each device's from its own `since` on.
SELECT
    asked.id, ingestd_microseconds(start) AS start, kwh, samples, parts, (known_seconds * 1e6)::bigint AS known,
    averaged_sum AS averaged, resets, excluded,
    ingestd_microseconds(final_until) AS final_until, ingestd_microseconds(previous_at) AS previous_at, at_rest,
    high_water, ingestd_microseconds(changed_at) AS changed_at, ingestd_microseconds(read_at) AS read_at
FROM unnest(%(ids)s::text[], %(since)s::bigint[]) AS asked (id, since)
JOIN {quarter} AS row ON row.{id} = asked.id AND start >= ingestd_timestamp(asked.since)
WHERE start >= %(oldest)s AND start < %(until)s

-- name: store
-- Store rows of quarters, in place of the rows that exist.
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
-- Devices with a row that starts in [since, until).
SELECT DISTINCT {id} AS id FROM {quarter} WHERE start >= %(since)s AND start < %(until)s

-- name: sum_hours
-- Make the hours up to `until` anew from their quarters, each device's from its own `since` on.
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
-- Mark quarters that have to be made anew, each from the time `due` on.
INSERT INTO {stale} ({id}, start, due)
SELECT id, ingestd_timestamp(start), ingestd_timestamp(due)
FROM unnest(%(ids)s::text[], %(starts)s::bigint[], %(due)s::bigint[]) AS mark (id, start, due)

-- name: stale_devices
-- Devices with quarters that are due to be made anew, and the number of all such devices. Devices that have waited for
-- longest come first, devices that are paused come last.
SELECT {id} AS id, count(*) OVER () AS devices
FROM {stale}
WHERE due <= %(now)s AND start < %(until)s
GROUP BY {id}
ORDER BY {id} = ANY(%(paused)s), min(due), min(start)
LIMIT %(limit)s

-- name: take_marks
-- Delete the marks of one device that are due, and return their quarters. The readings are read after this, so none is
-- missed.
DELETE FROM {stale}
WHERE {id} = %(id)s AND due <= %(now)s AND start < %(until)s
RETURNING CASE WHEN isfinite(start) THEN ingestd_microseconds(start) END AS start

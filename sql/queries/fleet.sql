-- Answers about all devices: sums of rows of the ledger, and readings that are not in rows yet.

-- name: energy_of_all
-- The sums of each device of a stream, from hours in the middle of a window and quarters at its ends. `known` counts
-- the rows of which all time is known.
SELECT id, sum(kwh) AS kwh, sum(samples)::bigint AS samples, sum(parts)::bigint AS parts, sum(known)::bigint AS known
FROM (
    SELECT {id} AS id, kwh, samples, parts, (known_seconds >= 3600 AND filled = 4)::integer AS known
    FROM {hour}
    WHERE start >= %(hours_from)s AND start < %(hours_until)s
    UNION ALL
    SELECT {id}, kwh, samples, parts, (known_seconds >= 900 AND samples > 0)::integer
    FROM {quarter}
    WHERE start >= %(since)s AND start < %(hours_from)s
    UNION ALL
    SELECT {id}, kwh, samples, parts, (known_seconds >= 900 AND samples > 0)::integer
    FROM {quarter}
    WHERE start >= %(hours_until)s AND start < %(until)s
) AS part
GROUP BY id

-- name: sums_of_quarter
-- For each device with readings in (since, until]: the sums of the readings in (start, end]; what shows whether a
-- single reading needs a decision; and the state in the row of the quarter `before`, if that row exists.
SELECT
    readings.*,
    ingestd_microseconds(final_until) AS final_until, ingestd_microseconds(previous_at) AS previous_at, at_rest,
    high_water, ingestd_microseconds(changed_at) AS changed_at, ingestd_microseconds(read_at) AS read_at
FROM (
    SELECT
        {id} AS id, ingestd_microseconds(%(since)s) AS start,
        count(*) FILTER (WHERE ts > %(start)s AND ts <= %(end)s) AS samples,
        coalesce(sum({energy}) FILTER (WHERE ts > %(start)s AND ts <= %(end)s), 0) AS kwh,
        ingestd_microseconds(min(ts)) AS first, ingestd_microseconds(max(ts)) AS last,
        max({energy}) AS most, count({register}) AS registers
    FROM {history}
    WHERE ts > %(since)s AND ts <= %(until)s AND coalesce({energy}, {register}) IS NOT NULL
    GROUP BY {id}
) AS readings
LEFT JOIN {quarter} AS row ON row.{id} = readings.id AND row.start = %(before)s

-- name: readings_of_many
-- Readings of the given devices in (since, until], as arrays in order of time.
SELECT id, array_agg(at) AS at, array_agg(kwh) AS kwh, array_agg(register) AS register, array_agg(averaged) AS averaged
FROM (
    SELECT {id} AS id, ingestd_microseconds(ts) AS at, {energy} AS kwh, {register} AS register, {averaged} AS averaged
    FROM {history}
    WHERE {id} = ANY(%(ids)s) AND ts > %(since)s AND ts <= %(until)s AND coalesce({energy}, {register}) IS NOT NULL
    ORDER BY 1, 2
) AS in_order
GROUP BY id

-- name: oldest_mark
-- Since when the oldest stale quarter has been due to be made anew.
SELECT ingestd_microseconds(min(greatest(marked_at, due))) AS since FROM {stale} WHERE due <= %(now)s

-- name: segments
-- Which meter feeds which vehicle in a window.
SELECT
    vehicle_id, meter_id,
    ingestd_microseconds(greatest(valid_from, %(start)s)) AS since,
    ingestd_microseconds(least(coalesce(valid_to, %(end)s), %(end)s)) AS until
FROM vehicle_meter_mapping
WHERE valid_from < %(end)s AND (valid_to IS NULL OR valid_to > %(start)s)

-- name: own_thresholds
-- Vehicles with an efficiency threshold of their own.
SELECT id, threshold FROM device_setting WHERE kind = 'vehicle' AND threshold IS NOT NULL

-- name: compared
-- For each segment of the mapping: AC and DC of the units that are complete on both sides, summed up. A unit is an hour
-- in the middle of the window, a quarter at its ends. The statement also returns the starts of the units that need a
-- closer look: `incomplete` are units in which the vehicle has readings, but which are not complete; `without_dc` are
-- units in which the meter has energy and the vehicle has no reading. Those cannot be compared, but may be a hole, and
-- the units next to a hole are not compared either. `touched` units have readings that are not in their rows, so they
-- are not summed up here. If a meter has spread energy in an hour, a quarter of this hour is not compared by itself.
WITH asked AS (
    SELECT number, vehicle_id, meter_id, ingestd_timestamp(since) AS since, ingestd_timestamp(until) AS until
    FROM unnest(%(numbers)s::integer[], %(vehicles)s::text[], %(meters)s::text[], %(starts)s::bigint[], %(ends)s::bigint[])
        AS asked (number, vehicle_id, meter_id, since, until)
), touched AS (
    SELECT number, ingestd_timestamp(start) AS start, true AS is_touched
    FROM unnest(%(touched)s::integer[], %(touched_starts)s::bigint[]) AS touched (number, start)
), ac AS (
    SELECT meter_id, start, 4 AS quarters, kwh, known_seconds, filled, parts
    FROM meter_hour
    WHERE start >= %(hours_from)s AND start < %(hours_until)s
    UNION ALL
    SELECT meter_id, start, 1, kwh, known_seconds, (samples + parts > 0)::integer,
        sum(parts) OVER (PARTITION BY meter_id, date_trunc('hour', start, 'UTC'))
    FROM meter_quarter
    WHERE start >= %(since)s AND start < %(until)s AND (start < %(hours_from)s OR start >= %(hours_until)s)
), dc AS (
    SELECT vehicle_id, start, 4 AS quarters, kwh, known_seconds, filled
    FROM vehicle_hour
    WHERE start >= %(hours_from)s AND start < %(hours_until)s
    UNION ALL
    SELECT vehicle_id, start, 1, kwh, known_seconds, (samples + parts > 0)::integer
    FROM vehicle_quarter
    WHERE start >= %(since)s AND start < %(until)s AND (start < %(hours_from)s OR start >= %(hours_until)s)
), unit AS (
    SELECT number, start, ac.kwh AS ac, dc.kwh AS dc, dc.filled > 0 AS has_dc,
        is_touched IS NULL AND dc.filled > 0 AND CASE
            WHEN ac.parts > 0 THEN
                quarters = 4 AND dc.known_seconds >= 3420
                AND ac.known_seconds >= 0.95 * least(3600, dc.known_seconds)
            ELSE
                ac.filled = quarters AND dc.filled = quarters
                AND least(ac.known_seconds, dc.known_seconds) >= 900 * quarters
        END AS whole
    FROM asked
    JOIN ac USING (meter_id)
    LEFT JOIN dc USING (vehicle_id, start, quarters)
    LEFT JOIN touched USING (number, start)
    WHERE start >= since AND start + quarters * interval '15 minutes' <= until
)
SELECT number,
    coalesce(sum(ac), 0) AS all_ac,
    coalesce(sum(ac) FILTER (WHERE whole), 0) AS ac,
    coalesce(sum(dc) FILTER (WHERE whole), 0) AS dc,
    array_agg(ingestd_microseconds(start)) FILTER (WHERE has_dc AND NOT whole AND (ac > 0 OR dc > 0)) AS incomplete,
    array_agg(ingestd_microseconds(start)) FILTER (WHERE has_dc IS NOT TRUE AND ac > 0) AS without_dc
FROM unit
GROUP BY number

-- name: quarters_of_many
-- The rows of given quarters of given devices.
SELECT
    asked.id, asked.start, kwh, samples, parts, (known_seconds * 1e6)::bigint AS known,
    averaged_sum AS averaged, resets, excluded
FROM unnest(%(ids)s::text[], %(starts)s::bigint[]) AS asked (id, start)
JOIN {quarter} AS row ON row.{id} = asked.id AND row.start = ingestd_timestamp(asked.start)

-- name: quarters_between
-- The rows of many devices, each device's in its own range of time.
SELECT
    asked.id, ingestd_microseconds(start) AS start, kwh, samples, parts, (known_seconds * 1e6)::bigint AS known,
    averaged_sum AS averaged, resets, excluded
FROM unnest(%(ids)s::text[], %(since)s::bigint[], %(until)s::bigint[]) AS asked (id, since, until)
JOIN {quarter} AS row ON row.{id} = asked.id
    AND row.start >= ingestd_timestamp(asked.since) AND row.start < ingestd_timestamp(asked.until)
WHERE row.start >= %(oldest)s AND row.start < %(newest)s

-- name: quarters_of_all
-- The rows of one quarter that have a part of a longer reading.
SELECT
    {id} AS id, ingestd_microseconds(start) AS start, kwh, samples, parts, (known_seconds * 1e6)::bigint AS known,
    averaged_sum AS averaged, resets, excluded
FROM {quarter}
WHERE start = %(start)s AND parts > 0

-- name: series_of_all
-- Energy of a stream by bucket, from quarters. `edges` are the starts of the buckets, in order.
SELECT
    width_bucket(start, %(edges)s::timestamptz[]) AS number, sum(kwh) AS kwh,
    sum(samples)::bigint AS samples, sum(parts)::bigint AS parts
FROM {quarter}
WHERE start >= %(since)s AND start < %(until)s AND samples + parts > 0
GROUP BY 1

-- name: hourly_series_of_all
-- Energy of a stream by bucket, from hours; for buckets that consist of whole hours.
SELECT
    width_bucket(start, %(edges)s::timestamptz[]) AS number, sum(kwh) AS kwh,
    sum(samples)::bigint AS samples, sum(parts)::bigint AS parts
FROM {hour}
WHERE start >= %(since)s AND start < %(until)s AND filled > 0
GROUP BY 1

-- name: samples_of_all
-- The number of readings in the rows of each device.
SELECT {id} AS id, sum(samples)::bigint AS readings
FROM {quarter}
WHERE start >= %(since)s AND start < %(until)s
GROUP BY {id}

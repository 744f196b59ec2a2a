-- Energy over time: in buckets, by the days and months of a time zone. Windows are half-open: [start, end).

-- name: known
-- Whether a device has ever reported, or is announced by a mapping.
SELECT
    EXISTS (SELECT FROM {live} WHERE {id} = %(device_id)s)
    OR EXISTS (SELECT FROM vehicle_meter_mapping WHERE {id} = %(device_id)s) AS known

-- name: buckets
-- What of every bucket lies in the window.
SELECT number, from_at, until_at
FROM unnest(%(froms)s::timestamptz[], %(untils)s::timestamptz[]) WITH ORDINALITY AS bucket(from_at, until_at, number)

-- name: series
-- One device, bucket by bucket; from the rollups where `rolled` is true, which takes buckets of whole quarters of an
-- hour. These know no state of charge: the last of each bucket is looked up. The power is the mean over the bucket's
-- part in the window.
WITH device_span AS (
    SELECT 0 AS span, %(device_id)s::text AS id, %(start)s::timestamptz AS start_at, %(end)s::timestamptz AS end_at
), filled AS (
    SELECT width_bucket(at, %(froms)s::timestamptz[]) AS number,
        sum(kwh) AS kwh,
        CASE WHEN NOT %(rolled)s THEN (array_agg(soc ORDER BY at DESC))[1] END AS soc,
        sum(averaged) / sum(samples) AS averaged,
        sum(samples) AS samples
    FROM ({readings}) AS reading
    GROUP BY number
)
SELECT kwh,
    kwh * 3600 / extract(epoch FROM until_at - from_at)::double precision AS kw,
    CASE WHEN %(rolled)s AND samples > 0 THEN ({last_soc}) ELSE soc END AS soc,
    averaged, coalesce(samples, 0)::bigint AS samples
FROM ({buckets}) AS bucket
LEFT JOIN filled USING (number)
ORDER BY number

-- name: last_soc
-- The last state of charge in the bucket.
SELECT soc
FROM {history}
WHERE {id} = %(device_id)s AND ts >= from_at AND ts < until_at
  AND ts >= %(start)s AND ts < %(end)s
ORDER BY ts DESC
LIMIT 1

-- name: totals
-- One device in each of the stretches that are asked for.
WITH period AS MATERIALIZED (
    SELECT number AS span, %(device_id)s::text AS id, start_at, end_at
    FROM unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) WITH ORDINALITY AS period(start_at, end_at, number)
)
SELECT sum(kwh) AS kwh, coalesce(sum(samples), 0)::bigint AS samples
FROM period
LEFT JOIN ({readings}) AS reading USING (span)
GROUP BY span
ORDER BY span

-- name: series_of_all
-- Energy of the whole stream in each bucket that has readings. Devices with late readings, or with a register where
-- the rollups do not reach, are looked at one by one; of all others the settled quarters of a bucket are one
-- subtraction a day, and the edges a sum. Rollups serve buckets of whole quarters only: for others the settled part
-- is empty.
SELECT number, sum(kwh) AS kwh
FROM (
    WITH one_by_one AS MATERIALIZED (
        SELECT row_number() OVER () AS span, id, %(start)s::timestamptz AS start_at, %(end)s::timestamptz AS end_at
        FROM (
            SELECT {id} AS id FROM {late} WHERE since < %({stream_name}_tail_from)s
            UNION
            SELECT {id} FROM {history}
            WHERE {register} IS NOT NULL AND ts >= %(start)s AND ts < %({stream_name}_head_until)s
            UNION
            SELECT {id} FROM {history}
            WHERE {register} IS NOT NULL AND ts >= %({stream_name}_tail_from)s AND ts < %(end)s
        ) AS device
    ), settled AS MATERIALIZED (
        -- What of a bucket is settled, day by day: the quarters that follow number `after`, up to number `upto`.
        SELECT number, midnight::date AS day,
            greatest(0, extract(epoch FROM from_at - midnight)::integer / 900) AS after,
            least(96, extract(epoch FROM until_at - midnight)::integer / 900) AS upto
        FROM (
            SELECT number,
                greatest(from_at, %({stream_name}_head_until)s) AS from_at,
                least(until_at, %({stream_name}_tail_from)s) AS until_at
            FROM ({buckets}) AS bucket
        ) AS part
        CROSS JOIN LATERAL generate_series(
            date_trunc('day', from_at, 'UTC'), until_at - interval '1 microsecond', '1 day'
        ) AS midnight
        WHERE from_at < until_at
    )
    SELECT width_bucket(ts, %(froms)s::timestamptz[]) AS number, {energy} AS kwh
    FROM {history}
    WHERE ts >= %(start)s AND ts < %({stream_name}_head_until)s AND {id} NOT IN (SELECT id FROM one_by_one)
    UNION ALL
    SELECT width_bucket(ts, %(froms)s::timestamptz[]), {energy}
    FROM {history}
    WHERE ts >= %({stream_name}_tail_from)s AND ts < %(end)s AND {id} NOT IN (SELECT id FROM one_by_one)
    UNION ALL
    SELECT number, sum(kwh[least(upto, length)] - coalesce(kwh[least(after, length)], 0))
    FROM (SELECT {id} AS id, day, kwh, samples, cardinality(kwh) AS length FROM {day}) AS rolled
    JOIN settled USING (day)
    WHERE id NOT IN (SELECT id FROM one_by_one)
    GROUP BY number
    HAVING sum(samples[least(upto, length)] - coalesce(samples[least(after, length)], 0)) > 0
    UNION ALL
    SELECT width_bucket(at, %(froms)s::timestamptz[]), kwh
    FROM ({readings_one_by_one}) AS reading
) AS energy
GROUP BY number

-- name: fleet_series
-- All meters and all vehicles, bucket by bucket.
SELECT ac.kwh AS ac_kwh, dc.kwh AS dc_kwh
FROM ({buckets}) AS bucket
LEFT JOIN ({series_of_all_meters}) AS ac USING (number)
LEFT JOIN ({series_of_all_vehicles}) AS dc USING (number)
ORDER BY number

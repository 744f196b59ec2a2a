-- What devices sent, in stretches of time: the one place where energy is read (kWh; registers by ingestd_register).

-- name: readings
-- Of the devices in {spans} (span, id, start_at, end_at), each in its stretch [start_at, end_at): what each reading,
-- or each settled quarter of an hour, counts for. Settled quarters come from the rollups where `rolled` is true;
-- the edges, what is not settled yet and what came late come from history.
SELECT span, at, kwh, samples, averaged, soc, resets, excluded
FROM (
    WITH trusted AS (
        SELECT spans.*,
            date_bin('15 minutes', start_at, timestamptz '2000-01-01 00:00+00') AS start_quarter,
            date_bin('15 minutes', start_at + interval '15 minutes' - interval '1 microsecond', timestamptz '2000-01-01 00:00+00') AS inner_from,
            date_bin('15 minutes', end_at, timestamptz '2000-01-01 00:00+00') AS end_quarter,
            least(
                (SELECT settled FROM rollup WHERE stream = {stream}),
                (SELECT min(since) FROM {late} AS late WHERE late.{id} = spans.id)
            ) AS settled
        FROM {spans} AS spans
    ), piece AS (
        SELECT span, id, piece.*, state.mark, state.mark_at
        FROM trusted
        CROSS JOIN LATERAL (VALUES
            -- up to the first whole quarter
            (start_quarter, start_at, least(inner_from, end_at), %(rolled)s AND start_at < settled AND start_at < inner_from),
            -- from the last whole quarter on
            (end_quarter, end_quarter, end_at, %(rolled)s AND end_at <= settled AND end_quarter >= inner_from AND end_quarter < end_at),
            -- what is not settled
            (settled, greatest(start_at, settled), end_at, %(rolled)s AND end_at > settled),
            -- everything
            (least(start_quarter, settled), start_at, end_at, NOT %(rolled)s)
        ) AS piece(fold_from, count_from, count_to, needed)
        -- The state of its register that all earlier readings left; every day's rollup carries it on.
        LEFT JOIN LATERAL (
            SELECT
                mark[least(cardinality(mark), ceil(extract(epoch FROM fold_from - day::timestamptz) / 900)::integer)] AS mark,
                mark_at[least(cardinality(mark), ceil(extract(epoch FROM fold_from - day::timestamptz) / 900)::integer)] AS mark_at
            FROM {day}
            WHERE {id} = trusted.id AND day::timestamptz < fold_from
            ORDER BY day DESC
            LIMIT 1
        ) AS state ON true
        WHERE needed
    ), register AS (
        SELECT span, fold_from, count_from, count_to, mark, mark_at, next.ts, next.register, next.averaged, next.soc,
            extract(epoch FROM next.ts)::double precision AS taken_at,
            lead(next.register) OVER in_order AS next_register,
            lead(extract(epoch FROM next.ts)::double precision) OVER in_order AS next_taken_at
        FROM piece
        CROSS JOIN LATERAL (
            SELECT ts, {register} AS register, {averaged} AS averaged, {soc} AS soc
            FROM {history}
            WHERE {id} = piece.id AND ts >= piece.fold_from AND ts < piece.count_to AND {register} IS NOT NULL
              AND ts >= %(history_from)s AND ts < %(history_until)s
            UNION ALL
            (
                SELECT ts, {register}, {averaged}, {soc}
                FROM {history}
                WHERE {id} = piece.id AND ts >= piece.count_to AND {register} IS NOT NULL
                  AND ts >= %(history_from)s
                ORDER BY ts LIMIT 1
            )
        ) AS next
        WINDOW in_order AS (PARTITION BY span, fold_from ORDER BY next.ts)
    ), folded AS (
        SELECT span, count_from, count_to, ts, averaged, soc,
            ingestd_register(register, taken_at, next_register, next_taken_at, mark, mark_at, %(plausible_kw)s)
                OVER (PARTITION BY span, fold_from ORDER BY ts) AS step
        FROM register
    )
    SELECT span, ts AS at, {energy} AS kwh, 1 AS samples, {averaged} AS averaged, {soc} AS soc, 0 AS resets, 0 AS excluded
    FROM piece
    JOIN {history} ON {id} = piece.id AND ts >= count_from AND ts < count_to AND {register} IS NULL
        AND ts >= %(history_from)s AND ts < %(history_until)s
    UNION ALL
    SELECT span, ts, step[3], 1, averaged, soc, step[4]::integer, step[5]::integer
    FROM folded
    WHERE ts >= count_from AND ts < count_to
    UNION ALL
    SELECT span, day::timestamptz + (number - 1) * interval '15 minutes',
        rolled.kwh[number] - coalesce(rolled.kwh[number - 1], 0),
        rolled.samples[number] - coalesce(rolled.samples[number - 1], 0),
        rolled.averaged[number] - coalesce(rolled.averaged[number - 1], 0),
        NULL,
        coalesce(rolled.resets[number] - coalesce(rolled.resets[number - 1], 0), 0),
        coalesce(rolled.excluded[number] - coalesce(rolled.excluded[number - 1], 0), 0)
    FROM trusted
    JOIN {day} AS rolled ON rolled.{id} = trusted.id
        AND rolled.day >= trusted.inner_from::date AND rolled.day <= least(trusted.end_quarter, trusted.settled)::date
    CROSS JOIN LATERAL generate_series(
        greatest(1, extract(epoch FROM trusted.inner_from - rolled.day::timestamptz)::integer / 900 + 1),
        least(cardinality(rolled.samples), extract(epoch FROM least(trusted.end_quarter, trusted.settled) - rolled.day::timestamptz)::integer / 900)
    ) AS number
    WHERE %(rolled)s AND rolled.samples[number] > coalesce(rolled.samples[number - 1], 0)
) AS readings

-- name: cadence
-- Seconds between the readings of one `device` (id, start_at, end_at), as a rule: from the rollups, or while these know
-- none, the median of the latest readings.
coalesce(
    (
        SELECT avg(cadence)
        FROM {day}
        WHERE {id} = device.id AND day >= device.start_at::date AND day <= device.end_at::date
    ),
    (
        SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY spacing)
        FROM (
            SELECT extract(epoch FROM ts - lag(ts) OVER (ORDER BY ts ROWS UNBOUNDED PRECEDING)) AS spacing
            FROM (
                SELECT ts
                FROM {history}
                WHERE {id} = device.id AND ts >= device.start_at AND ts < device.end_at
                  AND ts >= %(history_from)s AND ts < %(history_until)s
                ORDER BY ts DESC
                LIMIT 200
            ) AS latest
        ) AS spacings
    )
)::double precision

-- name: cadences
-- Of each of the devices in {spans} (span, id, start_at, end_at).
SELECT span, {cadence} AS cadence
FROM {spans} AS device

-- name: shares
-- The AC of each of the `pairs` (pair, vehicle_id, meter_id, start_at, end_at). Where several vehicles are mapped to
-- the meter at once, its energy in each UTC hour goes to them by their DC in that whole hour, or in equal parts.
SELECT pair, ac_kwh, samples, resets, excluded, shared
FROM (
    WITH at_once AS (
        SELECT pair, other.vehicle_id, greatest(other.valid_from, start_at) AS since, least(coalesce(other.valid_to, end_at), end_at) AS until
        FROM pairs
        JOIN vehicle_meter_mapping AS other ON other.meter_id = pairs.meter_id
            AND other.valid_from < end_at AND coalesce(other.valid_to, 'infinity') > start_at
    ), stretch AS MATERIALIZED (
        -- Stretches of time in which the same vehicles are at the meter.
        SELECT row_number() OVER () AS span, pair, vehicle_id, meter_id AS id, start_at, end_at
        FROM (
            SELECT pair, vehicle_id, meter_id, at AS start_at, lead(at) OVER (PARTITION BY pair ORDER BY at) AS end_at
            FROM (
                SELECT pair, since AS at FROM at_once
                UNION
                SELECT pair, until FROM at_once
            ) AS change
            JOIN pairs USING (pair)
        ) AS bounded
        WHERE end_at IS NOT NULL
    ), present AS MATERIALIZED (
        SELECT span, at_once.vehicle_id, stretch.start_at, stretch.end_at, count(*) OVER (PARTITION BY span) AS vehicles
        FROM stretch JOIN at_once ON at_once.pair = stretch.pair AND since <= stretch.start_at AND until >= stretch.end_at
    ), ac AS MATERIALIZED (
        SELECT span, date_trunc('hour', at, 'UTC') AS hour, sum(kwh) AS kwh, sum(samples) AS samples, sum(resets) AS resets, sum(excluded) AS excluded
        FROM ({meter_readings_in_stretches}) AS reading
        GROUP BY span, hour
    ), sharing AS MATERIALIZED (
        SELECT row_number() OVER () AS span, vehicle_id AS id, start_at, end_at
        FROM (
            SELECT vehicle_id, date_trunc('hour', min(start_at), 'UTC') AS start_at, date_trunc('hour', max(end_at), 'UTC') + interval '1 hour' AS end_at
            FROM present
            WHERE vehicles > 1
            GROUP BY vehicle_id
        ) AS vehicle
    ), dc AS MATERIALIZED (
        SELECT sharing.id AS vehicle_id, date_trunc('hour', at, 'UTC') AS hour, sum(kwh) AS kwh
        FROM ({vehicle_readings_while_sharing}) AS reading JOIN sharing USING (span)
        GROUP BY sharing.id, hour
    ), weight AS (
        SELECT ac.span, ac.hour, present.vehicle_id,
            coalesce(
                coalesce(dc.kwh, 0) / nullif(sum(coalesce(dc.kwh, 0)) OVER (PARTITION BY ac.span, ac.hour), 0),
                1.0 / present.vehicles
            ) AS weight
        FROM ac
        JOIN present ON present.span = ac.span AND present.vehicles > 1
        LEFT JOIN dc ON dc.vehicle_id = present.vehicle_id AND dc.hour = ac.hour
    )
    SELECT stretch.pair,
        coalesce(sum(ac.kwh * coalesce(weight.weight, 1)), 0) AS ac_kwh,
        coalesce(sum(ac.samples), 0)::bigint AS samples,
        coalesce(sum(ac.resets), 0)::bigint AS resets,
        coalesce(sum(ac.excluded), 0)::bigint AS excluded,
        bool_or(EXISTS (SELECT FROM present WHERE present.span = stretch.span AND present.vehicles > 1)) AS shared
    FROM stretch
    LEFT JOIN ac USING (span)
    LEFT JOIN weight ON weight.span = ac.span AND weight.hour = ac.hour AND weight.vehicle_id = stretch.vehicle_id
    GROUP BY stretch.pair
) AS shares

-- name: with_a_register
-- Devices that sent a register's reading, in the parts of the window that `sums_of_all` takes.
SELECT id
FROM (
    SELECT unnest(ids) AS id, unnest(first.registers) AS before, unnest(last.registers) AS after
    FROM roster, running_total AS first, running_total AS last
    WHERE roster.stream = {stream}
      AND first.stream = {stream} AND first.until = %({stream_name}_totals_from)s
      AND last.stream = {stream} AND last.until = %({stream_name}_totals_until)s
      AND first.registers <> last.registers
) AS counted
WHERE after > coalesce(before, 0)
UNION ALL
SELECT {id}
FROM {belated}
WHERE kwh IS NULL AND ts >= %({stream_name}_totals_from)s AND ts < %({stream_name}_totals_until)s
UNION ALL
SELECT {id} FROM {day} WHERE mark IS NOT NULL AND day >= %({stream_name}_first_day)s AND day <= %({stream_name}_last_day)s
UNION ALL
SELECT {id}
FROM {history}
WHERE {register} IS NOT NULL AND ts >= %({stream_name}_lead_from)s AND ts < %({stream_name}_lead_until)s
UNION ALL
SELECT {id}
FROM {history}
WHERE {register} IS NOT NULL AND ts >= %({stream_name}_rolled_until)s AND ts < %({stream_name}_totals_from)s
UNION ALL
SELECT {id}
FROM {history}
WHERE {register} IS NOT NULL AND ts >= %({stream_name}_totals_until)s AND ts < %(end)s

-- name: sums_of_all
-- Every device of the stream, as if none had a register or late readings. From the running totals where they reach, one
-- subtraction; before them, of the settled quarters one subtraction a day. What neither has is summed up from history:
-- at the window's start, what the window has before the first of them or (`lead_sign` -1) what it lacks, whichever is
-- less; between the two; and at its end. The cadence is as it was at both ends, NULL where nobody knows.
SELECT id, sum(kwh) AS kwh, sum(samples) AS samples,
    sum(cadence) / count(cadence) AS cadence  -- avg() would take a tenth of all the time
FROM (
    SELECT id,
        last_kwh - coalesce(first_kwh, 0) AS kwh,
        last_samples - coalesce(first_samples, 0) AS samples,
        coalesce((first_cadence + last_cadence) / 2, last_cadence) AS cadence
    FROM (
        SELECT unnest(ids) AS id,
            unnest(first.kwh) AS first_kwh, unnest(last.kwh) AS last_kwh,
            unnest(first.samples) AS first_samples, unnest(last.samples) AS last_samples,
            unnest(first.cadence) AS first_cadence, unnest(last.cadence) AS last_cadence
        FROM roster, running_total AS first, running_total AS last
        WHERE roster.stream = {stream}
          AND first.stream = {stream} AND first.until = %({stream_name}_totals_from)s
          AND last.stream = {stream} AND last.until = %({stream_name}_totals_until)s
    ) AS counted
    UNION ALL
    SELECT {id}, coalesce(kwh, 0), 1, NULL
    FROM {belated}
    WHERE ts >= %({stream_name}_totals_from)s AND ts < %({stream_name}_totals_until)s
    UNION ALL
    SELECT {id},
        coalesce(kwh[least(upto, cardinality(kwh))], 0) - coalesce(kwh[least(after, cardinality(kwh))], 0),
        coalesce(samples[least(upto, cardinality(kwh))], 0) - coalesce(samples[least(after, cardinality(kwh))], 0),
        cadence
    FROM (
        -- The quarters of a day that follow number `after`, up to number `upto`.
        SELECT *,
            CASE day WHEN %({stream_name}_first_day)s THEN %({stream_name}_after)s ELSE 0 END AS after,
            CASE day WHEN %({stream_name}_last_day)s THEN %({stream_name}_upto)s ELSE 96 END AS upto
        FROM {day}
        WHERE day >= %({stream_name}_first_day)s AND day <= %({stream_name}_last_day)s
    ) AS device_day
    UNION ALL
    SELECT {id}, %({stream_name}_lead_sign)s * {energy}, %({stream_name}_lead_sign)s, NULL
    FROM {history}
    WHERE ts >= %({stream_name}_lead_from)s AND ts < %({stream_name}_lead_until)s
    UNION ALL
    SELECT {id}, {energy}, 1, NULL
    FROM {history}
    WHERE ts >= %({stream_name}_rolled_until)s AND ts < %({stream_name}_totals_from)s
      AND %({stream_name}_rolled_until)s < %({stream_name}_totals_from)s  -- or blocks are read for nothing
    UNION ALL
    SELECT {id}, {energy}, 1, NULL
    FROM {history}
    WHERE ts >= %({stream_name}_totals_until)s AND ts < %(end)s
) AS part
GROUP BY id
HAVING sum(samples) > 0

-- name: energy_of_all
-- Every device of the stream with a reading in [start, end): its energy, and how many seconds its readings cover. Devices
-- with a register are looked at one by one, and so are those with late readings where rollups were summed up.
SELECT id, kwh, seconds
FROM (
    WITH one_by_one AS MATERIALIZED (
        SELECT row_number() OVER () AS span, id, %(start)s::timestamptz AS start_at, %(end)s::timestamptz AS end_at
        FROM (
            SELECT {id} AS id
            FROM {late}
            WHERE since < %({stream_name}_rolled_until)s AND %({stream_name}_first_day)s <= %({stream_name}_last_day)s
            UNION
            SELECT id FROM ({with_a_register}) AS register
        ) AS device
    )
    SELECT id, kwh, samples * coalesce(device.cadence, {cadence}, 0) AS seconds
    FROM (
        SELECT *, %(start)s::timestamptz AS start_at, %(end)s::timestamptz AS end_at
        FROM ({sums_of_all}) AS sums
        WHERE id NOT IN (SELECT id FROM one_by_one)
    ) AS device
    UNION ALL
    SELECT id, kwh, samples * coalesce({cadence}, 0)
    FROM (
        SELECT id, start_at, end_at, sum(kwh) AS kwh, sum(samples) AS samples
        FROM ({readings_one_by_one}) AS reading
        JOIN one_by_one USING (span)
        GROUP BY id, start_at, end_at
    ) AS device
) AS energy

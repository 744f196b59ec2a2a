-- The rollups of one stream: how they follow the readings.

-- name: progress
-- How far rollups and running totals are, whether anything came late that was rolled up, and from when on there is
-- history that is not.
SELECT
    nullif(announced, '-infinity') AS announced,
    nullif(settled, '-infinity') AS settled,
    plausible_kw,
    latest.counted,
    latest.pace,
    worth,
    coalesce((SELECT sum(pg_stat_get_tuples_inserted(inhrelid)) FROM pg_inherits WHERE inhparent = '{history}'::regclass), 0)::bigint AS stored,
    EXISTS (SELECT FROM {belated}) AS belated,
    EXISTS (SELECT FROM {late} WHERE since < settled) AS late,
    (
        -- Told by the bounds, as a partition that somebody attached may have any name, and be of more than a day.
        SELECT greatest(settled, min(bounds[1]::timestamptz))
        FROM pg_inherits
        JOIN pg_class AS child ON child.oid = inhrelid
        CROSS JOIN LATERAL regexp_match(pg_get_expr(relpartbound, child.oid), 'FROM \(''(.+)''\) TO \(''(.+)''\)') AS bounds
        WHERE inhparent = '{history}'::regclass AND bounds[2]::timestamptz > settled
        HAVING count(*) > 0
    ) AS resume
FROM rollup
CROSS JOIN (SELECT 2 * cardinality(ids) AS worth FROM roster WHERE stream = {stream}) AS roster
CROSS JOIN LATERAL (
    SELECT max(until) AS counted,
        -- In how long two readings a device have come, lately; twice as long as nothing has come for.
        (max(until) - min(until)) * coalesce(worth / nullif(max(readings) - min(readings), 0)::double precision, 2) AS pace
    FROM (SELECT until, readings FROM running_total WHERE stream = {stream} ORDER BY until DESC LIMIT 2) AS last_two
) AS latest
WHERE stream = {stream}

-- name: start_again
-- Registers have to be read anew, with another plausible power.
UPDATE rollup SET settled = '-infinity', plausible_kw = %(plausible_kw)s WHERE stream = {stream}

-- name: begin
-- From the oldest history there is. History may have been written to by others, so running totals begin anew as well.
WITH outdated AS (
    DELETE FROM running_total WHERE stream = {stream}
), uncounted AS (
    DELETE FROM {belated}
)
UPDATE rollup SET settled = %(from)s, announced = greatest(announced, %(from)s) WHERE stream = {stream}

-- name: hold_announcements
-- Waits until every transaction that asked what is late has ended, and holds new ones up until this one has.
SELECT pg_advisory_xact_lock(1768843110, 0)

-- name: announce
-- From now on, readings older than this are late.
UPDATE rollup SET announced = %(until)s WHERE stream = {stream} AND announced < %(until)s

-- name: only_one
-- One roll-up of a stream at a time, whoever does it; what it starts from is read under the lock.
SELECT FROM rollup WHERE stream = {stream} FOR UPDATE

-- name: roll_up
-- Brings the rollups from `settled` to `until`, a quarter of an hour later or the same moment, and does over again what
-- readings came into late, to the end of their day. The quarters of a day are numbered from 1; this one is `number`.
-- Runs without nested loops, but for what is LATERAL and has a LIMIT or OFFSET: looks at one device after the other.
WITH late AS (
    DELETE FROM {late} AS late
    USING (
        SELECT {id}, since::date AS day
        FROM {late}
        WHERE since < %(settled)s
        GROUP BY {id}, since::date
        ORDER BY day, {id}
        LIMIT %(most_late)s
    ) AS oldest
    WHERE late.{id} = oldest.{id} AND late.since::date = oldest.day AND late.since < %(settled)s
    RETURNING late.{id} AS id, late.since
), in_time AS (
    -- Late for an announcement, but not for this.
    DELETE FROM {late} WHERE since >= %(settled)s AND since < %(until)s
), late_day AS MATERIALIZED (
    SELECT id, day, min(first) AS first
    FROM (
        SELECT id, since::date AS day, extract(epoch FROM since - since::date::timestamptz)::integer / 900 + 1 AS first
        FROM late
        UNION ALL
        -- What a register's reading counts for depends on those before it: all that follows is done over again.
        SELECT earliest.id, following.day::date, 1
        FROM (SELECT id, min(since) AS since FROM late GROUP BY id) AS earliest
        CROSS JOIN LATERAL (
            SELECT FROM {history} WHERE {id} = earliest.id AND ts >= earliest.since AND {register} IS NOT NULL LIMIT 1
        ) AS with_a_register
        CROSS JOIN LATERAL generate_series(
            earliest.since::date + 1, (%(until)s::timestamptz - interval '1 microsecond')::date, '1 day'
        ) AS following(day)
    ) AS again
    GROUP BY id, day
), fresh AS MATERIALIZED (
    SELECT {id} AS id, sum({energy}) AS kwh, count(*)::integer AS samples, sum({averaged}) AS averaged,
        count({register}) AS registers
    FROM {history}
    WHERE ts >= %(settled)s AND ts < %(until)s
    GROUP BY {id}
), appended AS (
    -- As a rule, one more element is all it takes; while it is unknown, and every six hours, the cadence is measured.
    UPDATE {day} AS rolled
    SET kwh = ingestd_first(rolled.kwh, %(number)s - 1, 0) || (rolled.kwh[cardinality(rolled.kwh)] + fresh.kwh),
        samples = ingestd_first(rolled.samples, %(number)s - 1, 0) || (rolled.samples[cardinality(rolled.kwh)] + fresh.samples),
        averaged = ingestd_first(rolled.averaged, %(number)s - 1, 0) || (rolled.averaged[cardinality(rolled.kwh)] + fresh.averaged)
    FROM fresh
    WHERE rolled.{id} = fresh.id AND rolled.day = %(settled)s::timestamptz::date
      AND cardinality(rolled.kwh) < %(number)s AND rolled.mark IS NULL AND fresh.registers = 0
      AND rolled.cadence IS NOT NULL AND %(number)s %% 24 <> 1
      AND NOT EXISTS (SELECT FROM late_day WHERE late_day.id = fresh.id AND late_day.day = %(settled)s::timestamptz::date)
    RETURNING rolled.{id} AS id
), device_day AS MATERIALIZED (
    -- The others are made with care: a day's first readings, registers, what came late, and all of them at times.
    SELECT id, day, first FROM late_day
    UNION ALL
    SELECT id, %(settled)s::timestamptz::date, %(number)s::integer
    FROM fresh
    WHERE NOT EXISTS (SELECT FROM appended WHERE appended.id = fresh.id)
      AND NOT EXISTS (SELECT FROM late_day WHERE late_day.id = fresh.id AND late_day.day = %(settled)s::timestamptz::date)
), before AS MATERIALIZED (
    -- The state of each device's register, if it has one, before the first reading that is taken.
    SELECT device.id, ARRAY[state.mark_at, state.mark] AS state
    FROM (
        SELECT id, min(day::timestamptz + (first - 1) * interval '15 minutes') AS fold_from
        FROM device_day GROUP BY id
    ) AS device
    CROSS JOIN LATERAL (
        SELECT
            mark[least(cardinality(mark), ceil(extract(epoch FROM device.fold_from - day::timestamptz) / 900)::integer)] AS mark,
            mark_at[least(cardinality(mark), ceil(extract(epoch FROM device.fold_from - day::timestamptz) / 900)::integer)] AS mark_at
        FROM {day}
        WHERE {id} = device.id AND day::timestamptz < device.fold_from
        ORDER BY day DESC
        LIMIT 1
    ) AS state
), taken AS MATERIALIZED (
    SELECT id, day, first, ts, energy, register, averaged
    FROM device_day
    CROSS JOIN LATERAL (
        SELECT ts, {energy} AS energy, {register} AS register, {averaged} AS averaged
        FROM {history}
        WHERE {id} = id
          AND ts >= day::timestamptz + (first - 1) * interval '15 minutes'
          AND ts < least((day + 1)::timestamptz, %(until)s)
        OFFSET 0
    ) AS reading
), registers AS (
    SELECT id, day, first, ts, averaged, register, extract(epoch FROM ts)::double precision AS taken_at,
        coalesce(
            lead(ARRAY[register, extract(epoch FROM ts)::double precision]) OVER (PARTITION BY id ORDER BY ts),
            (
                SELECT ARRAY[{register}, extract(epoch FROM ts)::double precision]
                FROM {history}
                WHERE {id} = taken.id AND ts >= %(until)s AND {register} IS NOT NULL
                ORDER BY ts LIMIT 1
            )
        ) AS next
    FROM taken
    WHERE register IS NOT NULL
), folded AS MATERIALIZED (
    SELECT id, day, first, ts, averaged, next,
        ingestd_register(register, taken_at, next[1], next[2], state[2], state[1], %(plausible_kw)s)
            OVER (PARTITION BY id ORDER BY ts) AS step
    FROM registers LEFT JOIN before USING (id)
), undecided AS (
    -- What a reading far off counts for is up to the next one, which may still come or be forestalled.
    INSERT INTO {late} ({id}, since)
    SELECT id, date_bin('15 minutes', ts, timestamptz '2000-01-01 00:00+00')
    FROM folded
    WHERE (next IS NULL OR next[2] >= extract(epoch FROM %(until)s::timestamptz)) AND step[4] + step[5] > 0
), quarter AS MATERIALIZED (
    SELECT id, day, first, (extract(epoch FROM starts - day::timestamptz) / 900)::integer + 1 AS number,
        sum(kwh) AS kwh, count(*)::integer AS samples, sum(averaged) AS averaged,
        max(state) AS state, sum(resets)::integer AS resets, sum(excluded)::integer AS excluded
    FROM (
        SELECT id, day, first, ts, date_bin('15 minutes', ts, timestamptz '2000-01-01 00:00+00') AS starts,
            energy AS kwh, averaged, NULL::double precision[] AS state, 0 AS resets, 0 AS excluded
        FROM taken WHERE register IS NULL
        UNION ALL
        SELECT id, day, first, ts, date_bin('15 minutes', ts, timestamptz '2000-01-01 00:00+00'),
            step[3], averaged, ARRAY[step[2], step[1]], step[4]::integer, step[5]::integer
        FROM folded
    ) AS reading
    GROUP BY id, day, first, starts
), rolled AS MATERIALIZED (
    -- What there is of the day already, where the day is not begun anew.
    SELECT added.*, known.kwh, known.samples, known.averaged, known.resets, known.excluded,
        known.mark, known.mark_at
    FROM (SELECT id, day, first, max(number) AS last FROM quarter GROUP BY id, day, first) AS added
    LEFT JOIN LATERAL (
        SELECT * FROM {day} AS known WHERE known.{id} = added.id AND known.day = added.day AND added.first > 1 LIMIT 1
    ) AS known ON true
), dense AS (
    -- Every quarter from the first on, also those without a reading; sums run on from what was there.
    SELECT rolled.id, rolled.day, number,
        coalesce(rolled.kwh[least(first - 1, cardinality(rolled.kwh))], 0) + sum(coalesce(quarter.kwh, 0)) OVER so_far AS kwh,
        coalesce(rolled.samples[least(first - 1, cardinality(rolled.kwh))], 0) + sum(coalesce(quarter.samples, 0)) OVER so_far AS samples,
        coalesce(rolled.averaged[least(first - 1, cardinality(rolled.kwh))], 0) + sum(coalesce(quarter.averaged, 0)) OVER so_far AS averaged,
        coalesce(rolled.resets[least(first - 1, cardinality(rolled.kwh))], 0) + sum(coalesce(quarter.resets, 0)) OVER so_far AS resets,
        coalesce(rolled.excluded[least(first - 1, cardinality(rolled.kwh))], 0) + sum(coalesce(quarter.excluded, 0)) OVER so_far AS excluded,
        -- The time of the last good reading never goes back: the greatest state is the newest.
        coalesce(max(quarter.state) OVER (PARTITION BY rolled.id ORDER BY rolled.day, number), before.state) AS state
    FROM rolled
    CROSS JOIN LATERAL generate_series(rolled.first, rolled.last) AS number
    LEFT JOIN quarter USING (id, day, first, number)
    LEFT JOIN before USING (id)
    WINDOW so_far AS (PARTITION BY rolled.id, rolled.day ORDER BY number)
), measured AS MATERIALIZED (
    SELECT device.id, spacing.median AS cadence
    FROM (SELECT DISTINCT id FROM rolled) AS device
    CROSS JOIN LATERAL (
        SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY seconds) AS median
        FROM (
            SELECT extract(epoch FROM ts - lag(ts) OVER (ORDER BY ts ROWS UNBOUNDED PRECEDING)) AS seconds
            FROM (
                SELECT ts FROM {history}
                WHERE {id} = device.id AND ts < %(until)s AND ts >= %(until)s::timestamptz - interval '7 days'
                ORDER BY ts DESC LIMIT 100
            ) AS latest
        ) AS apart
    ) AS spacing
), written AS (
    INSERT INTO {day} ({id}, day, kwh, samples, averaged, mark, mark_at, resets, excluded, cadence)
    SELECT id, day,
        ingestd_first(rolled.kwh, first - 1, 0) || made.kwh,
        ingestd_first(rolled.samples, first - 1, 0) || made.samples,
        ingestd_first(rolled.averaged, first - 1, 0) || made.averaged,
        CASE WHEN registered THEN ingestd_first(rolled.mark, first - 1, before.state[2]) || made.mark END,
        CASE WHEN registered THEN ingestd_first(rolled.mark_at, first - 1, before.state[1]) || made.mark_at END,
        CASE WHEN registered THEN ingestd_first(rolled.resets, first - 1, 0) || made.resets END,
        CASE WHEN registered THEN ingestd_first(rolled.excluded, first - 1, 0) || made.excluded END,
        measured.cadence
    FROM rolled
    JOIN (
        SELECT id, day,
            array_agg(kwh ORDER BY number) AS kwh,
            array_agg(samples::integer ORDER BY number) AS samples,
            array_agg(averaged ORDER BY number) AS averaged,
            array_agg(state[2] ORDER BY number) AS mark,
            array_agg(state[1] ORDER BY number) AS mark_at,
            array_agg(resets::integer ORDER BY number) AS resets,
            array_agg(excluded::integer ORDER BY number) AS excluded,
            bool_or(state[2] IS NOT NULL) AS registered
        FROM dense
        GROUP BY id, day
    ) AS made USING (id, day)
    JOIN measured USING (id)
    LEFT JOIN before USING (id)
    ON CONFLICT ({id}, day) DO UPDATE SET
        kwh = excluded.kwh, samples = excluded.samples, averaged = excluded.averaged,
        mark = excluded.mark, mark_at = excluded.mark_at, resets = excluded.resets, excluded = excluded.excluded,
        cadence = excluded.cadence
)
UPDATE rollup SET settled = %(until)s WHERE stream = {stream} AND settled < %(until)s

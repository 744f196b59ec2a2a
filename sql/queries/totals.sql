-- The running totals of one stream: how they follow the readings.

-- name: begin_totals
-- From here on, with the devices that the rollups know.
WITH enrolled AS (
    UPDATE roster SET ids = ARRAY(SELECT {id} FROM {day} WHERE day = %(day)s) WHERE stream = {stream}
)
INSERT INTO running_total (stream, until, readings, kwh, samples, registers, cadence)
VALUES ({stream}, %(until)s, 0, '{{}}', '{{}}', '{{}}', '{{}}')

-- name: count_up
-- The totals at `until` are those at `counted` and what came between.
WITH total AS MATERIALIZED (
    SELECT array_agg(id) AS ids, array_agg(kwh) AS kwh, array_agg(samples) AS samples, array_agg(registers) AS registers,
        array_agg(cadence) AS cadence, sum(samples) AS readings
    FROM (
        SELECT id,
            coalesce(before.kwh, 0) + coalesce(fresh.kwh, 0) AS kwh,
            coalesce(before.samples, 0) + coalesce(fresh.samples, 0) AS samples,
            coalesce(before.registers, 0) + coalesce(fresh.registers, 0) AS registers,
            before.cadence
        FROM (
            SELECT unnest(ids) AS id, generate_subscripts(ids, 1) AS place,
                unnest(kwh) AS kwh, unnest(samples) AS samples, unnest(registers) AS registers, unnest(cadence) AS cadence
            FROM running_total JOIN roster USING (stream)
            WHERE stream = {stream} AND until = %(counted)s
        ) AS before
        FULL JOIN (
            SELECT {id} AS id, sum({energy}) AS kwh, count(*)::integer AS samples, count({register})::integer AS registers
            FROM {history}
            WHERE ts >= %(counted)s AND ts < %(until)s
            GROUP BY {id}
        ) AS fresh USING (id)
        ORDER BY place NULLS LAST
    ) AS device
), enrolled AS (
    UPDATE roster SET ids = total.ids FROM total WHERE stream = {stream} AND cardinality(roster.ids) < cardinality(total.ids)
), in_time AS (
    -- Late for an announcement, but not for this.
    DELETE FROM {belated} WHERE ts >= %(counted)s AND ts < %(until)s
)
INSERT INTO running_total (stream, until, readings, kwh, samples, registers, cadence)
SELECT {stream}, %(until)s, coalesce(readings, 0), coalesce(kwh, '{{}}'), coalesce(samples, '{{}}'), coalesce(registers, '{{}}'), coalesce(cadence, '{{}}')
FROM total

-- name: fold_belated
-- Takes belated readings into the totals, once there are so many that reading them each time is worse: every one of them
-- then pays for twenty elements written anew at most. Of the totals after a reading, the first lacks it first.
WITH due AS MATERIALIZED (
    SELECT newest.until
    FROM (SELECT max(until) AS until FROM running_total WHERE stream = {stream}) AS newest
    JOIN {belated} ON ts < newest.until
    GROUP BY newest.until
    HAVING 20 * count(*) > (SELECT cardinality(ids) FROM roster WHERE stream = {stream})
        * (SELECT count(*) FROM running_total WHERE stream = {stream} AND until > min(ts))
), folded AS (
    DELETE FROM {belated} USING due WHERE ts < due.until RETURNING {id} AS id, date_bin('10 seconds', ts, timestamptz '2000-01-01 00:00+00') AS at, kwh
), missing AS MATERIALIZED (
    SELECT id, until, sum(kwh) AS kwh, count(*) AS samples, count(*) - count(kwh) AS registers
    FROM folded
    JOIN (
        -- Totals end on whole tens of seconds.
        SELECT at, (SELECT min(until) FROM running_total WHERE stream = {stream} AND until > at) AS until
        FROM folded
        GROUP BY at
    ) AS first_after USING (at)
    GROUP BY id, until
), known AS MATERIALIZED (
    SELECT ids || ARRAY(SELECT id FROM missing EXCEPT SELECT unnest(ids)) AS ids FROM roster WHERE stream = {stream}
), enrolled AS (
    UPDATE roster SET ids = known.ids FROM known WHERE stream = {stream} AND cardinality(roster.ids) < cardinality(known.ids)
)
UPDATE running_total AS total
SET readings = made.readings, kwh = made.kwh, samples = made.samples, registers = made.registers
FROM (
    SELECT until,
        sum(samples) AS readings,
        array_agg(kwh ORDER BY place) AS kwh,
        array_agg(samples ORDER BY place) AS samples,
        array_agg(registers ORDER BY place) AS registers
    FROM (
        SELECT until, place,
            coalesce(device.kwh, 0) + coalesce(sum(missing.kwh) OVER so_far, 0) AS kwh,
            (coalesce(device.samples, 0) + coalesce(sum(missing.samples) OVER so_far, 0))::integer AS samples,
            (coalesce(device.registers, 0) + coalesce(sum(missing.registers) OVER so_far, 0))::integer AS registers
        FROM (
            SELECT until, unnest(known.ids) AS id, generate_subscripts(known.ids, 1) AS place,
                unnest(kwh) AS kwh, unnest(samples) AS samples, unnest(registers) AS registers
            FROM running_total, known
            WHERE stream = {stream} AND until >= (SELECT min(until) FROM missing)
        ) AS device
        LEFT JOIN missing USING (id, until)
        WINDOW so_far AS (PARTITION BY place ORDER BY until)
    ) AS element
    GROUP BY until
) AS made
WHERE stream = {stream} AND total.until = made.until

-- name: note_cadences
-- Into the newest totals, from the rollups, which measure them; those that follow take them over.
UPDATE running_total
SET cadence = ARRAY(
    SELECT coalesce(rolled.cadence, device.cadence)
    FROM (
        SELECT unnest(ids) AS id, generate_subscripts(ids, 1) AS place, unnest(cadence) AS cadence
        FROM roster
        WHERE roster.stream = {stream}
    ) AS device
    LEFT JOIN {day} AS rolled ON rolled.{id} = device.id AND rolled.day = %(day)s
    ORDER BY place
)
WHERE stream = {stream} AND until = (SELECT max(until) FROM running_total WHERE stream = {stream})

-- name: forget_totals
-- Totals that are too old to be asked for, and with them what came too late for them.
WITH old AS (
    DELETE FROM running_total WHERE stream = {stream} AND until < %(before)s
)
DELETE FROM {belated} WHERE ts < %(before)s

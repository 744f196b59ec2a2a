-- Charging sessions, derived from the readings. The window is half-open: [start, end).

-- name: sessions
-- A session is a run of readings with energy; `pause` without energy does not end it, a longer one does, and so does
-- a silence of more than three times the vehicle's cadence and of more than `pause`. It begins with the interval of
-- its first reading with energy and ends with its last one.
WITH vehicle_span AS (
    SELECT 0 AS span, %(vehicle_id)s::text AS id, %(start)s::timestamptz AS start_at, %(end)s::timestamptz AS end_at
), rate AS MATERIALIZED (
    SELECT make_interval(secs => coalesce(cadence, 0)) AS cadence,
        greatest(%(pause)s, 3 * make_interval(secs => cadence)) AS silence
    FROM ({vehicle_cadence}) AS own
), reading AS (
    SELECT at, kwh, soc, averaged AS temperature,
        lag(at) OVER in_order AS before,
        lag(soc) OVER in_order AS soc_before,
        max(at) FILTER (WHERE kwh > 0) OVER (ORDER BY at ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS charged_before
    FROM ({vehicle_readings}) AS reading
    WINDOW in_order AS (ORDER BY at)
), marked AS (
    SELECT reading.*, cadence,
        coalesce(at - before <= silence, false) AS follows,
        kwh > 0 AND coalesce(before - charged_before > %(pause)s OR at - before > silence, true) AS begins
    FROM reading CROSS JOIN rate
), numbered AS (
    SELECT marked.*, count(*) FILTER (WHERE begins) OVER (ORDER BY at) AS session FROM marked
), bounded AS (
    SELECT numbered.*, max(at) FILTER (WHERE kwh > 0) OVER (PARTITION BY session) AS charged_last
    FROM numbered
    WHERE session > 0
), session AS MATERIALIZED (
    SELECT session,
        -- Its first interval began with the reading before, or where that is missing, as long ago as usual.
        greatest(min(CASE WHEN follows THEN before ELSE at - cadence END) FILTER (WHERE begins), %(start)s) AS start_at,
        max(at) AS end_at,
        sum(kwh) AS dc_kwh,
        min(CASE WHEN follows THEN soc_before ELSE soc END) FILTER (WHERE begins) AS soc_from,
        (array_agg(soc ORDER BY at DESC))[1] AS soc_to,
        max(temperature) AS max_temperature,
        count(*) AS samples
    FROM bounded
    WHERE at <= charged_last
    GROUP BY session
), meter_span AS MATERIALIZED (
    SELECT row_number() OVER () AS span, meter_id AS id,
        greatest(valid_from, %(start)s) AS start_at,
        least(coalesce(valid_to, 'infinity'), %(end)s) AS end_at
    FROM vehicle_meter_mapping
    WHERE vehicle_id = %(vehicle_id)s
      AND valid_from < %(end)s
      AND coalesce(valid_to, 'infinity') > %(start)s
), meter_rate AS MATERIALIZED (
    {meter_cadences}
), drawing AS (
    -- Readings of the meter whose intervals the session has a part in: later than its start, and less than an interval
    -- later than its end. One between two sessions belongs to the second.
    SELECT session,
        start_at + interval '1 microsecond' AS start_at,
        end_at + interval '1 microsecond' AS end_at,
        lead(start_at) OVER (ORDER BY start_at) + interval '1 microsecond' AS next_at
    FROM session
), pairs AS MATERIALIZED (
    SELECT row_number() OVER () AS pair, session, vehicle_id, meter_id, start_at, end_at
    FROM (
        SELECT session, %(vehicle_id)s::text AS vehicle_id, id AS meter_id,
            greatest(meter_span.start_at, drawing.start_at) AS start_at,
            least(meter_span.end_at, next_at, greatest(drawing.end_at, drawing.end_at - interval '1 microsecond' + make_interval(secs => cadence))) AS end_at
        FROM drawing
        CROSS JOIN meter_span
        JOIN meter_rate USING (span)
    ) AS part
    WHERE start_at < end_at
), drawn AS (
    SELECT session, sum(ac_kwh) AS ac_kwh
    FROM pairs JOIN ({shares}) AS share USING (pair)
    GROUP BY session
)
SELECT start_at AS start, end_at AS "end",
    coalesce((SELECT ts FROM vehicle_live WHERE vehicle_id = %(vehicle_id)s) <= end_at + %(pause)s, false) AS open,
    coalesce(ac_kwh, 0) AS ac_kwh, dc_kwh, soc_from, soc_to, max_temperature, samples
FROM session
LEFT JOIN drawn USING (session)
ORDER BY start_at

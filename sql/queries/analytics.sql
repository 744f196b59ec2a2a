-- The reads behind /v1/analytics. Windows are half-open: [start, end).

-- name: reached
-- Up to where the rollups of a stream have come, and up to where those of all its devices can be relied on; the running
-- totals closest to the window's start, and the last that do not lie after its end, NULL where there are none in it. The
-- oldest are not used: they may be forgotten before they are read. Asked first, so that the statement that follows
-- knows what it can do without.
SELECT
    stream,
    nullif(settled, '-infinity') AS settled,
    nullif(least(settled, (SELECT min(since) FROM {late})), '-infinity') AS reliable_until,
    CASE WHEN %(start)s - before_start < after_start - %(start)s THEN before_start ELSE after_start END AS totals_from,
    CASE WHEN after_start IS NOT NULL THEN before_end END AS totals_until
FROM rollup
CROSS JOIN (SELECT max(until) - %(reach)s AS oldest FROM running_total WHERE stream = {stream}) AS totals
CROSS JOIN LATERAL (
    SELECT
        (SELECT max(until) FROM running_total WHERE stream = {stream} AND until > oldest AND until <= %(start)s) AS before_start,
        (SELECT min(until) FROM running_total WHERE stream = {stream} AND until > greatest(oldest, %(start)s) AND until <= %(end)s)
            AS after_start,
        (SELECT max(until) FROM running_total WHERE stream = {stream} AND until <= %(end)s) AS before_end
) AS around
WHERE stream = {stream}

-- name: vehicles
-- Every vehicle with a reading or a mapping in the window: its energy, that of its meters, and what is to be thought
-- of it. The same figures as in `performance`, for all vehicles at once, but for a cadence that changed in the window.
WITH mapping AS NOT MATERIALIZED (
    SELECT vehicle_id, meter_id, valid_from, coalesce(valid_to, 'infinity') AS valid_to
    FROM vehicle_meter_mapping
    WHERE valid_from < %(end)s AND coalesce(valid_to, 'infinity') > %(start)s
), fed AS (
    -- A meter as a rule fed one vehicle all the time.
    SELECT meter_id, min(vehicle_id) AS vehicle_id,
        count(*) = 1 AND bool_and(valid_from <= %(start)s AND valid_to >= %(end)s) AS alone
    FROM mapping
    GROUP BY meter_id
), meter AS MATERIALIZED (
    SELECT meter_id, vehicle_id, alone, id, kwh, seconds
    FROM fed
    FULL JOIN ({energy_of_all_meters}) AS energy ON id = meter_id
), pairs AS MATERIALIZED (
    SELECT row_number() OVER () AS pair, mapping.vehicle_id, meter_id,
        greatest(valid_from, %(start)s) AS start_at,
        least(valid_to, %(end)s) AS end_at
    FROM meter
    JOIN mapping USING (meter_id)
    WHERE NOT alone
), pair_span AS (
    SELECT pair AS span, meter_id AS id, start_at, end_at FROM pairs
), pair_latest AS MATERIALIZED (
    {pair_cadences}
), mapped AS (
    SELECT vehicle_id, coalesce(kwh, 0) AS ac_kwh, coalesce(seconds, 0) AS covered, %(elapsed)s::double precision AS seconds
    FROM meter
    WHERE alone
    UNION ALL
    SELECT vehicle_id, sum(ac_kwh), sum(coalesce(samples * cadence, 0)),
        sum(extract(epoch FROM least(end_at, greatest(start_at, now())) - start_at))
    FROM pairs
    JOIN ({shares}) AS share USING (pair)
    LEFT JOIN pair_latest AS own ON own.span = pair
    GROUP BY vehicle_id
), vehicle_energy AS (
    {energy_of_all_vehicles}
), judged AS MATERIALIZED (
    SELECT vehicle_id, reported, threshold, ac_kwh, dc_kwh, ingestd_status(is_mapped, ac_kwh, dc_kwh, coverage, threshold, %(min_kwh)s, %(min_coverage)s) AS status
    FROM (
        SELECT
            coalesce(mapped.vehicle_id, vehicle_energy.id) AS vehicle_id,
            vehicle_energy.id IS NOT NULL AS reported,
            coalesce(own.threshold, %(threshold)s) AS threshold,
            mapped.vehicle_id IS NOT NULL AS is_mapped,
            coalesce(mapped.ac_kwh, 0) AS ac_kwh,
            coalesce(vehicle_energy.kwh, 0) AS dc_kwh,
            least(
                1, coalesce(vehicle_energy.seconds / nullif(%(elapsed)s, 0), 0), coalesce(mapped.covered / nullif(mapped.seconds, 0), 0)
            )::double precision AS coverage
        FROM vehicle_energy
        FULL JOIN mapped ON mapped.vehicle_id = vehicle_energy.id
        LEFT JOIN device_setting AS own ON own.kind = 'vehicle' AND own.id = coalesce(mapped.vehicle_id, vehicle_energy.id)
        OFFSET 0  -- gives plain columns, so that the judgement is inlined: called 5,000 times, it would take half of the time
    ) AS vehicle
)
{answer}

-- name: fleet_answer
-- The whole of the fleet in one row.
SELECT
    ac.kwh AS ac_kwh, dc.kwh AS dc_kwh, ac.devices AS meters, dc.devices AS vehicles,
    dc.mapped_ac_kwh, dc.mapped_dc_kwh, dc.statuses,
    (
        SELECT coalesce(json_agg(worst ORDER BY ratio), '[]')
        FROM (
            SELECT vehicle_id, dc_kwh / ac_kwh AS ratio, ac_kwh, dc_kwh, status, threshold
            FROM judged
            WHERE status IN ('ok', 'below-threshold', 'implausible')
            ORDER BY ratio, vehicle_id
            LIMIT 10
        ) AS worst
    ) AS worst
FROM (SELECT coalesce(sum(kwh), 0) AS kwh, count(id) AS devices FROM meter) AS ac
CROSS JOIN (
    SELECT
        coalesce(sum(dc_kwh), 0) AS kwh,
        coalesce(sum(reported), 0)::bigint AS devices,
        coalesce(sum(ac_kwh) FILTER (WHERE status <> 'unmapped'), 0) AS mapped_ac_kwh,
        coalesce(sum(dc_kwh) FILTER (WHERE status <> 'unmapped'), 0) AS mapped_dc_kwh,
        coalesce(json_object_agg(status, vehicles), '{{}}') AS statuses
    FROM (
        SELECT status, count(*) AS vehicles, count(*) FILTER (WHERE reported) AS reported, sum(ac_kwh) AS ac_kwh, sum(dc_kwh) AS dc_kwh
        FROM judged
        GROUP BY status
    ) AS judgement
) AS dc

-- name: efficiencies_answer
-- Every mapped vehicle's efficiency, NULL where the figures do not bear one.
SELECT vehicle_id,
    CASE WHEN status IN ('ok', 'below-threshold', 'implausible') THEN dc_kwh / ac_kwh END AS efficiency_ratio,
    ac_kwh, dc_kwh, status, threshold
FROM judged
WHERE status <> 'unmapped'



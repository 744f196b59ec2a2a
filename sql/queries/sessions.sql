-- What charging sessions need apart from energy (device.sql).

-- name: meters_of_vehicle
-- Segments of the vehicle's mapping that overlap (start, end].
SELECT meter_id AS device, ingestd_microseconds(valid_from) AS start, ingestd_microseconds(valid_to) AS end
FROM vehicle_meter_mapping
WHERE vehicle_id = %(vehicle_id)s
  AND valid_from < %(end)s AND coalesce(valid_to, 'infinity') > %(start)s
ORDER BY valid_from

-- name: other_vehicles
-- Segments of other vehicles that a meter feeds and that overlap (start, end].
SELECT vehicle_id AS device, ingestd_microseconds(valid_from) AS start, ingestd_microseconds(valid_to) AS end
FROM vehicle_meter_mapping
WHERE meter_id = %(meter_id)s AND vehicle_id <> %(vehicle_id)s
  AND valid_from < %(end)s AND coalesce(valid_to, 'infinity') > %(start)s
ORDER BY valid_from, vehicle_id

-- name: session_socs
-- For each session: the state of charge at its start, or of its first reading, and at its end; and the time of the
-- vehicle's newest reading.
SELECT
    coalesce(
        (
            SELECT soc FROM vehicle_history
            WHERE vehicle_id = %(vehicle_id)s AND ts <= ingestd_timestamp(start) ORDER BY ts DESC LIMIT 1
        ),
        (
            SELECT soc FROM vehicle_history
            WHERE vehicle_id = %(vehicle_id)s AND ts > ingestd_timestamp(start) AND ts <= ingestd_timestamp("end")
            ORDER BY ts LIMIT 1
        )
    ) AS soc_from,
    (
        SELECT soc FROM vehicle_history
        WHERE vehicle_id = %(vehicle_id)s AND ts <= ingestd_timestamp("end") ORDER BY ts DESC LIMIT 1
    ) AS soc_to,
    (SELECT ingestd_microseconds(ts) FROM vehicle_live WHERE vehicle_id = %(vehicle_id)s) AS newest
FROM unnest(%(start)s::bigint[], %(end)s::bigint[]) WITH ORDINALITY AS session (start, "end", number)
ORDER BY number

-- name: maybe_charging
-- Vehicles, in order of their id, that have reported since `since` and whose readings of the `pause` before the newest
-- one may have energy: an interval with some, or a register that is not what it was before. Only their sessions can be
-- under way. `oldest` is `pause` before `since`.
WITH live AS (
    SELECT vehicle_id, ts AS newest FROM vehicle_live WHERE ts > %(since)s AND vehicle_id > %(after)s
), recent AS (
    SELECT
        vehicle_id, newest, max(kwh_delivered_dc) AS most,
        min(kwh_delivered_dc_register) AS lowest, max(kwh_delivered_dc_register) AS highest
    FROM live
    JOIN vehicle_history USING (vehicle_id)
    WHERE ts > %(oldest)s AND ts >= newest - %(pause)s::interval
      AND (kwh_delivered_dc > 0 OR kwh_delivered_dc_register IS NOT NULL)
    GROUP BY vehicle_id, newest
)
SELECT vehicle_id
FROM recent
WHERE most > 0 OR lowest < highest OR highest IS DISTINCT FROM (
    SELECT kwh_delivered_dc_register
    FROM vehicle_history AS before
    WHERE before.vehicle_id = recent.vehicle_id AND before.ts < newest - %(pause)s::interval
    ORDER BY before.ts DESC
    LIMIT 1
)
ORDER BY vehicle_id
LIMIT %(limit)s

-- The reads behind /v1/analytics. Windows are half-open: [start, end).

-- name: live
-- The newest reading of one device.
SELECT {columns} FROM {live} WHERE {id} = %(device_id)s

-- name: vehicle_energy
-- DC energy of one vehicle, and whether anything at all is known of it.
SELECT
    coalesce(sum(kwh_delivered_dc), 0) AS dc_kwh,
    avg(battery_temp) AS average_temperature,
    count(*) AS samples,
    EXISTS (SELECT FROM vehicle_live WHERE vehicle_id = %(vehicle_id)s)
        OR EXISTS (SELECT FROM vehicle_meter_mapping WHERE vehicle_id = %(vehicle_id)s) AS known
FROM vehicle_history
WHERE vehicle_id = %(vehicle_id)s AND ts >= %(start)s AND ts < %(end)s

-- name: mapped_energy
-- AC energy of each meter that fed the vehicle, for the part of the window in which it did.
SELECT segment.meter_id, segment.valid_from, segment.valid_to, energy.ac_kwh, energy.samples
FROM (
    SELECT
        meter_id,
        greatest(valid_from, %(start)s) AS valid_from,
        least(coalesce(valid_to, 'infinity'), %(end)s) AS valid_to
    FROM vehicle_meter_mapping
    WHERE vehicle_id = %(vehicle_id)s
      AND valid_from < %(end)s
      AND coalesce(valid_to, 'infinity') > %(start)s
) AS segment
CROSS JOIN LATERAL (
    SELECT coalesce(sum(kwh_consumed_ac), 0) AS ac_kwh, count(*) AS samples
    FROM meter_history
    WHERE meter_id = segment.meter_id AND ts >= segment.valid_from AND ts < segment.valid_to
) AS energy
ORDER BY segment.valid_from

-- name: fleet_energy
-- Everything in the window, whatever is mapped to what.
SELECT ac.kwh AS ac_kwh, dc.kwh AS dc_kwh, ac.devices AS meters, dc.devices AS vehicles
FROM (
    SELECT coalesce(sum(kwh_consumed_ac), 0) AS kwh, count(DISTINCT meter_id) AS devices
    FROM meter_history WHERE ts >= %(start)s AND ts < %(end)s
) AS ac
CROSS JOIN (
    SELECT coalesce(sum(kwh_delivered_dc), 0) AS kwh, count(DISTINCT vehicle_id) AS devices
    FROM vehicle_history WHERE ts >= %(start)s AND ts < %(end)s
) AS dc

-- name: ping
-- For health: does the database answer?
SELECT 1

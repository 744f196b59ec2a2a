-- What the performance of a vehicle needs apart from energy (device.sql).

-- name: segments_of_vehicle
-- Segments of the mapping in (start, end]: those of the vehicle, and those of other vehicles that the same meter feeds
-- at the same time; each with the vehicle's own efficiency threshold. Without a segment there is one row with the
-- threshold alone.
SELECT DISTINCT
    (SELECT threshold FROM device_setting WHERE kind = 'vehicle' AND id = %(vehicle_id)s) AS threshold,
    other.vehicle_id, other.meter_id,
    ingestd_microseconds(greatest(other.valid_from, %(start)s)) AS start,
    ingestd_microseconds(least(other.valid_to, %(end)s)) AS end
FROM (SELECT) AS vehicle
LEFT JOIN vehicle_meter_mapping AS own ON own.vehicle_id = %(vehicle_id)s
    AND own.valid_from < %(end)s AND coalesce(own.valid_to, 'infinity') > %(start)s
LEFT JOIN vehicle_meter_mapping AS other ON other.meter_id = own.meter_id
    AND other.valid_from < coalesce(own.valid_to, 'infinity')
    AND coalesce(other.valid_to, 'infinity') > own.valid_from
    AND other.valid_from < %(end)s AND coalesce(other.valid_to, 'infinity') > %(start)s
ORDER BY start, other.vehicle_id

-- Whether a device is known; the most likely sign first. {live}, {quarter} and so on are tables of its stream.

-- name: known_by_live
-- The device has a live row: it has reported and was not forgotten.
SELECT true AS is_known FROM {live} WHERE {id} = %(id)s

-- name: known_by_mapping
-- The device is in a mapping, past or future.
SELECT true AS is_known FROM vehicle_meter_mapping WHERE {id} = %(id)s LIMIT 1

-- name: known_by_quarter
-- The device has a row in the ledger.
SELECT true AS is_known FROM {quarter} WHERE {id} = %(id)s LIMIT 1

-- name: known_by_reading
-- The device has a reading in history.
SELECT true AS is_known FROM {history} WHERE {id} = %(id)s LIMIT 1

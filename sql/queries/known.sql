-- Signs that a device is known, the likeliest first. {live}, {quarter} and so on are the tables of its stream.

-- name: known_by_live
-- It has reported, and was not forgotten.
SELECT true AS is_known FROM {live} WHERE {id} = %(id)s

-- name: known_by_mapping
-- It was mapped, or will be.
SELECT true AS is_known FROM vehicle_meter_mapping WHERE {id} = %(id)s LIMIT 1

-- name: known_by_quarter
-- The ledger has it.
SELECT true AS is_known FROM {quarter} WHERE {id} = %(id)s LIMIT 1

-- name: known_by_reading
-- History has it.
SELECT true AS is_known FROM {history} WHERE {id} = %(id)s LIMIT 1

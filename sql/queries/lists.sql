-- Lists of devices, by pages.

-- name: devices
-- Every device that has reported: its newest reading, and whether it is online: heard within the time that is set for
-- it, or for all.
SELECT {columns}, received_at > now() - coalesce(offline_after, %(offline_after)s) AS online
FROM {live} AS live
LEFT JOIN device_setting AS own ON own.kind = {stream} AND own.id = live.{id}

-- name: judged_devices
-- The same of vehicles, with what is to be thought of them; without a reading or a mapping there is nothing to judge.
SELECT device.*,
    coalesce(status, 'unmapped') AS status,
    CASE WHEN status IN ('ok', 'below-threshold', 'implausible') THEN dc_kwh / ac_kwh END AS efficiency_ratio
FROM ({devices}) AS device
LEFT JOIN judged USING (vehicle_id)
WHERE NOT %(below_threshold)s OR status = 'below-threshold'

-- name: page
-- Some of them, from behind the cursor on (keyset paging).
SELECT *
FROM ({devices}) AS device
WHERE (%(after_id)s::text IS NULL OR ({key}, {id}) {beyond} (%(after_key)s::{of_type}, %(after_id)s))
  AND (%(online)s::boolean IS NULL OR online = %(online)s)
ORDER BY {key} {direction}, {id} {direction}
LIMIT %(limit)s

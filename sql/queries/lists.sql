-- Lists of devices, by pages.

-- name: page
-- Devices that have reported, some of them, from behind the cursor on (keyset paging): the newest reading, whether the
-- device was heard within the time that is set for it or for all, and what is thought of its efficiency.
SELECT *
FROM (
    SELECT live.*, received_at > now() - coalesce(offline_after, %(offline_after)s::interval) AS online, status, efficiency_ratio
    FROM {live} AS live
    LEFT JOIN device_setting AS own ON own.kind = {stream} AND own.id = live.{id}
    LEFT JOIN unnest(%(ids)s::text[], %(statuses)s::text[], %(ratios)s::double precision[])
        AS judged (id, status, efficiency_ratio) ON judged.id = live.{id}
) AS device
WHERE (%(after_id)s::text IS NULL OR ({key}, {id}) {beyond} (%(after_key)s::{of_type}, %(after_id)s::text))
  AND (%(online)s::boolean IS NULL OR online = %(online)s::boolean)
  AND (%(status)s::text IS NULL OR status = %(status)s::text)
ORDER BY {key} {direction}, {id} {direction}
LIMIT %(limit)s

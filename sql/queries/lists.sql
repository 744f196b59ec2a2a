-- Lists of devices, page by page.

-- name: newest
-- The newest reading of one device.
SELECT {columns} FROM {live} WHERE {id} = %(device_id)s

-- name: page
-- One page of the devices that have reported, from the cursor on (keyset paging): the newest reading, whether the
-- device is online by its own limit or the limit for all, and a vehicle's efficiency. The planner sees the values of
-- the parameters, so it keeps one branch of each CASE, and reads a page by id along the key. A replica shows what was
-- at `shown_until`.
SELECT *
FROM (
    SELECT
        live.*,
        received_at > coalesce(%(shown_until)s::timestamptz, now())
            - coalesce(offline_after, %(offline_after)s::interval) AS online,
        status, efficiency_ratio,
        CASE %(sort)s::text
            WHEN 'lastSeen' THEN ingestd_microseconds(received_at)::double precision
            WHEN 'efficiency' THEN coalesce(efficiency_ratio, %(without_ratio)s::double precision)
        END AS sort_key
    FROM {live} AS live
    LEFT JOIN device_setting AS own ON own.kind = {stream} AND own.id = live.{id}
    LEFT JOIN unnest(%(ids)s::text[], %(statuses)s::text[], %(ratios)s::double precision[])
        AS efficiency (id, status, efficiency_ratio) ON efficiency.id = live.{id}
) AS device
WHERE CASE
        WHEN %(after_id)s::text IS NULL THEN true
        WHEN %(sort)s::text = 'id' AND %(descending)s::boolean THEN {id} < %(after_id)s::text
        WHEN %(sort)s::text = 'id' THEN {id} > %(after_id)s::text
        WHEN %(descending)s::boolean THEN (sort_key, {id}) < (%(after_key)s::double precision, %(after_id)s::text)
        ELSE (sort_key, {id}) > (%(after_key)s::double precision, %(after_id)s::text)
    END
  AND (%(online)s::boolean IS NULL OR online = %(online)s::boolean)
  AND (%(status)s::text IS NULL OR status = %(status)s::text)
ORDER BY
    CASE WHEN %(descending)s::boolean THEN sort_key END DESC, CASE WHEN NOT %(descending)s::boolean THEN sort_key END,
    CASE WHEN %(descending)s::boolean THEN {id} END DESC, CASE WHEN NOT %(descending)s::boolean THEN {id} END
LIMIT %(limit)s

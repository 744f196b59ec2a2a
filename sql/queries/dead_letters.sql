-- Dead letters. A filter that is NULL matches everything; the device is the second part of the topic.

-- name: page_dead_letters
-- One page, the newest first, with ids below the cursor (keyset paging: each page costs the same).
SELECT id, received_at, source, stream, topic, payload, reason, detail
FROM dead_letter
WHERE (%(reason)s::text IS NULL OR reason = %(reason)s)
  AND (%(device)s::text IS NULL OR split_part(topic, '/', 2) = %(device)s)
  AND (%(since)s::timestamptz IS NULL OR received_at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR received_at < %(until)s)
  AND (%(before)s::bigint IS NULL OR id < %(before)s)
ORDER BY id DESC
LIMIT %(limit)s

-- name: count_dead_letters
-- How many dead letters match the filter.
SELECT count(*) AS letters
FROM dead_letter
WHERE (%(reason)s::text IS NULL OR reason = %(reason)s)
  AND (%(device)s::text IS NULL OR split_part(topic, '/', 2) = %(device)s)
  AND (%(since)s::timestamptz IS NULL OR received_at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR received_at < %(until)s)

-- name: one_dead_letter
-- One dead letter by its id.
SELECT id, received_at, source, stream, topic, payload, reason, detail
FROM dead_letter
WHERE id = %(id)s

-- name: delete_dead_letters
-- Delete dead letters that were replayed.
DELETE FROM dead_letter WHERE id = ANY(%(ids)s) RETURNING id

-- name: purge_dead_letters
-- Delete the dead letters that match the filter, a limited number at a time, so that no transaction lasts long.
DELETE FROM dead_letter
WHERE id IN (
    SELECT id
    FROM dead_letter
    WHERE (%(reason)s::text IS NULL OR reason = %(reason)s)
      AND (%(device)s::text IS NULL OR split_part(topic, '/', 2) = %(device)s)
      AND (%(since)s::timestamptz IS NULL OR received_at >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR received_at < %(until)s)
    LIMIT %(limit)s
)
RETURNING id

-- name: dead_letter_bytes
-- About how much the dead letters take. Not pg_total_relation_size, which stays as it is when letters are deleted. Each
-- row also has `row_bytes` beside its texts.
SELECT
    count(*) * %(row_bytes)s::bigint
    + coalesce(sum(pg_column_size(payload) + pg_column_size(topic) + pg_column_size(detail)), 0)::bigint AS bytes
FROM dead_letter

-- name: recent_dead_letters
-- The number of dead letters of the last hour by device, the most first. `but`: a reason that is left out.
SELECT stream, split_part(topic, '/', 2) AS device, count(*) AS letters
FROM dead_letter
WHERE stored_at > now() - interval '1 hour' AND reason <> %(but)s
GROUP BY stream, device
ORDER BY letters DESC

-- name: expire_dead_letters
-- Delete the dead letters that were stored longer ago than `older_than`, a limited number at a time, so that no
-- transaction lasts long.
DELETE FROM dead_letter
WHERE id IN (SELECT id FROM dead_letter WHERE stored_at < now() - %(older_than)s::interval LIMIT %(limit)s)
RETURNING id

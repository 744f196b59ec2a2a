-- What could not become a reading. A filter that is NULL lets everything through; the device is the topic's.

-- name: page_dead_letters
-- The newest first, from behind the cursor on (keyset paging: a page costs the same however deep it lies).
SELECT id, received_at, source, stream, topic, payload, reason, detail
FROM dead_letter
WHERE (%(reason)s::text IS NULL OR reason = %(reason)s)
  AND (%(device)s::text IS NULL OR split_part(topic, '/', 2) = %(device)s)
  AND (%(since)s::timestamptz IS NULL OR received_at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR received_at < %(until)s)
  AND (%(before)s::bigint IS NULL OR id < %(before)s)
ORDER BY id DESC
LIMIT %(limit)s

-- name: one_dead_letter
-- Everything about one of them.
SELECT id, received_at, source, stream, topic, payload, reason, detail
FROM dead_letter
WHERE id = %(id)s

-- name: delete_dead_letters
-- Those that were replayed.
DELETE FROM dead_letter WHERE id = ANY(%(ids)s) RETURNING id

-- name: purge_dead_letters
-- All that the filter lets through, a few at a time so that no transaction grows long.
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

-- name: expire_dead_letters
-- Those stored longer ago than that, a few at a time so that no transaction grows long.
DELETE FROM dead_letter
WHERE id IN (SELECT id FROM dead_letter WHERE stored_at < now() - %(older_than)s::interval LIMIT %(limit)s)
RETURNING id

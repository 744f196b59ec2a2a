-- What could not become a reading.

-- name: list_dead_letters
-- The newest first; one reason only where given.
SELECT id, received_at, source, stream, topic, payload, reason, detail
FROM dead_letter
WHERE %(reason)s::text IS NULL OR reason = %(reason)s
ORDER BY id DESC
LIMIT %(limit)s

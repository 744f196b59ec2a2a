-- The audit: who changed what, and when.

-- name: add_audit
-- Add an entry, in the transaction of the change.
INSERT INTO audit (who, action, subject, before, after)
VALUES (%(who)s, %(action)s, %(subject)s, %(before)s::jsonb, %(after)s::jsonb)

-- name: page_audit
-- One page, the newest first, with ids below the cursor. A filter that is NULL matches everything.
SELECT id, at, who, action, subject, before, after
FROM audit
WHERE (%(action)s::text IS NULL OR action = %(action)s)
  AND (%(subject)s::text IS NULL OR subject = %(subject)s)
  AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
  AND (%(before)s::bigint IS NULL OR id < %(before)s)
ORDER BY id DESC
LIMIT %(limit)s

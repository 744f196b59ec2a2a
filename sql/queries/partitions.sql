-- History as a table of days: partitions are made, listed and dropped. The ledger as a table of months: partitions are
-- dropped.

-- name: make_partition
-- Make the partition of one day, given as days since 2000-01-01. Returns false if it exists.
SELECT ingestd_make_partition(%(history)s, date '2000-01-01' + %(day)s::integer)

-- name: today
-- Today by the database's clock, in UTC, as days since 2000-01-01.
SELECT current_date - date '2000-01-01'

-- name: list_partitions
-- The partitions of one table in order of days. Detached ones are listed, too: they still take room.
SELECT
    parent.relname AS table,
    child.relname AS name,
    to_date(right(child.relname, 8), 'YYYYMMDD') AS day,
    current_date - to_date(right(child.relname, 8), 'YYYYMMDD') AS age_days,
    coalesce(ingestd_table_size(child.oid), 0) AS bytes,
    CASE WHEN child.reltuples >= 0 THEN child.reltuples::bigint END AS rows,
    CASE
        WHEN NOT inhdetachpending THEN 'attached'
        WHEN obj_description(child.oid, 'pg_class') = %(mark)s THEN 'dropping'
        WHEN inhdetachpending THEN 'detaching'
        ELSE 'detached'
    END AS state
FROM pg_class AS parent
JOIN pg_class AS child
    ON child.relnamespace = parent.relnamespace
    AND child.relkind = 'r'
    AND child.relname ~ ('^' || parent.relname || '_\d\d\d\d\d\d\d\d$')
LEFT JOIN pg_inherits ON inhrelid = child.oid AND inhparent = parent.oid
WHERE parent.oid = %(history)s::regclass
ORDER BY day

-- name: try_drop_lock
-- Allow one daemon at a time to drop partitions of a table. A session holds the lock, because a drop takes several
-- transactions. Nobody waits for it, because finishing a detach waits for all running statements, and a waiting one
-- would be among them.
SELECT pg_try_advisory_lock(hashtext('ingestd-partitions'), hashtext(%(table)s))

-- name: drop_unlock
-- Release the lock. Closing the session would release it, too, but a little later.
SELECT pg_advisory_unlock(hashtext('ingestd-partitions'), hashtext(%(table)s))

-- name: steps_to_drop
-- For each partition of a table that is past its retention: the statements that drop it, to be run one by one. There
-- are none yet if the partition ended later than `made_until`. Citus cannot detach concurrently: there all readers and
-- writers of the table wait for a moment. A comment on the partition shows that ingestd has begun to drop it and has to
-- finish; a partition that an operator detached has no such comment and is left alone. The comment is removed if the
-- partition is to stay after all. Only one partition of a table can be half detached (PostgreSQL manual, ALTER TABLE,
-- DETACH PARTITION), so this one comes first. Partitions that only wait for their DROP come last, so that they delay no
-- other.
SELECT child.relname AS name, steps
FROM pg_class AS parent
JOIN pg_class AS child
    ON child.relnamespace = parent.relnamespace
    AND child.relkind = 'r'
    AND child.relname ~ ('^' || parent.relname || %(suffix)s)
LEFT JOIN pg_inherits ON inhrelid = child.oid AND inhparent = parent.oid
CROSS JOIN LATERAL (
    SELECT
        coalesce(obj_description(child.oid, 'pg_class') = %(mark)s, false) AS marked,
        -- The bounds say how new the rows can be; the name does not.
        (regexp_match(pg_get_expr(child.relpartbound, child.oid), 'TO \(''(.+)''\)'))[1]::timestamptz AS ended_at,
        'ALTER TABLE ' || parent.oid::regclass || ' DETACH PARTITION ' || child.oid::regclass AS detach,
        'COMMENT ON TABLE ' || child.oid::regclass || ' IS ' AS comment,
        CASE WHEN ingestd_is_distributed(child.oid) THEN '' ELSE ' CONCURRENTLY' END AS way,
        'DROP TABLE ' || child.oid::regclass AS drop
) AS its
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN inhrelid IS NULL AND marked THEN ARRAY[its.drop]
        WHEN inhdetachpending AND marked THEN ARRAY[detach || ' FINALIZE', its.drop]
        WHEN inhdetachpending THEN NULL
        WHEN ended_at <= least(now() - %(older_than)s::interval, %(made_until)s::timestamptz)
            THEN ARRAY[comment || quote_literal(%(mark)s::text), detach || way, its.drop]
        WHEN marked THEN ARRAY[comment || 'NULL']
        WHEN ended_at <= now() - %(older_than)s::interval THEN ARRAY[]::text[]
    END AS steps
) AS left_to_do
WHERE parent.oid = %(table)s::regclass AND steps IS NOT NULL
ORDER BY inhdetachpending DESC NULLS LAST, child.relname

-- name: ledger_made_until
-- Up to where the rows of all devices are made. Only readings up to there may be dropped. Infinity for a stream without
-- a ledger.
SELECT coalesce(min(made_until), 'infinity')::text AS made_until FROM ledger_share WHERE stream = %(stream)s

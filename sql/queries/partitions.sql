-- History as a table of days: made, listed, dropped. The ledger as a table of months: dropped.

-- name: make_partition
-- Of one day, given as days since 2000-01-01; false where it is there already.
SELECT ingestd_make_partition(%(history)s, date '2000-01-01' + %(day)s::integer)

-- name: today
-- By the database's clock, in UTC, as days since 2000-01-01.
SELECT current_date - date '2000-01-01'

-- name: list_partitions
-- The days of one table in order. A partition that was detached is no part of it any more, but still there.
SELECT
    parent.relname AS table,
    child.relname AS name,
    to_date(right(child.relname, 8), 'YYYYMMDD') AS day,
    current_date - to_date(right(child.relname, 8), 'YYYYMMDD') AS age_days,
    coalesce(pg_total_relation_size(child.oid), 0) AS bytes,
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
-- One daemon at a time drops partitions of a table. Held by the session, as a drop takes several transactions; and not
-- waited for, as a detach that is finished waits for all statements under way, this one included.
SELECT pg_try_advisory_lock(hashtext('ingestd-partitions'), hashtext(%(table)s))

-- name: drop_unlock
-- The end of the session would do it as well, but a moment later.
SELECT pg_advisory_unlock(hashtext('ingestd-partitions'), hashtext(%(table)s))

-- name: steps_to_drop
-- What is left to do about the partitions of one table whose time has ended, in statements to be run one by one; none
-- yet where one ended later than `made_until`. The mark tells what we began to drop, and have to finish, from what somebody
-- detached by hand, which is not ours to touch; it goes again where the partition is to stay after all. Only one
-- partition of a table can be half detached: that one comes first. Last come those that wait for nothing but their
-- DROP, so that they hold up no other.
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
        -- Told by the bounds and not by the name, as they say how new the rows can be.
        (regexp_match(pg_get_expr(child.relpartbound, child.oid), 'TO \(''(.+)''\)'))[1]::timestamptz AS ended_at,
        'ALTER TABLE ' || parent.oid::regclass || ' DETACH PARTITION ' || child.oid::regclass AS detach,
        'COMMENT ON TABLE ' || child.oid::regclass || ' IS ' AS comment,
        'DROP TABLE ' || child.oid::regclass AS drop
) AS its
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN inhrelid IS NULL AND marked THEN ARRAY[its.drop]
        WHEN inhdetachpending AND marked THEN ARRAY[detach || ' FINALIZE', its.drop]
        WHEN inhdetachpending THEN NULL
        WHEN ended_at <= least(now() - %(older_than)s::interval, %(made_until)s::timestamptz)
            THEN ARRAY[comment || quote_literal(%(mark)s::text), detach || ' CONCURRENTLY', its.drop]
        WHEN marked THEN ARRAY[comment || 'NULL']
        WHEN ended_at <= now() - %(older_than)s::interval THEN ARRAY[]::text[]
    END AS steps
) AS left_to_do
WHERE parent.oid = %(table)s::regclass AND steps IS NOT NULL
ORDER BY inhdetachpending DESC NULLS LAST, child.relname

-- name: ledger_made_until
-- Up to when the rows of all devices are made: what is older is not needed for them. A stream that the ledger has nothing
-- of needs none of it.
SELECT coalesce(min(made_until), 'infinity')::text AS made_until FROM ledger_share WHERE stream = %(stream)s

-- Distributes the tables over the workers of Citus (docs/scaling.md). Each `ingestd migrate` runs this where the
-- extension is in the database. What is distributed already stays as it is: so it can be run again, also for a new stream.
--
-- Tables of a stream are distributed by the device's id: all rows of a device are on one worker. Each worker has a copy of
-- the tables that queries join with those (reference tables). The others stay on the coordinator.

DO $$
DECLARE
    its record;
BEGIN
    -- Statements on shards call these.
    FOR its IN
        SELECT oid::regprocedure AS function
        FROM pg_proc
        WHERE oid IN ('ingestd_microseconds(timestamptz)'::regprocedure, 'ingestd_timestamp(bigint)'::regprocedure)
          AND NOT EXISTS (SELECT FROM pg_dist_object WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid)
    LOOP
        PERFORM create_distributed_function(its.function);
    END LOOP;

    FOR its IN
        SELECT name::regclass AS relation
        FROM unnest('{vehicle_meter_mapping,device_setting}'::text[]) AS name
        WHERE NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = name::regclass)
    LOOP
        PERFORM create_reference_table(its.relation);
        PERFORM truncate_local_data_after_distributing_table(its.relation);
    END LOOP;

    FOR its IN
        SELECT
            to_regclass(name || kind) AS relation,
            name || '_id' AS key,
            CASE WHEN kind = '_history' THEN 'none' ELSE name || '_history' END AS colocated
        FROM stream CROSS JOIN unnest('{_history,_live,_quarter,_hour,_stale}'::text[]) WITH ORDINALITY AS kinds (kind, number)
        WHERE to_regclass(name || kind) IS NOT NULL
          AND NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = to_regclass(name || kind))
        ORDER BY name, number
    LOOP
        PERFORM create_distributed_table(its.relation, its.key, colocate_with => its.colocated);
        -- The rows that were there before are on the workers now; without this, they would take room here, too.
        PERFORM truncate_local_data_after_distributing_table(its.relation);
    END LOOP;
END;
$$;

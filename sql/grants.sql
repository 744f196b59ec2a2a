-- What ingestd_app and ingestd_read may do (docs/security.md). Each `ingestd migrate` of ingestd_owner runs this, so a
-- new table has to be named here. Partitions need no rights: whoever goes through the parent needs rights on the parent.

DO $$
DECLARE
    its record;
BEGIN
    FOR its IN
        -- History only grows, and so does the audit.
        SELECT name || '_history' AS relation, 'SELECT, INSERT' AS rights FROM stream
        UNION ALL SELECT name || '_live', 'SELECT, INSERT, UPDATE, DELETE' FROM stream
        -- The ledger is made from history, again and again.
        UNION ALL SELECT name || kind, 'SELECT, INSERT, UPDATE, DELETE'
        FROM stream, unnest('{_quarter,_hour,_stale}'::text[]) AS kind WHERE has_energy
        UNION ALL VALUES
            ('ledger', 'SELECT, UPDATE'),
            ('ledger_share', 'SELECT, UPDATE'),
            ('vehicle_meter_mapping', 'SELECT, INSERT, UPDATE, DELETE'),
            ('device_setting', 'SELECT, INSERT, UPDATE, DELETE'),
            ('dead_letter', 'SELECT, INSERT, DELETE'),
            ('alert', 'SELECT, INSERT, UPDATE, DELETE'),
            ('alert_outbox', 'SELECT, INSERT, UPDATE, DELETE'),
            ('alert_watch', 'SELECT, INSERT, UPDATE'),
            ('broker_session', 'SELECT, INSERT, UPDATE, DELETE'),
            -- Number and time of an entry are the database's.
            ('audit', 'SELECT, INSERT (who, action, subject, before, after)'),
            ('stream', 'SELECT'),
            ('ingestd_migration', 'SELECT')
    LOOP
        EXECUTE format('REVOKE ALL ON %I FROM PUBLIC, ingestd_app, ingestd_read', its.relation);
        EXECUTE format('GRANT %s ON %I TO ingestd_app', its.rights, its.relation);
        EXECUTE format('GRANT SELECT ON %I TO ingestd_read', its.relation);
    END LOOP;
END;
$$;

GRANT EXECUTE ON FUNCTION ingestd_make_partition, ingestd_make_month TO ingestd_app;

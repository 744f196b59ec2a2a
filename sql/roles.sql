-- The roles of ingestd (docs/security.md). `ingestd roles` prints this for psql: connect to the database of ingestd, as a
-- superuser, or as its owner with CREATEROLE. It can be run again. It sets no passwords; afterwards:
--     \password ingestd_owner
--     \password ingestd_app
-- If another role has made the tables, hand them over first: REASSIGN OWNED BY that_role TO ingestd_owner
\set ON_ERROR_STOP on
SELECT current_schema() AS schema \gset
BEGIN;

-- ingestd_owner   owns the tables: it migrates, and drops what is past its retention
-- ingestd_app     stores and answers: it can neither change history, nor make or drop tables
-- ingestd_read    reads
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY '{ingestd_owner,ingestd_app,ingestd_read}'::text[] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', role);
        END IF;
    END LOOP;
END;
$$;

-- The database and the schema are for these three alone.
REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC;
REVOKE ALL ON SCHEMA :"schema" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"DBNAME" TO ingestd_owner, ingestd_app, ingestd_read;
GRANT USAGE ON SCHEMA :"schema" TO ingestd_owner, ingestd_app, ingestd_read;
GRANT CREATE ON SCHEMA :"schema" TO ingestd_owner;
-- Batches are staged in temporary tables.
GRANT TEMPORARY ON DATABASE :"DBNAME" TO ingestd_app;

COMMIT;

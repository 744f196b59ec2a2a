-- History (append-only), live rows, the mapping of vehicles to meters, settings of devices, dead letters.
--
-- Plain SQL that also runs on Citus: keys start with the device id, no serial ids on history, no triggers, no foreign
-- keys between big tables. Device ids sort by bytes (COLLATE "C"): nobody reads them in the order of a language, and
-- comparing bytes is several times faster.

-- The kinds of devices. `ingestd_create_stream` makes the tables of one, and adds it here.
CREATE TABLE stream (
    name       text     PRIMARY KEY,
    has_energy boolean  NOT NULL  -- so it has tables of the ledger
);

-- History and live rows of one kind of device. `figures` are the columns of what it sends, as in CREATE TABLE.
CREATE FUNCTION ingestd_create_history(stream text, figures text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE TABLE %1$I (
            %2$I        text COLLATE "C"  NOT NULL,
            ts          timestamptz       NOT NULL,
            received_at timestamptz       NOT NULL,
            %3$s,
            PRIMARY KEY (%2$I, ts)
        ) PARTITION BY RANGE (ts)',
        stream || '_history', stream || '_id', figures
    );
    -- For readings of all devices in a range of time. Rows are stored roughly in the order of time, so a BRIN index is
    -- enough, and a write to it costs almost nothing.
    EXECUTE format(
        'CREATE INDEX %I ON %I USING brin (ts) WITH (pages_per_range = 32, autosummarize = on)',
        stream || '_history_ts', stream || '_history'
    );
    -- Half of every page stays free, so that the new version of an updated row fits on the same page. Then no index
    -- changes (a HOT update: PostgreSQL manual, 'Heap-Only Tuples'). No column that changes is indexed.
    EXECUTE format(
        'CREATE TABLE %I (LIKE %I, PRIMARY KEY (%I)) WITH (fillfactor = 50)',
        stream || '_live', stream || '_history', stream || '_id'
    );
END;
$$;

-- Which meter feeds which vehicle, from valid_from up to but not including valid_to (NULL: until further notice).
CREATE TABLE vehicle_meter_mapping (
    vehicle_id text COLLATE "C"  NOT NULL,
    valid_from timestamptz       NOT NULL,
    valid_to   timestamptz,
    meter_id   text COLLATE "C"  NOT NULL,
    PRIMARY KEY (vehicle_id, valid_from),
    CHECK (valid_to > valid_from)
);
CREATE INDEX vehicle_meter_mapping_meter ON vehicle_meter_mapping (meter_id, valid_from);

-- Settings of single devices; NULL: the setting for all holds. The device need not have reported.
CREATE TABLE device_setting (
    kind          text              NOT NULL,  -- the stream
    id            text COLLATE "C"  NOT NULL,
    threshold     double precision  CHECK (threshold > 0 AND threshold <= 1),  -- at a 2.3 kW socket, 80 % is healthy
    offline_after interval          CHECK (offline_after > interval '0'),
    max_kw        double precision  CHECK (max_kw > 0 AND max_kw <= 1000000),
    PRIMARY KEY (kind, id)
);

-- Messages that could not become a reading, with the reason. The id is for paging, and to name a single one.
CREATE TABLE dead_letter (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at timestamptz  NOT NULL,
    stored_at   timestamptz  NOT NULL DEFAULT now(),  -- by the database's clock; its retention counts from here
    source      text         NOT NULL,
    stream      text         NOT NULL,
    topic       text         NOT NULL,
    payload     bytea        NOT NULL,
    reason      text         NOT NULL,
    detail      text         NOT NULL
);
CREATE INDEX dead_letter_received_at ON dead_letter (received_at);
CREATE INDEX dead_letter_stored_at ON dead_letter (stored_at);

-- Whether Citus has distributed a table over its workers (docs/scaling.md).
CREATE FUNCTION ingestd_is_distributed(relation regclass) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    -- A statement is parsed when it is reached: without the extension there is no such table.
    IF to_regclass('pg_catalog.pg_dist_partition') IS NULL THEN
        RETURN false;
    END IF;
    RETURN EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = relation);
END;
$$;

-- The bytes of a table with its indexes and TOAST, on all servers.
CREATE FUNCTION ingestd_table_size(relation regclass) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF ingestd_is_distributed(relation) THEN
        RETURN citus_total_relation_size(relation);
    END IF;
    RETURN pg_total_relation_size(relation);
END;
$$;

-- Makes a partition. The table is created by itself and then attached, because ATTACH PARTITION takes only a SHARE UPDATE
-- EXCLUSIVE lock on the parent: reads and writes of other partitions go on (CREATE TABLE ... PARTITION OF would block
-- them). Returns false if the partition exists, also if another session makes it at the same time.
CREATE FUNCTION ingestd_attach_partition(parent text, suffix text, key text, low text, high text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    name  text := format('%s_%s', parent, suffix);
    -- In the schema of the parent, whatever search_path is.
    child text := (SELECT format('%s.%I', relnamespace::regnamespace, name) FROM pg_class WHERE oid = parent::regclass);
BEGIN
    IF to_regclass(child) IS NOT NULL THEN
        IF EXISTS (
            SELECT FROM pg_inherits
            WHERE inhparent = parent::regclass AND inhrelid = child::regclass AND NOT inhdetachpending
        ) THEN
            RETURN false;
        END IF;
        -- An operator detached it. Only an operator can say whether to attach or to drop it.
        RAISE invalid_table_definition USING MESSAGE = format('%s is detached: it is no partition of %s', name, parent);
    END IF;
    EXECUTE format('CREATE TABLE %s (LIKE %I INCLUDING ALL)', child, parent);
    -- With this constraint ATTACH does not scan the table.
    EXECUTE format('ALTER TABLE %s ADD CONSTRAINT bounds CHECK (%I >= %L AND %I < %L)', child, key, low, key, high);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', parent, child, low, high);
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT bounds', child);
    RETURN true;
EXCEPTION
    -- Another session made the partition at the same time (the error depends on how far it has come), or an attached
    -- table of another name covers this time, or the default partition has rows of this time.
    WHEN duplicate_table OR duplicate_object OR unique_violation OR invalid_object_definition OR check_violation THEN
        RETURN false;
END;
$$;

-- ingestd_make_partition and ingestd_make_month run with the rights of their owner, because the daemon's role may not
-- create tables (docs/security.md). So they take tables of ingestd only, and times that readings may have. Their
-- search_path is fixed; temporary tables, which the caller can make, come last in it.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Refuses other tables than those of streams with one of these endings, and days that no reading needs.
CREATE FUNCTION ingestd_check_partition(parent text, endings text[], day date) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM stream, unnest(endings) AS ending WHERE parent = name || ending) THEN
        RAISE insufficient_privilege USING MESSAGE = format('%s is no partitioned table of ingestd', parent);
    END IF;
    IF day NOT BETWEEN current_date - 36525 AND current_date + 366 THEN
        RAISE datetime_field_overflow USING MESSAGE = format('%s is too far from today to have a partition', day);
    END IF;
END;
$$;

-- The partition of history of one UTC day.
CREATE FUNCTION ingestd_make_partition(parent text, day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM ingestd_check_partition(parent, '{_history}', day);
    RETURN ingestd_attach_partition(
        parent, to_char(day, 'YYYYMMDD'), 'ts',
        to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00', to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00'
    );
END;
$$;
REVOKE EXECUTE ON FUNCTION ingestd_make_partition FROM PUBLIC;

-- Timestamps as the code has them: microseconds since 2000-01-01T00:00Z.
CREATE FUNCTION ingestd_microseconds(at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (date_part('epoch', at - timestamptz '2000-01-01 00:00+00') * 1000000)::bigint
$$;
CREATE FUNCTION ingestd_timestamp(microseconds bigint) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT timestamptz '2000-01-01 00:00+00' + microseconds * interval '1 microsecond'
$$;

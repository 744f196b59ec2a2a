-- The ledger: the energy of each device in every quarter of an hour and in every hour (docs/energy.md).
--
-- A quarter is named by its start and holds (start, start + 15 min]. There is a row if a reading lies in the quarter, if a
-- part of one does, or if some of its time is known.

-- The tables of one kind of device.
CREATE FUNCTION ingestd_create_ledger(stream text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE TABLE %1$I (
            %2$I          text COLLATE "C"  NOT NULL,
            start         timestamptz       NOT NULL,
            kwh           double precision  NOT NULL,
            samples       integer           NOT NULL,  -- readings
            parts         integer           NOT NULL,  -- parts of readings with an interval of more than a quarter
            known_seconds double precision  NOT NULL,
            averaged_sum  double precision  NOT NULL,  -- over the readings, in the unit of the averaged figure
            resets        integer           NOT NULL,
            excluded      integer           NOT NULL,
            -- The state at the end of the quarter, from which the next rows are made.
            final_until   timestamptz       NOT NULL,  -- no later reading can change anything before this
            previous_at   timestamptz       NOT NULL,  -- the last decided reading
            at_rest       boolean           NOT NULL,  -- whether it shows for certain that nothing flowed
            high_water    double precision,            -- of the register, kWh; the three are NULL without a register
            changed_at    timestamptz,
            read_at       timestamptz,
            PRIMARY KEY (%2$I, start)
        ) PARTITION BY RANGE (start)',
        stream || '_quarter', stream || '_id'
    );
    -- An hour is the sum of its quarters.
    EXECUTE format(
        'CREATE TABLE %1$I (
            %2$I          text COLLATE "C"  NOT NULL,
            start         timestamptz       NOT NULL,
            kwh           double precision  NOT NULL,
            samples       integer           NOT NULL,
            parts         integer           NOT NULL,
            known_seconds double precision  NOT NULL,
            averaged_sum  double precision  NOT NULL,
            resets        integer           NOT NULL,
            excluded      integer           NOT NULL,
            filled        integer           NOT NULL,  -- quarters with a reading, or a part of one
            PRIMARY KEY (%2$I, start)
        ) PARTITION BY RANGE (start)',
        stream || '_hour', stream || '_id'
    );
    -- For rows of all devices in a range of time: they are stored roughly in the order of time.
    EXECUTE format(
        'CREATE INDEX %1$I ON %2$I USING brin (start) WITH (pages_per_range = 16, autosummarize = on);
         CREATE INDEX %3$I ON %4$I USING brin (start) WITH (pages_per_range = 16, autosummarize = on)',
        stream || '_quarter_start', stream || '_quarter', stream || '_hour_start', stream || '_hour'
    );
    -- Marks of quarters that have to be made anew, from `due` on: a reading was stored after the quarter was closed, or a
    -- reading is decided when no other has followed by then. There is no key: while one mark is being deleted, another one
    -- of the same quarter can be inserted.
    EXECUTE format(
        'CREATE TABLE %1$I (
            %2$I      text COLLATE "C"  NOT NULL,
            start     timestamptz       NOT NULL,
            due       timestamptz       NOT NULL DEFAULT %3$L,
            marked_at timestamptz       NOT NULL DEFAULT now()
        );
        CREATE INDEX %4$I ON %1$I (%2$I, start)',
        stream || '_stale', stream || '_id', '-infinity', stream || '_stale_device'
    );
    INSERT INTO ledger (stream) VALUES (stream);
    INSERT INTO ledger_share (stream, share)
    SELECT ingestd_create_ledger.stream, share FROM generate_series(0, 3) AS share;
END;
$$;

-- A reading up to `closed_until` that is stored from now on marks its quarter as stale, in the same transaction.
CREATE TABLE ledger (
    stream       text         PRIMARY KEY,
    closed_until timestamptz  NOT NULL DEFAULT '-infinity',
    -- The rule by which the rows were made; NULL before there are any.
    max_kw       double precision,
    max_gap      interval
);

-- Up to where the rows of each share of the devices are made. One daemon at a time makes the rows of a share.
CREATE TABLE ledger_share (
    stream     text         NOT NULL,
    share      integer      NOT NULL,
    made_until timestamptz  NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (stream, share)
);

-- Up to where quarters are closed, by stream, in microseconds since 2000-01-01; null if none is. The lock makes the
-- closing of later quarters wait until the calling transaction has ended.
CREATE FUNCTION ingestd_closed_until() RETURNS jsonb
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1768843110, 1);
    -- A separate statement, so that it sees what was committed while this transaction waited for the lock.
    RETURN (
        SELECT jsonb_object_agg(
            stream, CASE WHEN isfinite(closed_until) THEN ingestd_microseconds(closed_until) END
        )
        FROM ledger
    );
END;
$$;

-- The partition of one month, UTC. With the rights of its owner, as ingestd_make_partition.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);
CREATE FUNCTION ingestd_make_month(parent text, month date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    -- Some time is added, because a month and its first row begin before the reading.
    PERFORM ingestd_check_partition(parent, '{_quarter,_hour}', month + 93);
    RETURN ingestd_attach_partition(
        parent, to_char(month, 'YYYYMM'), 'start',
        to_char(month, 'YYYY-MM') || '-01 00:00:00+00',
        to_char(month + interval '1 month', 'YYYY-MM') || '-01 00:00:00+00'
    );
END;
$$;
REVOKE EXECUTE ON FUNCTION ingestd_make_month FROM PUBLIC;

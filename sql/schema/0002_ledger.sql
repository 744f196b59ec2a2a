-- The ledger: what each device did in every quarter of an hour and in every hour (docs/energy.md).
--
-- A quarter-hour is named by its start and holds (start, start + 15 min]. Rows exist where there is something to say.

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
            parts         integer           NOT NULL,  -- of longer readings
            known_seconds double precision  NOT NULL,
            averaged_sum  double precision  NOT NULL,  -- over the readings, in the unit of the averaged figure
            resets        integer           NOT NULL,
            excluded      integer           NOT NULL,
            -- What has to be known to go on behind the quarter.
            final_until   timestamptz       NOT NULL,  -- what lies before it, no reading that follows can change
            previous_at   timestamptz       NOT NULL,  -- the last decided reading
            at_rest       boolean           NOT NULL,  -- whether it told for certain that nothing flowed
            high_water    double precision,            -- of the register, kWh; these three are NULL where there is none
            changed_at    timestamptz,
            read_at       timestamptz,
            PRIMARY KEY (%2$I, start)
        ) PARTITION BY RANGE (start)',
        stream || '_quarter', stream || '_id'
    );
    -- The sum of the quarters of an hour that is closed.
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
    -- Of all devices in a stretch of time: rows lie in the order of time, more or less.
    EXECUTE format(
        'CREATE INDEX %1$I ON %2$I USING brin (start) WITH (pages_per_range = 16, autosummarize = on);
         CREATE INDEX %3$I ON %4$I USING brin (start) WITH (pages_per_range = 16, autosummarize = on)',
        stream || '_quarter_start', stream || '_quarter', stream || '_hour_start', stream || '_hour'
    );
    -- Quarters that have to be made anew, from `due` on: readings came when they were closed, or time has to decide. No
    -- key: a mark that is being worked off at this moment must not keep out another of its kind.
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

-- Readings up to `closed_until` that are stored from now on mark their quarter as stale, in the same transaction.
CREATE TABLE ledger (
    stream       text         PRIMARY KEY,
    closed_until timestamptz  NOT NULL DEFAULT '-infinity',
    -- By which rule the rows were made; NULL before there are any.
    max_kw       double precision,
    max_gap      interval
);

-- Up to where the rows of each share of the devices are made. Daemons divide the shares among them.
CREATE TABLE ledger_share (
    stream     text         NOT NULL,
    share      integer      NOT NULL,
    made_until timestamptz  NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (stream, share)
);

-- Up to when quarters are closed, for the transaction that asks: for each stream microseconds since 2000-01-01, null
-- where none is. The lock holds the closing of a later quarter up until the transaction has ended.
CREATE FUNCTION ingestd_closed_until() RETURNS jsonb
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1768843110, 1);
    -- A statement of its own, so that it sees what was committed while the lock was waited for.
    RETURN (
        SELECT jsonb_object_agg(
            stream, CASE WHEN isfinite(closed_until) THEN ingestd_microseconds(closed_until) END
        )
        FROM ledger
    );
END;
$$;

-- The partition of one month, UTC.
CREATE FUNCTION ingestd_make_month(parent text, month date) RETURNS boolean
LANGUAGE sql AS $$
    SELECT ingestd_attach_partition(
        parent, to_char(month, 'YYYYMM'), 'start',
        to_char(month, 'YYYY-MM') || '-01 00:00:00+00', to_char(month + interval '1 month', 'YYYY-MM') || '-01 00:00:00+00'
    )
$$;

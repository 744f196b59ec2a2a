-- Alerts: those that are pending, active and past; who watches; what is not delivered yet.

-- At most one open alert of a kind and subject. While the condition does not hold for long enough yet the alert is
-- pending; where it goes by, the row goes too.
CREATE TABLE alert (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       text              NOT NULL,
    subject    text COLLATE "C"  NOT NULL,  -- a device's id, or 'fleet'
    state      text              NOT NULL CHECK (state IN ('pending', 'active', 'cleared')),
    since      timestamptz       NOT NULL,  -- from when on the condition held
    raised_at  timestamptz,                 -- NULL while pending
    over_since timestamptz,                 -- from when on the condition has been over; NULL while it holds
    cleared_at timestamptz,
    value      double precision  NOT NULL,  -- these three are of the last change of state
    bound      double precision  NOT NULL,
    detail     text              NOT NULL
);
CREATE UNIQUE INDEX alert_open ON alert (kind, subject) WHERE state <> 'cleared';

-- Changes of state that a channel has not delivered yet: of each alert the newest, so it cannot grow beyond the alerts.
CREATE TABLE alert_outbox (
    channel  text    NOT NULL,
    alert_id bigint  NOT NULL REFERENCES alert ON DELETE CASCADE,
    state    text    NOT NULL,
    PRIMARY KEY (channel, alert_id)
);

-- Who of several daemons does a task, and since when it has been done without a break.
CREATE TABLE alert_watch (
    task          text         PRIMARY KEY,
    holder        text         NOT NULL,  -- a client id
    watched_since timestamptz  NOT NULL,
    watched_at    timestamptz  NOT NULL
) WITH (fillfactor = 50);

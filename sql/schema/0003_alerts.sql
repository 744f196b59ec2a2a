-- Alerts (pending, active and cleared); which daemon watches; which changes are not delivered yet.

-- There is at most one open alert of a kind and subject. Until its condition has held for long enough, the alert is
-- pending. If the condition ends before that, the row is deleted.
CREATE TABLE alert (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       text              NOT NULL,
    subject    text COLLATE "C"  NOT NULL,  -- a device's id, or 'fleet'
    state      text              NOT NULL CHECK (state IN ('pending', 'active', 'cleared')),
    since      timestamptz       NOT NULL,  -- the condition has held since
    raised_at  timestamptz,                 -- NULL while pending
    over_since timestamptz,                 -- the condition has been over since; NULL while it holds
    cleared_at timestamptz,
    value      double precision  NOT NULL,  -- these three are of the last change of state
    bound      double precision  NOT NULL,
    detail     text              NOT NULL
);
CREATE UNIQUE INDEX alert_open ON alert (kind, subject) WHERE state <> 'cleared';

-- Changes of state that a channel has not delivered yet; only the newest of each alert, so the table stays small.
CREATE TABLE alert_outbox (
    channel  text    NOT NULL,
    alert_id bigint  NOT NULL REFERENCES alert ON DELETE CASCADE,
    state    text    NOT NULL,
    PRIMARY KEY (channel, alert_id)
);

-- Which of several daemons does a task, and since when the task has been done without a break.
CREATE TABLE alert_watch (
    task          text         PRIMARY KEY,
    holder        text         NOT NULL,  -- a client id
    watched_since timestamptz  NOT NULL,
    watched_at    timestamptz  NOT NULL
) WITH (fillfactor = 50);

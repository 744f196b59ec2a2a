-- Who changed what, and when. Rows are only added: no statement of ingestd changes or deletes one.
CREATE TABLE audit (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz  NOT NULL DEFAULT now(),
    who     text         NOT NULL,  -- a token, a command and its user, or the address of a client without a token
    action  text         NOT NULL,
    subject text         NOT NULL,  -- what was changed, such as 'vehicle EV-101'
    before  jsonb,                  -- NULL: there was nothing
    after   jsonb                   -- NULL: there is nothing any more
);
CREATE INDEX audit_action ON audit (action, id);

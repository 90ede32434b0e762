-- Column types are limited to BIGINT, INT, SMALLINT, VARCHAR, TEXT and BLOB; times are *_ms, the
-- database's own UTC clock in milliseconds since 1970. tests/it/store/schema.rs enforces both.

-- One row: who this installation is, and when any replica last reached the database.
CREATE TABLE meta (
    id SMALLINT NOT NULL PRIMARY KEY,
    install_id VARCHAR(36) NOT NULL,
    alive_ms BIGINT NOT NULL
);

-- Leadership: one row a scope. Every coordinator transaction begins by writing it.
CREATE TABLE lease (
    scope VARCHAR(100) NOT NULL PRIMARY KEY,
    term BIGINT NOT NULL,
    beat BIGINT NOT NULL,
    holder VARCHAR(64) NOT NULL,
    token VARCHAR(36) NOT NULL,
    lease_ms BIGINT NOT NULL,
    renewed_ms BIGINT NOT NULL,
    acquired_ms BIGINT NOT NULL,
    eval_ms BIGINT NOT NULL
);

CREATE TABLE reservation (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- SHA-256 of len(app) | app | component: short to index, exact to compare.
    rkey VARCHAR(64) NOT NULL,
    app VARCHAR(150) NOT NULL,
    component VARCHAR(150) NOT NULL,
    owner VARCHAR(254) NOT NULL,
    -- Raised by each new reservation after a checkout.
    gen BIGINT NOT NULL,
    settings TEXT NOT NULL,
    -- Copied out of settings so that the check-in path need not parse them.
    max_runtime_ms BIGINT NULL,
    state VARCHAR(16) NOT NULL,
    -- A lower bound of the next moment this row needs attention; moved lazily.
    due_ms BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL,
    checked_out_ms BIGINT NULL,
    last_ok_ms BIGINT NULL,
    last_ok_started_ms BIGINT NULL,
    last_fail_ms BIGINT NULL,
    last_exit_code INT NULL,
    fails BIGINT NOT NULL,
    last_seen_ms BIGINT NULL,
    checkins BIGINT NOT NULL,
    -- 1 once a start signal came: only then is the run table looked at.
    uses_runs SMALLINT NOT NULL,
    rearm_ms BIGINT NOT NULL,
    snooze_from_ms BIGINT NULL,
    snooze_until_ms BIGINT NULL,
    snooze_reason VARCHAR(500) NULL,
    snooze_by VARCHAR(254) NULL
);
CREATE UNIQUE INDEX reservation_rkey ON reservation (rkey);
CREATE INDEX reservation_due ON reservation (due_ms, id);
CREATE INDEX reservation_name ON reservation (app, component);
CREATE INDEX reservation_state ON reservation (state, id);

-- Runs that announced their start, open (ended_ms IS NULL) and ended.
CREATE TABLE run (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    reservation_id BIGINT NOT NULL,
    rid VARCHAR(100) NOT NULL,
    started_ms BIGINT NOT NULL,
    ended_ms BIGINT NULL,
    outcome VARCHAR(16) NULL,
    exit_code INT NULL
);
CREATE UNIQUE INDEX run_rid ON run (reservation_id, rid);
CREATE INDEX run_open ON run (reservation_id, ended_ms);
CREATE INDEX run_started ON run (started_ms);

-- History, kept by age.
CREATE TABLE checkin (
    id INTEGER PRIMARY KEY,
    reservation_id BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    kind VARCHAR(8) NOT NULL,
    exit_code INT NULL,
    rid VARCHAR(100) NULL,
    note BLOB NULL
);
CREATE INDEX checkin_reservation ON checkin (reservation_id, id);
CREATE INDEX checkin_at ON checkin (at_ms);

CREATE TABLE incident (
    id VARCHAR(36) NOT NULL PRIMARY KEY,
    -- 'r/<reservation id>' or 's/<system kind>/<subject>' while open, NULL after: the database itself
    -- forbids two open incidents of one subject.
    open_key VARCHAR(200) NULL,
    reservation_id BIGINT NULL,
    gen BIGINT NOT NULL,
    app VARCHAR(150) NOT NULL,
    component VARCHAR(150) NOT NULL,
    reason VARCHAR(24) NOT NULL,
    rid VARCHAR(100) NULL,
    dedup_key VARCHAR(120) NOT NULL,
    deadline_ms BIGINT NOT NULL,
    opened_ms BIGINT NOT NULL,
    closed_ms BIGINT NULL,
    ending VARCHAR(16) NULL,
    event_no BIGINT NOT NULL,
    next_remind_ms BIGINT NULL,
    escalated INT NOT NULL,
    term BIGINT NOT NULL,
    detail TEXT NULL
);
CREATE UNIQUE INDEX incident_open ON incident (open_key);
CREATE INDEX incident_reservation ON incident (reservation_id, opened_ms);
CREATE INDEX incident_closed ON incident (closed_ms);

-- The outbox: one row an (incident, event, alerter, recipient), payload frozen at insert.
CREATE TABLE delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    idem_key VARCHAR(64) NOT NULL,
    incident_id VARCHAR(36) NOT NULL,
    event VARCHAR(12) NOT NULL,
    event_no BIGINT NOT NULL,
    alerter VARCHAR(63) NOT NULL,
    recipient VARCHAR(254) NOT NULL,
    payload TEXT NOT NULL,
    state VARCHAR(12) NOT NULL,
    created_ms BIGINT NOT NULL,
    next_ms BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    claim_token VARCHAR(36) NULL,
    claim_until_ms BIGINT NULL,
    done_ms BIGINT NULL,
    error VARCHAR(500) NULL,
    -- The digest (its incident_id) that told this one's news.
    digest VARCHAR(36) NULL,
    -- Rows of one group go out as one digest even when they are few.
    grp VARCHAR(40) NULL
);
CREATE UNIQUE INDEX delivery_idem ON delivery (idem_key);
CREATE INDEX delivery_due ON delivery (state, alerter, next_ms);
CREATE INDEX delivery_incident ON delivery (incident_id, alerter, recipient, event_no);
CREATE INDEX delivery_done ON delivery (alerter, recipient, done_ms);
CREATE INDEX delivery_digest ON delivery (digest);
CREATE INDEX delivery_created ON delivery (created_ms);

-- Intervals in which no check-in could be accepted.
CREATE TABLE outage (
    from_ms BIGINT NOT NULL PRIMARY KEY,
    to_ms BIGINT NOT NULL
);

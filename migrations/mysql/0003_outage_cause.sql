-- A jump of the database's clock is an outage of another kind: an interval that never was.
ALTER TABLE outage ADD COLUMN cause VARCHAR(16) NOT NULL DEFAULT 'away';

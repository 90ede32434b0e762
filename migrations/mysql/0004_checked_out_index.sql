-- Reservations that were checked out long ago are found by this, and forgotten.
CREATE INDEX reservation_checked_out ON reservation (checked_out_ms);

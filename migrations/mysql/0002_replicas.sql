-- One row a replica, moved each second: who is there, and how it is. A row leaves when its replica ends in
-- order, or by `gotel replica forget`; never because it is silent.
CREATE TABLE replica (
    replica_id VARCHAR(64) NOT NULL PRIMARY KEY,
    -- Random per process: two processes of one id are told apart by it.
    incarnation VARCHAR(36) NOT NULL,
    -- Raised with each beat: watchers look at it and not at clocks.
    seq BIGINT NOT NULL,
    beat_ms BIGINT NOT NULL,
    started_ms BIGINT NOT NULL,
    -- When it last looked at all other replicas; 0: never.
    watch_ms BIGINT NOT NULL,
    -- When another process last claimed to be this replica; 0: never.
    rival_ms BIGINT NOT NULL,
    version VARCHAR(32) NOT NULL,
    -- JSON: the names of the alerters that it has.
    alerters TEXT NOT NULL,
    -- JSON: replica id -> its verdict.
    view TEXT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

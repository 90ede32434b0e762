-- Which Kubernetes object a reservation belongs to; a reservation without a row here belongs to the API.
CREATE TABLE kube_object (
    reservation_id BIGINT NOT NULL PRIMARY KEY,
    cluster VARCHAR(63) NOT NULL,
    namespace VARCHAR(63) NOT NULL,
    name VARCHAR(253) NOT NULL,
    uid VARCHAR(64) NOT NULL,
    -- Generation of the spec that the settings were made from: an older one never replaces a newer one.
    generation BIGINT NOT NULL,
    -- 'delete' or 'retain': what becomes of the reservation when the object goes.
    reclaim VARCHAR(8) NOT NULL,
    -- 1 while the object says `suspend`: the reservation's snooze is the object's own.
    suspended SMALLINT NOT NULL,
    -- Since when the object was missing in the cluster.
    orphaned_ms BIGINT NULL,
    created_ms BIGINT NOT NULL,
    UNIQUE KEY kube_object_name (cluster, namespace, name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
-- The clusters whose objects are here: two of one name are told apart by the uid of their namespace kube-system.
CREATE TABLE kube_cluster (
    name VARCHAR(63) NOT NULL PRIMARY KEY,
    uid VARCHAR(64) NOT NULL,
    -- Uid of the resource's definition that the objects here were made under.
    definition VARCHAR(64) NULL,
    seen_ms BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

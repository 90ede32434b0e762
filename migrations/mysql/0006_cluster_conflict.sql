-- When another cluster last claimed the name: what is not claimed any more is told to be over.
ALTER TABLE kube_cluster ADD COLUMN conflict_ms BIGINT NULL;

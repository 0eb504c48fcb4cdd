// Every revision has its record.
MATCH (n:RecordRevision {study_key: $study})
WHERE n.record_revision_id IS NOT NULL AND NOT n:Deleted
OPTIONAL MATCH (r:Record)-[:HAS_REVISION]->(n)
WITH n, r WHERE r IS NULL OR r._version IS NULL
RETURN n.record_revision_id AS revision, n.record_id AS record
ORDER BY revision

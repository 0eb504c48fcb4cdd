// Which changes of a record's data, after its first entry, have no reason?
// A revision that only changes the status keeps the number of the data revision.
MATCH (n:RecordRevision {study_key: $study}) WHERE n.record_revision_id IS NOT NULL
WITH n ORDER BY n.record_revision_id
WITH n.record_id AS record, collect(n) AS revisions
UNWIND range(1, size(revisions) - 1) AS i
WITH record, revisions[i] AS n, revisions[i - 1] AS before
WHERE n.data_revision > before.data_revision AND trim(coalesce(toStringOrNull(n.reason_for_change), '')) = ''
RETURN record, n.record_revision AS revision, n.user AS user, n.date_created AS at
ORDER BY record, revision, at

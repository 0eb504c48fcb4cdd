// Which changes of a record, after its first entry, have no reason?
MATCH (n:RecordRevision {study_key: $study})
WHERE n.record_revision > 1 AND trim(coalesce(n.reason_for_change, '')) = ''
RETURN n.record_id AS record, n.record_revision AS revision, n.user AS user, n.date_created AS at
ORDER BY record, revision, at

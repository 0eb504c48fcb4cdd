// Which visits does a subject lack, of the intervals that are not disabled?
MATCH (i:Interval {study_key: $study}) WHERE i._version IS NOT NULL AND NOT i:Deleted AND NOT coalesce(i.disabled, false)
MATCH (s:Subject {study_key: $study})
WHERE s._version IS NOT NULL AND NOT s:Deleted AND NOT coalesce(s.deleted, false)
OPTIONAL MATCH (s)-[:HAS_VISIT]->(v:Visit {interval_id: i.interval_id})
WHERE NOT v:Deleted AND NOT coalesce(v.deleted, false)
WITH s, i, count(v) AS visits WHERE visits = 0
RETURN s.subject_key AS subject, i.interval_name AS interval
ORDER BY subject, i.interval_sequence

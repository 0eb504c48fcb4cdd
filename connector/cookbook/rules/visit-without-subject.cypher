// Every visit belongs to a subject that exists.
MATCH (v:Visit {study_key: $study})
WHERE v._version IS NOT NULL AND NOT v:Deleted AND NOT coalesce(v.deleted = true, false)
  AND NOT EXISTS { MATCH (s:Subject)-[:HAS_VISIT]->(v) WHERE s._version IS NOT NULL AND NOT s:Deleted }
RETURN v.visit_id AS visit, v.subject_id AS subject, v.interval_name AS interval
ORDER BY visit

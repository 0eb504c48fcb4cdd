// Every visit belongs to a subject.
MATCH (v:Visit {study_key: $study})
WHERE v._version IS NOT NULL AND NOT v:Deleted AND NOT coalesce(v.deleted, false)
  AND NOT (:Subject)-[:HAS_VISIT]->(v)
RETURN v.visit_id AS visit, v.interval_name AS interval
ORDER BY visit

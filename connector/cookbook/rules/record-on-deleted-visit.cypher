// No record remains on a deleted visit.
MATCH (v:Visit {study_key: $study})-[:HAS_RECORD]->(r:Record)
WHERE (v:Deleted OR v.deleted = true) AND NOT r:Deleted AND NOT coalesce(r.deleted = true, false)
RETURN v.visit_id AS visit, r.record_id AS record
ORDER BY visit, record

// A record's subject is the subject of its visit.
MATCH (v:Visit {study_key: $study})-[:HAS_RECORD]->(r:Record)
WHERE r.subject_id > 0 AND v.subject_id > 0 AND r.subject_id <> v.subject_id
RETURN r.record_id AS record, r.subject_id AS subject, v.visit_id AS visit, v.subject_id AS visit_of
ORDER BY record

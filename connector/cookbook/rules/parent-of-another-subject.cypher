// A record and its parent record belong to the same subject.
MATCH (r:Record {study_key: $study})-[:CHILD_OF]->(parent:Record)
WHERE r.subject_id > 0 AND parent.subject_id > 0 AND r.subject_id <> parent.subject_id
RETURN r.record_id AS record, r.subject_id AS subject,
       parent.record_id AS parent, parent.subject_id AS parent_of
ORDER BY record

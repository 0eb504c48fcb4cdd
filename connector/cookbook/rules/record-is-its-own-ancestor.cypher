// No record is its own parent, directly or through up to four others.
MATCH (r:Record {study_key: $study})-[:CHILD_OF*1..5]->(r)
RETURN DISTINCT r.record_id AS record
ORDER BY record

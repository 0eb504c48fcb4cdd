// Which records were changed most often, and by how many users?
MATCH (r:Record {study_key: $study})-[:HAS_REVISION]->(n:RecordRevision)
WITH r, count(n) AS revisions, count(DISTINCT n.user) AS users WHERE revisions > 1
RETURN r.record_id AS record, r.form_key AS form, revisions, users
ORDER BY revisions DESC, record LIMIT 50

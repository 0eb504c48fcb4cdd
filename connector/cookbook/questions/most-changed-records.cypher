// Which 50 records have the most revisions, and by how many users?
MATCH (r:Record {study_key: $study})-[:HAS_REVISION]->(n:RecordRevision) WHERE r.record_id IS NOT NULL
WITH r, count(n) AS revisions, count(DISTINCT n.user) AS users, head(collect(n.form_key)) AS form
WHERE revisions > 1
RETURN r.record_id AS record, form, revisions, users
ORDER BY revisions DESC, record LIMIT 50

// No query is open on a deleted record.
MATCH (r:Record {study_key: $study})-[:HAS_QUERY]->(q:Query)
WHERE (r:Deleted OR r.deleted = true) AND q._version IS NOT NULL AND NOT q:Deleted
OPTIONAL MATCH (q)-[:HAS_COMMENT]->(c:QueryComment)
WITH r, q, c ORDER BY coalesce(c.sequence, c.position) DESC
WITH r, q, head(collect(c)) AS last WHERE NOT coalesce(last.closed = true, false)
RETURN q.annotation_id AS query, r.record_id AS record
ORDER BY query

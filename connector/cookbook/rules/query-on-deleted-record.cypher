// No query is open on a deleted record.
MATCH (r:Record {study_key: $study})-[:HAS_QUERY]->(q:Query)-[:HAS_COMMENT]->(c:QueryComment)
WHERE (r:Deleted OR r.deleted) AND NOT q:Deleted
WITH r, q, c ORDER BY coalesce(c.sequence, c.position) DESC
WITH r, q, head(collect(c)) AS last WHERE NOT coalesce(last.closed, false)
RETURN q.annotation_id AS query, r.record_id AS record
ORDER BY query

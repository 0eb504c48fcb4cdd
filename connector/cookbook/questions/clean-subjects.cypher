// Which subjects have no open query and no record that is incomplete, and what is left of the others?
MATCH (s:Subject {study_key: $study})
WHERE s._version IS NOT NULL AND NOT s:Deleted AND NOT coalesce(s.deleted, false)
OPTIONAL MATCH (r:Record {study_key: $study, subject_key: s.subject_key})
WHERE r.record_status = 'Incomplete' AND NOT r:Deleted AND NOT coalesce(r.deleted, false)
WITH s, count(r) AS incomplete
OPTIONAL MATCH (s)-[:HAS_VISIT|HAS_RECORD|HAS_QUERY*1..3]->(q:Query)
WHERE NOT q:Deleted
OPTIONAL MATCH (q)-[:HAS_COMMENT]->(c:QueryComment)
WITH s, incomplete, q, c ORDER BY coalesce(c.sequence, c.position) DESC
WITH s, incomplete, q, head(collect(c)) AS last
WITH s, incomplete, count(CASE WHEN q IS NOT NULL AND NOT coalesce(last.closed, false) THEN 1 END) AS open
RETURN s.subject_key AS subject, open = 0 AND incomplete = 0 AS clean, open AS open_queries, incomplete
ORDER BY clean, subject

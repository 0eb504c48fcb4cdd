// Which subjects have no open query and only records that are complete, verified or locked, and what is left of the others?
// Statuses are the study's own words: "Record Complete" counts, "Record Incomplete" does not.
CALL () {
  MATCH (s:Subject {study_key: $study}) WHERE s.subject_id IS NOT NULL
  RETURN s.subject_id AS subject, 0 AS open, 0 AS incomplete
  UNION ALL
  MATCH (q:Query {study_key: $study})
  WHERE q.annotation_id IS NOT NULL AND q._version IS NOT NULL AND NOT q:Deleted
  OPTIONAL MATCH (q)-[:HAS_COMMENT]->(c:QueryComment)
  WITH q, c ORDER BY coalesce(c.sequence, c.position) DESC
  WITH q, head(collect(c)) AS last WHERE NOT coalesce(last.closed = true, false)
  RETURN q.subject_id AS subject, 1 AS open, 0 AS incomplete
  UNION ALL
  MATCH (r:Record {study_key: $study})
  WHERE r.record_id IS NOT NULL AND NOT r:Deleted AND NOT coalesce(r.deleted = true, false)
    AND NOT coalesce(toStringOrNull(r.record_status), '') =~ '(?i).*\\b(complete|verified|locked)\\b.*'
  RETURN r.subject_id AS subject, 0 AS open, 1 AS incomplete
}
WITH subject, sum(open) AS open, sum(incomplete) AS incomplete
MATCH (s:Subject {study_key: $study, subject_id: subject})
WHERE s._version IS NOT NULL AND NOT s:Deleted AND NOT coalesce(s.deleted = true, false)
RETURN s.subject_key AS subject, open = 0 AND incomplete = 0 AS clean, open AS open_queries, incomplete
ORDER BY clean, subject

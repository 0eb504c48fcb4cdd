// What happened to each subject (or the one named), in order: enrollment, visits, changes of records, queries?
MATCH (s:Subject {study_key: $study})
WHERE s._version IS NOT NULL AND NOT s:Deleted AND ($subject IS NULL OR s.subject_key = $subject)
CALL (s) {
  WITH s WHERE s.enrollment_start_date <> ''
  RETURN s.enrollment_start_date AS at, 'enrolled' AS event, s.subject_id AS id
  UNION ALL
  MATCH (s)-[:HAS_VISIT]->(v:Visit)
  WHERE v.visit_date <> '' AND NOT v:Deleted AND NOT coalesce(v.deleted = true, false)
  RETURN v.visit_date AS at, 'visit ' + coalesce(v.interval_name, '') AS event, v.visit_id AS id
  UNION ALL
  MATCH (r:Record {study_key: $study, subject_key: s.subject_key})-[:HAS_REVISION]->(n:RecordRevision)
  WHERE r.subject_id = s.subject_id
  RETURN n.date_created AS at,
         r.form_key + CASE WHEN coalesce(n.deleted = true, false) THEN ' deleted'
                           WHEN n.record_revision = 1 THEN ' entered' ELSE ' changed' END AS event,
         r.record_id AS id
  UNION ALL
  MATCH (r:Record {study_key: $study, subject_key: s.subject_key})-[:HAS_QUERY]->(q:Query)
        -[:HAS_COMMENT]->(c:QueryComment)
  WHERE r.subject_id = s.subject_id
  RETURN c.date AS at, 'query: ' + coalesce(c.annotation_status, '') AS event, q.annotation_id AS id
  UNION ALL
  MATCH (s)-[:HAS_QUERY]->(q:Query)-[:HAS_COMMENT]->(c:QueryComment)
  RETURN c.date AS at, 'query: ' + coalesce(c.annotation_status, '') AS event, q.annotation_id AS id
}
RETURN s.subject_key AS subject, at, event, id
ORDER BY subject, at, id, event

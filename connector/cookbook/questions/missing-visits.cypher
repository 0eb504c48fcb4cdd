// Which visits has a subject skipped: of the intervals before its latest visit, except disabled ones?
MATCH (s:Subject {study_key: $study})-[:HAS_VISIT]->(v:Visit)-[:IN_INTERVAL]->(had:Interval)
WHERE s._version IS NOT NULL AND NOT s:Deleted AND NOT coalesce(s.deleted = true, false)
  AND NOT v:Deleted AND NOT coalesce(v.deleted = true, false)
  AND (v.visit_date <> '' OR EXISTS { (v)-[:HAS_RECORD]->(:Record) })
WITH s, collect(had.interval_id) AS had, max(had.interval_sequence) AS latest
MATCH (i:Interval {study_key: $study})
WHERE i._version IS NOT NULL AND NOT i:Deleted AND NOT coalesce(i.disabled = true, false)
  AND i.interval_sequence < latest AND NOT i.interval_id IN had
RETURN s.subject_key AS subject, i.interval_name AS interval
ORDER BY subject, i.interval_sequence

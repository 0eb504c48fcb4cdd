// Which forms that its interval schedules does a visit that has taken place lack?
MATCH (v:Visit {study_key: $study})-[:IN_INTERVAL]->(i:Interval)-[scheduled:SCHEDULES]->(f:Form)
WHERE v.visit_id IS NOT NULL AND NOT v:Deleted AND NOT coalesce(v.deleted = true, false)
  AND (v.visit_date <> '' OR EXISTS { (v)-[:HAS_RECORD]->(:Record) })
  AND NOT i:Deleted AND NOT coalesce(i.disabled = true, false)
  AND NOT f:Deleted AND NOT coalesce(f.disabled = true, false)
  AND NOT EXISTS {
    MATCH (v)-[:HAS_RECORD]->(r:Record)
    WHERE r.form_id = f.form_id AND NOT r:Deleted AND NOT coalesce(r.deleted = true, false)
  }
RETURN v.subject_key AS subject, v.visit_id AS visit, v.interval_name AS interval,
       coalesce(f.form_key, scheduled.form_key) AS form
ORDER BY subject, visit, form

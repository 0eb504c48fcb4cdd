// Which forms that its interval schedules does a visit lack?
MATCH (v:Visit {study_key: $study})-[:IN_INTERVAL]->(:Interval)-[:SCHEDULES]->(f:Form)
WHERE NOT v:Deleted AND NOT coalesce(v.deleted, false) AND NOT coalesce(f.disabled, false)
OPTIONAL MATCH (v)-[:HAS_RECORD]->(r:Record {form_key: f.form_key})
WHERE NOT r:Deleted AND NOT coalesce(r.deleted, false)
WITH v, f, count(r) AS records WHERE records = 0
RETURN v.subject_key AS subject, v.visit_id AS visit, v.interval_name AS interval, f.form_key AS form
ORDER BY subject, visit, form

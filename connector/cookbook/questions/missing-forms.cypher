// Which forms that its interval schedules does a visit lack?
MATCH (v:Visit {study_key: $study})-[:IN_INTERVAL]->(:Interval)-[scheduled:SCHEDULES]->(f:Form)
WHERE NOT v:Deleted AND NOT coalesce(v.deleted, false) AND NOT coalesce(f.disabled, false)
WITH v, coalesce(f.form_key, scheduled.form_key) AS form
OPTIONAL MATCH (v)-[:HAS_RECORD]->(r:Record {form_key: form})
WHERE NOT r:Deleted AND NOT coalesce(r.deleted, false)
WITH v, form, count(r) AS records WHERE records = 0
RETURN v.subject_key AS subject, v.visit_id AS visit, v.interval_name AS interval, form
ORDER BY subject, visit, form

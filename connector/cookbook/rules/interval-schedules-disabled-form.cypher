// No interval schedules a form that is disabled or unknown.
MATCH (i:Interval {study_key: $study})-[scheduled:SCHEDULES]->(f:Form)
WHERE NOT coalesce(i.disabled = true, false) AND NOT i:Deleted
  AND (f.disabled = true OR f._version IS NULL OR f:Deleted)
RETURN i.interval_id AS interval, i.interval_name AS name, f.form_id AS form,
       coalesce(f.form_key, scheduled.form_key) AS form_key
ORDER BY interval, form

// Every record is on a form of the study.
MATCH (r:Record {study_key: $study})
WHERE r.record_id IS NOT NULL AND r._version IS NOT NULL AND NOT r:Deleted
WITH r.form_id AS form_id, r.form_key AS form_key, count(*) AS records
OPTIONAL MATCH (f:Form {study_key: $study, form_id: form_id}) WHERE f._version IS NOT NULL
WITH form_id, form_key, records, f WHERE f IS NULL
RETURN form_id AS form, form_key, records
ORDER BY form, form_key

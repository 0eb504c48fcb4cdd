// Every record is on a form of the study.
MATCH (r:Record {study_key: $study})
WHERE r._version IS NOT NULL AND NOT r:Deleted
WITH r.form_key AS form_key, count(*) AS records
OPTIONAL MATCH (f:Form {study_key: $study, form_key: form_key})
WITH form_key, records, f WHERE f IS NULL
RETURN form_key, records
ORDER BY form_key

// No two subjects have the same key.
MATCH (s:Subject {study_key: $study})
WHERE s.subject_key <> '' AND NOT s:Deleted AND NOT coalesce(s.deleted = true, false)
WITH s.subject_key AS subject_key, collect(s.subject_id) AS subjects
WHERE size(subjects) > 1
RETURN subject_key, subjects
ORDER BY subject_key

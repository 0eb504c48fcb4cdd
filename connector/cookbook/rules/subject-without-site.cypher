// Every subject is at a site of the study.
MATCH (s:Subject {study_key: $study})
WHERE s._version IS NOT NULL AND NOT s:Deleted AND NOT coalesce(s.deleted = true, false)
OPTIONAL MATCH (s)-[:AT_SITE]->(site:Site)
WITH s, site WHERE site IS NULL OR site._version IS NULL OR site:Deleted
RETURN s.subject_id AS subject, s.subject_key AS subject_key, s.site_id AS site
ORDER BY subject

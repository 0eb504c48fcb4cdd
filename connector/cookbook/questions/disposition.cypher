// How many subjects have each status, at each site?
MATCH (s:Subject {study_key: $study})
WHERE s._version IS NOT NULL AND NOT s:Deleted AND NOT coalesce(s.deleted = true, false)
OPTIONAL MATCH (s)-[:AT_SITE]->(site:Site)
RETURN site.site_name AS site, s.subject_status AS status, count(*) AS subjects
ORDER BY site, subjects DESC, status

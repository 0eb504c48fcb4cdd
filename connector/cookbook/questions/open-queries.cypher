// How many queries are open, by site, and how many days is the oldest open?
MATCH (q:Query {study_key: $study})-[:HAS_COMMENT]->(c:QueryComment)
WHERE NOT q:Deleted
WITH q, c ORDER BY c.position DESC
WITH q, head(collect(c)) AS last WHERE NOT coalesce(last.closed, false)
OPTIONAL MATCH (:Subject {study_key: $study, subject_id: q.subject_id})-[:AT_SITE]->(site:Site)
RETURN site.site_name AS site, count(*) AS open,
       max(duration.inDays(datetime(replace(q.date_created, ' ', 'T')), datetime()).days) AS oldest_days
ORDER BY open DESC, site

// How many queries are open, by site, and how many days is the oldest open?
MATCH (q:Query {study_key: $study}) WHERE q.annotation_id IS NOT NULL AND q._version IS NOT NULL AND NOT q:Deleted
OPTIONAL MATCH (q)-[:HAS_COMMENT]->(c:QueryComment)
WITH q, c ORDER BY coalesce(c.sequence, c.position) DESC
WITH q, head(collect(c)) AS last WHERE NOT coalesce(last.closed = true, false)
OPTIONAL MATCH (:Subject {study_key: $study, subject_id: q.subject_id})-[:AT_SITE]->(site:Site)
RETURN site.site_name AS site, count(*) AS open,
       max(CASE WHEN q.date_created =~ '\\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01]) ([01]\\d|2[0-3])(:[0-5]\\d){2}'
           THEN duration.inDays(datetime(replace(q.date_created, ' ', 'T')), datetime()).days END) AS oldest_days
ORDER BY open DESC, site

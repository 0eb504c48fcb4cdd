// How many queries are open, by site, and how many days is the oldest open?
MATCH (q:Query {study_key: $study}) WHERE q.annotation_id IS NOT NULL AND q._version IS NOT NULL AND NOT q:Deleted
OPTIONAL MATCH (q)-[:HAS_COMMENT]->(c:QueryComment)
WITH q, c ORDER BY coalesce(c.sequence, c.position) DESC
WITH q, head(collect(c)) AS last WHERE NOT coalesce(last.closed = true, false)
WITH q, [text IN [q.date_created] WHERE text =~ '\\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01]) ([01]\\d|2[0-3])(:[0-5]\\d){2}' |
     datetime(left(text, 8) + '01T' + substring(text, 11)) + duration({days: toInteger(substring(text, 8, 2)) - 1})][0] AS created
OPTIONAL MATCH (:Subject {study_key: $study, subject_id: q.subject_id})-[:AT_SITE]->(site:Site)
RETURN site.site_name AS site, count(*) AS open,
       max(duration.inDays(created, datetime()).days) AS oldest_days
ORDER BY open DESC, site

// How many days does it take to close a query: median and maximum, by site?
MATCH (q:Query {study_key: $study})-[:HAS_COMMENT]->(c:QueryComment)
WHERE q.annotation_id IS NOT NULL AND NOT q:Deleted
WITH q, c ORDER BY coalesce(c.sequence, c.position) DESC
WITH q, head(collect(c)) AS last WHERE last.closed = true
WITH q, [text IN [q.date_created, last.date] WHERE text =~ '\\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01]) ([01]\\d|2[0-3])(:[0-5]\\d){2}' |
     datetime(left(text, 8) + '01T' + substring(text, 11)) + duration({days: toInteger(substring(text, 8, 2)) - 1})] AS times
WHERE size(times) = 2
OPTIONAL MATCH (:Subject {study_key: $study, subject_id: q.subject_id})-[:AT_SITE]->(site:Site)
WITH site, duration.inDays(times[0], times[1]).days AS days
RETURN site.site_name AS site, count(*) AS closed,
       percentileCont(days, 0.5) AS median_days, max(days) AS max_days
ORDER BY site

// How many changes did each user make between 22:00 and 06:00 UTC, of how many?
MATCH (n:RecordRevision {study_key: $study}) WHERE n.record_revision_id IS NOT NULL
WITH n.user AS user, toInteger(substring(toStringOrNull(n.date_created), 11, 2)) AS hour
WITH user, count(*) AS changes, count(CASE WHEN hour >= 22 OR hour < 6 THEN 1 END) AS at_night
WHERE at_night > 0
RETURN user, at_night, changes
ORDER BY at_night DESC, user

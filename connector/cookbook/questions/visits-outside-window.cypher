// Which visits were outside the window that the API gives for them (start and end date, or due date and slack)?
MATCH (s:Subject {study_key: $study})-[:HAS_VISIT]->(v:Visit)
WHERE s.subject_id IS NOT NULL AND NOT v:Deleted AND NOT coalesce(v.deleted = true, false)
OPTIONAL MATCH (v)-[:IN_INTERVAL]->(i:Interval)
WITH s, v, i, [text IN [v.visit_date, v.start_date, v.due_date, v.end_date] |
     CASE WHEN text =~ '\\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01]).*'
          THEN date(left(text, 8) + '01') + duration({days: toInteger(substring(text, 8, 2)) - 1}) END] AS dates
WITH s, v, i, dates[0] AS visited, dates[1] AS first, dates[2] AS due, dates[3] AS last
WITH s, v, visited, coalesce(first, due - duration({days: coalesce(toIntegerOrNull(i.negative_slack), 0)})) AS opens,
     coalesce(last, due + duration({days: coalesce(toIntegerOrNull(i.positive_slack), 0)})) AS closes
WHERE visited < opens OR visited > closes
WITH s, v, opens, closes, visited,
     CASE WHEN visited > closes THEN duration.inDays(closes, visited).days
          ELSE duration.inDays(opens, visited).days END AS days
RETURN s.subject_key AS subject, v.visit_id AS visit, v.interval_name AS interval,
       toString(opens) AS opens, toString(closes) AS closes, toString(visited) AS visited, days AS days_off
ORDER BY abs(days) DESC, visit

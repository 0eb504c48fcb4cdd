// Which visits were outside their interval's window, counted from the subject's enrollment?
MATCH (s:Subject {study_key: $study})-[:HAS_VISIT]->(v:Visit)-[:IN_INTERVAL]->(i:Interval)
WHERE NOT v:Deleted AND NOT coalesce(v.deleted, false) AND v.visit_date =~ '\\d{4}-\\d\\d-\\d\\d.*'
  AND s.enrollment_start_date =~ '\\d{4}-\\d\\d-\\d\\d.*' AND i.due_date_will_be_in IS NOT NULL
WITH s, v, i, date(substring(s.enrollment_start_date, 0, 10)) + duration({days: i.due_date_will_be_in}) AS due,
     date(substring(v.visit_date, 0, 10)) AS visited
WITH s, v, i, due, visited, duration.inDays(due, visited).days AS days
WHERE days < -coalesce(i.negative_slack, 0) OR days > coalesce(i.positive_slack, 0)
RETURN s.subject_key AS subject, v.visit_id AS visit, i.interval_name AS interval,
       toString(due) AS due, toString(visited) AS visited, days AS days_off
ORDER BY abs(days) DESC, visit

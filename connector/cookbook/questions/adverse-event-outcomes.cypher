// What was done about adverse events (form AE), and what was their outcome?
MATCH (ae:Record {study_key: $study, form_key: 'AE'})
WHERE NOT ae:Deleted AND NOT coalesce(ae.deleted, false)
RETURN ae.AETERM AS term, ae.AEACN AS action_taken, ae.AEOUT AS outcome, count(*) AS events,
       count(DISTINCT ae.subject_key) AS subjects
ORDER BY events DESC, term, action_taken, outcome

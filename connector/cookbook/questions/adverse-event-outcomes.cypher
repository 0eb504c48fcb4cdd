// What was done about adverse events (form AE), and what was their outcome?
// The API's endpoints spell the names of variables in upper or in lower case.
MATCH (ae:Record {study_key: $study, form_key: 'AE'})
WHERE NOT ae:Deleted AND NOT coalesce(ae.deleted = true, false)
RETURN coalesce(ae.AETERM, ae.aeterm) AS term,
       coalesce(ae.AEACN, ae.aeacn) AS action_taken,
       coalesce(ae.AEOUT, ae.aeout) AS outcome,
       count(*) AS events, count(DISTINCT ae.subject_id) AS subjects
ORDER BY events DESC, term, action_taken, outcome

// What was done about adverse events (form AE), and what was their outcome?
// Variables' names are compared without case: the API's endpoints spell them differently.
MATCH (ae:Record {study_key: $study, form_key: 'AE'})
WHERE NOT ae:Deleted AND NOT coalesce(ae.deleted = true, false)
RETURN [name IN keys(ae) WHERE toUpper(name) = 'AETERM' | ae[name]][0] AS term,
       [name IN keys(ae) WHERE toUpper(name) = 'AEACN' | ae[name]][0] AS action_taken,
       [name IN keys(ae) WHERE toUpper(name) = 'AEOUT' | ae[name]][0] AS outcome,
       count(*) AS events, count(DISTINCT ae.subject_id) AS subjects
ORDER BY events DESC, term, action_taken, outcome

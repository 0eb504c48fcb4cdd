// Which adverse events (form AE) may have begun while the subject took a medication (form CM)?
// A partial date (2024-UN-UN) may be any day that it fits; what has no beginning is left out.
MATCH (s:Subject {study_key: $study})
WHERE s._version IS NOT NULL AND NOT s:Deleted
MATCH (r:Record {study_key: $study, subject_key: s.subject_key})
WHERE r.subject_id = s.subject_id AND r.form_key IN ['AE', 'CM']
  AND NOT r:Deleted AND NOT coalesce(r.deleted = true, false)
WITH s, r, toStringOrNull(CASE r.form_key WHEN 'AE' THEN coalesce(r.AESTDTC, r.aestdtc)
                    ELSE coalesce(r.CMSTDTC, r.cmstdtc) END) AS began,
     CASE r.form_key WHEN 'CM' THEN coalesce(toStringOrNull(coalesce(r.CMENDTC, r.cmendtc)), '') ELSE '' END AS ended
WHERE began <> ''
WITH s, r, began, split(toUpper(began), '-UN')[0] AS first, split(toUpper(ended), '-UN')[0] + '~' AS last
// '~' sorts after every continuation of a partial date; alone it is a medication without an end.
WITH s, collect(CASE r.form_key WHEN 'AE' THEN {id: r.record_id, term: coalesce(r.AETERM, r.aeterm),
                                                began: began, first: first, last: first + '~'} END) AS events,
     collect(CASE r.form_key WHEN 'CM' THEN {id: r.record_id, treatment: coalesce(r.CMTRT, r.cmtrt),
                                             first: first, last: last} END) AS medications
UNWIND events AS ae
UNWIND [cm IN medications WHERE cm.first <= ae.last AND cm.last >= ae.first] AS cm
RETURN s.subject_key AS subject, ae.id AS adverse_event, ae.term AS term, ae.began AS began,
       cm.id AS medication, cm.treatment AS treatment
ORDER BY subject, adverse_event, medication

// Which adverse events (form AE) may have begun while the subject took a medication (form CM)?
// A partial date (2024-UN-UN) may be any day that it fits; what has no beginning is left out.
MATCH (ae:Record {study_key: $study, form_key: 'AE'})
WHERE NOT ae:Deleted AND NOT coalesce(ae.deleted = true, false)
WITH ae, coalesce(ae.AETERM, ae.aeterm) AS term,
     toString(coalesce(ae.AESTDTC, ae.aestdtc)) AS began
WHERE began <> ''
MATCH (cm:Record {study_key: $study, subject_key: ae.subject_key})
WHERE cm.subject_id = ae.subject_id AND cm.form_key = 'CM'
  AND NOT cm:Deleted AND NOT coalesce(cm.deleted = true, false)
WITH ae, term, began, cm, split(toUpper(began), '-UN')[0] AS b,
     coalesce(cm.CMTRT, cm.cmtrt) AS treatment,
     split(toUpper(toString(coalesce(cm.CMSTDTC, cm.cmstdtc))), '-UN')[0] AS s,
     split(toUpper(coalesce(toString(coalesce(cm.CMENDTC, cm.cmendtc)), '')),
           '-UN')[0] AS e
WHERE s <> '' AND left(s, size(b)) <= left(b, size(s)) AND (e = '' OR left(e, size(b)) >= left(b, size(e)))
RETURN ae.subject_key AS subject, ae.record_id AS adverse_event, term, began,
       cm.record_id AS medication, treatment
ORDER BY subject, adverse_event, medication

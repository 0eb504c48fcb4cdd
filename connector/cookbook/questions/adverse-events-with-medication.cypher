// Which adverse events (form AE) began while the subject took a medication (form CM)?
// toString: complete dates are typed, partial ones (2024-UN-UN) are text; both sort as text.
MATCH (ae:Record {study_key: $study, form_key: 'AE'})
WHERE NOT ae:Deleted AND NOT coalesce(ae.deleted, false)
WITH ae, toString(ae.AESTDTC) AS began WHERE began <> ''
MATCH (cm:Record {study_key: $study, subject_key: ae.subject_key})
WHERE cm.form_key = 'CM' AND NOT cm:Deleted AND NOT coalesce(cm.deleted, false)
WITH ae, began, cm, toString(cm.CMSTDTC) AS started, toString(coalesce(cm.CMENDTC, '')) AS ended
WHERE started <> '' AND started <= began AND (ended = '' OR ended >= began)
RETURN ae.subject_key AS subject, ae.record_id AS adverse_event, ae.AETERM AS term, began,
       cm.record_id AS medication, cm.CMTRT AS treatment
ORDER BY subject, adverse_event, medication

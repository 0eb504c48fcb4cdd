// Which adverse events (form AE) began while the subject took a medication (form CM)?
MATCH (ae:Record {study_key: $study, form_key: 'AE'})
WHERE ae.AESTDTC <> '' AND NOT ae:Deleted AND NOT coalesce(ae.deleted, false)
MATCH (cm:Record {study_key: $study, subject_key: ae.subject_key})
WHERE cm.form_key = 'CM' AND NOT cm:Deleted AND NOT coalesce(cm.deleted, false)
  AND cm.CMSTDTC <> '' AND cm.CMSTDTC <= ae.AESTDTC AND (cm.CMENDTC IS NULL OR cm.CMENDTC = '' OR cm.CMENDTC >= ae.AESTDTC)
RETURN ae.subject_key AS subject, ae.record_id AS adverse_event, ae.AETERM AS term, ae.AESTDTC AS began,
       cm.record_id AS medication, cm.CMTRT AS treatment
ORDER BY subject, adverse_event, medication

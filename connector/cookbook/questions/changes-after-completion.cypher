// Which records were changed after a revision had marked them as complete, verified or locked?
MATCH (r:Record {study_key: $study})-[:HAS_REVISION]->(n:RecordRevision)
WITH r, n ORDER BY n.record_revision_id
WITH r, collect(n) AS revisions
WITH r, revisions, [i IN range(0, size(revisions) - 1)
                    WHERE revisions[i].record_status IN ['Complete', 'Verified', 'Locked']][0] AS first
WHERE first IS NOT NULL AND first < size(revisions) - 1
RETURN r.record_id AS record, r.form_key AS form, revisions[first].record_status AS status,
       revisions[first].date_created AS since, size(revisions) - 1 - first AS changes
ORDER BY changes DESC, record

// Which records had their data changed after a revision had marked them as complete, verified or locked?
// A revision that only changes the status keeps the number of the data revision.
MATCH (r:Record {study_key: $study})
WHERE r.record_id IS NOT NULL AND COUNT { (r)-[:HAS_REVISION]->() } > 1
MATCH (r)-[:HAS_REVISION]->(n:RecordRevision)
WITH r, n ORDER BY n.record_revision_id
WITH r, collect(n) AS revisions
WITH r, revisions, [n IN revisions
                    WHERE toStringOrNull(n.record_status) =~ '(?i).*\\b(complete|verified|locked)\\b.*'][0] AS first
WITH r, first, revisions[-1].data_revision - first.data_revision AS changes WHERE changes > 0
RETURN r.record_id AS record, first.form_key AS form, first.record_status AS status,
       first.date_created AS since, changes
ORDER BY changes DESC, record

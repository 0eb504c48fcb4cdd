// Every revision is by a user of the study.
MATCH (n:RecordRevision {study_key: $study})
WHERE n.record_revision_id IS NOT NULL AND n.user <> ''
WITH n.user AS login, count(*) AS revisions
OPTIONAL MATCH (u:User {study_key: $study, login: login})
WITH login, revisions, u WHERE u IS NULL
RETURN login, revisions
ORDER BY login

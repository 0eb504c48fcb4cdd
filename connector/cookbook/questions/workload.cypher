// How many record changes were made at each site, by month?
MATCH (n:RecordRevision {study_key: $study}) WHERE n.record_revision_id IS NOT NULL
WITH n.site_id AS site_id, substring(toStringOrNull(n.date_created), 0, 7) AS month, count(*) AS changes
OPTIONAL MATCH (site:Site {study_key: $study, site_id: site_id})
RETURN site.site_name AS site, month, sum(changes) AS changes
ORDER BY site, month

// How many days after a visit are its records entered: median and maximum, by site?
MATCH (v:Visit {study_key: $study})-[:HAS_RECORD]->(r:Record)
WHERE v.visit_date IS NOT NULL AND r.date_created IS NOT NULL AND NOT r:Deleted
WITH r.site_id AS site_id,
     duration.inDays(date(v.visit_date), date(substring(r.date_created, 0, 10))).days AS days
OPTIONAL MATCH (site:Site {study_key: $study, site_id: site_id})
RETURN site.site_name AS site, count(*) AS records,
       percentileCont(days, 0.5) AS median_days, max(days) AS max_days
ORDER BY site

// Who holds which role, and is the role active?
MATCH (u:User {study_key: $study})-[r:HAS_ROLE]->(role:Role)
WHERE NOT u:Deleted
RETURN u.login AS login, u.user_active_in_study AS active, r.name AS role,
       NOT coalesce(r.inactive = true, false) AS role_active
ORDER BY login, role

-- What a triggerer asks before it leases: which kinds there are, whether holders that are gone left anything behind, and whether
-- something has come for what is mine.
--  $1 me
-- Whether a holder holds anything is asked as who the next holder is from it on: where few hold all, the planner expects any
-- to hold much, and would go through the whole table until it meets the first, which may not be there.
select array(select kinds from reveille_kind_set order by kinds) as kinds,
       exists (select
                 from reveille_replica g
                where g.gone_at is not null and g.role = 'triggerer'
                  and g.incarnation = (select t.holder from reveille_trigger t where t.holder >= g.incarnation order by t.holder limit 1))
         as left_behind,
       $1 is not distinct from (select t.holder from reveille_trigger t where t.holder >= $1 and t.arrivals > t.told order by t.holder limit 1)
         as has_news

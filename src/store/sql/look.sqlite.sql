-- What a triggerer asks before it leases: which kinds there are (a JSON array), whether holders that are gone left anything
-- behind, and whether something has come for what is mine.
--  $1 me
select (select json_group_array(kinds) from reveille_kind_set) as kinds,
       exists (select 1 from reveille_replica g
                where g.gone_at is not null and g.role = 'triggerer'
                  and exists (select 1 from reveille_trigger t where t.holder = g.incarnation)) as left_behind,
       exists (select 1 from reveille_trigger t where t.holder = $1 and t.arrivals > t.told) as has_news

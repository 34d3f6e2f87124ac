-- What a triggerer asks before it leases: which kinds there are, whether holders that are gone left anything behind, and whether
-- something has come for what is mine.
--  $1 me
-- What somebody holds is walked as a range of the index, in its order: by an equality the planner may go through the whole table
-- (docs/decisions/0023).
select array(select kinds from reveille_kind_set order by kinds) as kinds,
       exists (select
                 from reveille_replica g,
                      lateral (select
                                 from reveille_trigger t
                                where t.holder between g.incarnation and g.incarnation
                                order by t.holder
                                limit 1) t
                where g.gone_at is not null and g.role = 'triggerer') as left_behind,
       exists (select
                 from (select
                         from reveille_trigger t
                        where t.holder between $1 and $1 and t.arrivals > t.told
                        order by t.holder
                        limit 1) t) as has_news

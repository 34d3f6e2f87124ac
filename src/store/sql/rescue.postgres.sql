-- The running tasks of workers that are gone, locked in the order of their ids.
--  $1 how many
-- What a worker left is walked as at take_over.
with left_behind as materialized (
       select c.id
         from (select incarnation from reveille_replica where gone_at is not null and role = 'worker') g,
              lateral (select k.id from reveille_task k
                        where k.holder between g.incarnation and g.incarnation
                        order by k.holder
                        limit $1) c
        limit $1)
select k.id, k.generation, k.crashes, g.gone_why = 'lost', k.cancel_requested_at, k.holder
  from reveille_task k
  join reveille_replica g on g.incarnation = k.holder
 where k.id = any(array(select id from left_behind)) and k.state = 'running' and g.gone_at is not null
 order by k.id
   for update of k skip locked

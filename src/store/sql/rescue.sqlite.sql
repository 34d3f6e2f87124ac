-- The running tasks of workers that are gone. The transaction is the lock.
--  $1 how many
select k.id, k.generation, k.crashes, g.gone_why = 'lost', k.cancel_requested_at, k.holder
  from reveille_replica g
       cross join reveille_task k on k.holder = g.incarnation
 where g.gone_at is not null and g.role = 'worker' and k.state = 'running'
 order by k.id
 limit $1

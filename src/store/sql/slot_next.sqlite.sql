-- The ready tasks that would be claimed next under concurrency keys, and have no slot.
--  $1 keys as a JSON array  $2 queues as a JSON array (null: all)  $3 names as a JSON array
--  $4 set aside, as a JSON array of hexadecimal ids  $5 how many
select k.id
  from json_each($1) n
       cross join reveille_task k on k.slot_key = n.value and k.state = 'ready' and k.ready_at is not null
 where k.name in (select value from json_each($3))
   and ($2 is null or k.queue in (select value from json_each($2)))
   and hex(k.id) not in (select value from json_each($4))
   and not exists (select 1 from reveille_queue q where q.name = k.queue and q.paused_at is not null)
   and not exists (select 1 from reveille_slot s where s.task_id = k.id)
 order by k.priority desc, k.ready_at, k.id
 limit $5

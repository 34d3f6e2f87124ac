-- The ready tasks that would be claimed next under concurrency keys, and have no slot; locked, but for those that others
-- have in their hands.
--  $1 keys  $2 queues (null: all)  $3 names  $4 set aside  $5 how many
select c.id
  from unnest($1::text[]) as f(key),
       lateral (select k.id
                  from reveille_task k
                 where k.slot_key = f.key and k.state = 'ready' and k.ready_at is not null
                   and k.name = any($3) and ($2::text[] is null or k.queue = any($2)) and k.id <> all($4::uuid[])
                   and not exists (select 1 from reveille_queue q where q.name = k.queue and q.paused_at is not null)
                   and not exists (select 1 from reveille_slot s where s.task_id = k.id)
                 order by k.priority desc, k.ready_at, k.id
                 limit $5
                   for update of k skip locked) c
 limit $5

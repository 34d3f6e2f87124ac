-- Swaps one task whose concurrency key is full for a wait for a slot of it. It keeps everything else, its expiry too.
--  $1 now  $2 who  $3 task  $4 the state it is in
update reveille_task
   set state = 'deferred', holder = null, generation = generation + 1
 where id = $3 and state = $4 and slot_key is not null;

insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, spec, since, wake_at, deadline_at, or_resume, deaths)
select id, generation, 'slot', 1, queue, priority, null, coalesce(ready_at, $1), null, null, 0, 0
  from reveille_task where id = $3 and changes() = 1;

insert into reveille_wait_key (key, task_id, generation)
select 'slot:' || slot_key, id, generation
  from reveille_task where id = $3 and changes() = 1;

insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, who)
select $1 / 86400000 % 32, id, $1, generation, turn, attempt, $4, 'deferred', 'full', $2
  from reveille_task where id = $3 and changes() = 1
returning task_id;

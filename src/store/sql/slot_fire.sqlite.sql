-- Ends one wait for a slot: the task takes its number and is ready, in one transaction. The event that it has stays.
--  $1 now  $2 who  $3 concurrency key  $4 task  $5 generation  $6 number
insert into reveille_slot (key, n, task_id)
select $3, $6, id from reveille_task where id = $4 and generation = $5 and state = 'deferred'
    on conflict do nothing;

update reveille_task
   set state = 'ready', generation = generation + 1
 where id = $4 and generation = $5 and state = 'deferred' and changes() = 1;

insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, who)
select $1 / 86400000 % 32, id, $1, generation, turn, attempt, 'deferred', 'ready', 'slot', $2
  from reveille_task where id = $4 and changes() = 1
returning task_id;

delete from reveille_trigger where task_id = $4 and generation = $5 and changes() = 1;

delete from reveille_wait_key where task_id = $4 and generation = $5 and changes() = 1;

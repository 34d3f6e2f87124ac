-- Resumes one deferred task with what its wait ended with: the wait goes, the task moves, the event is kept.
--  $1 now  $2 who  $3 task  $4 generation  $5 event  $6 event id  $7 why
-- This is evidence, which is taken from anybody.
delete from reveille_trigger
 where task_id = $3 and generation = $4;

update reveille_task
   set state = 'ready', generation = generation + 1, ready_at = coalesce(ready_at, $1), event = $5
 where id = $3 and generation = $4 and state = 'deferred' and changes() = 1;

insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, event, who)
select $1 / 86400000 % 32, id, $1, generation, turn, attempt, 'deferred', 'ready', $7, $6, $2
  from reveille_task where id = $3 and changes() = 1
returning task_id;

delete from reveille_wait_key where task_id = $3 and generation = $4 and changes() = 1;

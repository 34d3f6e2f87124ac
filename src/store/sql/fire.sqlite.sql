-- Resumes a batch of deferred tasks with what their waits ended with: the waits go, the tasks move, the events are kept.
--  $1 now  $2 who
--  each event: $3 task  $4 generation  $5 event  $6 event id  $7 why
-- This is evidence, which is taken from anybody.
-- All statements see the same waits: only the last takes them away.
with f(id, generation, event_id, why) as (values ($3, $4, $6, $7))
insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, event, who)
select $1 / 86400000 % 32, k.id, $1, k.generation + 1, k.turn, k.attempt, 'deferred', 'ready', f.why, f.event_id, $2
  from f
       cross join reveille_trigger t on t.task_id = f.id and t.generation = f.generation
       cross join reveille_task k on k.id = t.task_id and k.generation = t.generation and k.state = 'deferred';

with f(id, generation, event) as (values ($3, $4, $5))
update reveille_task as k
   set state = 'ready', generation = k.generation + 1, ready_at = coalesce(k.ready_at, $1), event = f.event
  from f
       cross join reveille_trigger t on t.task_id = f.id and t.generation = f.generation
 where k.id = t.task_id and k.generation = t.generation and k.state = 'deferred'
returning id;

with f(id, generation) as (values ($3, $4))
delete from reveille_wait_key
 where rowid in (select w.rowid from f cross join reveille_wait_key w on w.task_id = f.id and w.generation = f.generation);

with f(id, generation) as (values ($3, $4))
delete from reveille_trigger
 where rowid in (select t.rowid from f cross join reveille_trigger t on t.task_id = f.id and t.generation = f.generation);

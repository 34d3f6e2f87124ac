-- Resumes a batch of deferred tasks with what their waits ended with: the waits go, the tasks move, the events are kept.
--  $1 now  $2 who
--  events: $3 task  $4 generation  $5 event  $6 event id  $7 why
-- This is evidence, which is taken from anybody; a verdict is judged under the locks of its task and trigger first.
-- Task rows are locked first, in the order of their ids, and the lock is not joined: the planner would nest the two lists.
with f as materialized (
       select * from unnest($3::uuid[], $4::integer[], $5::bytea[], $6::uuid[], $7::text[])
         as f(id, generation, event, event_id, why)),
     held as materialized (select k.id from reveille_task k where k.id = any($3) order by k.id for update),
     over as (
       delete from reveille_trigger t
        using f
        where t.task_id = f.id and t.generation = f.generation
          and (select count(*) from held) >= 0
       returning t.task_id, t.generation, f.event, f.event_id, f.why),
     keys as (delete from reveille_wait_key w using over o where w.task_id = o.task_id),
     moved as (
       update reveille_task k
          set state = 'ready', generation = k.generation + 1, ready_at = coalesce(k.ready_at, $1), event = o.event
         from over o
        where k.id = o.task_id and k.generation = o.generation and k.state = 'deferred'
       returning k.id, k.generation, k.turn, k.attempt, o.event_id, o.why),
     told as (
       insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, event, who)
       select $1 / 86400000 % 32, id, $1, generation, turn, attempt, 'deferred', 'ready', why, event_id, $2 from moved)
select id from moved

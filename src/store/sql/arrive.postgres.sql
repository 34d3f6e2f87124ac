-- Keeps what has come under a key with those waits that look at more than that, and has them looked at.
--  $1 now  $2 key  $3 what has come
--  waits: $4 task  $5 generation
-- Locks as at fire. What has come first stays.
with w as materialized (
       select * from unnest($4::uuid[], $5::integer[]) as w(id, generation)),
     held as materialized (select k.id from reveille_task k where k.id = any($4) order by k.id for update),
     came as (
       update reveille_wait_key x
          set arrived = $3
         from w
        where x.key = $2 and x.task_id = w.id and x.generation = w.generation and x.arrived is null
          and (select count(*) from held) >= 0
       returning x.task_id, x.generation)
update reveille_trigger t
   set arrivals = t.arrivals + 1, wake_at = least(t.wake_at, $1)
  from came c
 where t.task_id = c.task_id and t.generation = c.generation
returning t.task_id

-- Claims the tasks that come first: by priority, then by the time of first being ready.
--  $1 queues (null: all)  $2 names  $3 me  $4 now  $5 how many  $6 set aside
-- Walks one index range a queue, name and priority (a plain "any(…) order by" would read the whole backlog, and what
-- cannot run beside it), and goes to a lower priority only if it must. It looks at more than it wants, so that claimers
-- in step do not come away empty, and locks only those that it takes: by their ids, which the form of that condition sees to.
-- Where few were ready when the table was last analyzed, the planner would look for each among all that are.
-- One with a concurrency key has begun, and expires no more, only once it has a slot: the caller sees to that.
-- Its transaction is marked as under way by a lock, which `held` waits for.
with first as materialized (
       select c.id
         from generate_series(3, 0, -1) as p(priority),
              lateral (select r.id, r.ready_at
                         from reveille_queue q,
                              unnest($2::text[]) as n(name),
                              lateral (select k.id, k.ready_at
                                         from reveille_task k
                                        where k.state = 'ready' and k.queue = q.name and k.name = n.name
                                          and k.priority = p.priority::smallint
                                          and (k.expires_at is null or k.expires_at > $4)
                                          and k.id <> all($6::uuid[])
                                        order by k.ready_at
                                        limit $5 * 2 + 100) r
                        where q.paused_at is null and ($1::text[] is null or q.name = any($1))
                        order by r.ready_at
                        limit $5 * 2 + 100) c
        limit $5 * 2 + 100),
     taken as materialized (
       select k.id
         from first f,
              lateral (select k.id from reveille_task k where k.id = f.id and k.state is not distinct from 'ready' for update skip locked) k
        limit $5),
     mine as (
       update reveille_task k
          set state = 'running', holder = $3, generation = k.generation + 1, progress = null,
              expires_at = case when k.slot_key is not null then k.expires_at end
         from taken t
        where k.id = t.id
          and exists (select 1 from reveille_replica r where r.incarnation = $3 and r.gone_at is null)
          and (select pg_try_advisory_xact_lock(uuid_hash_extended($3, 0)))
       returning k.id, k.name, k.queue, k.priority, k.ready_at, k.generation, k.turn, k.attempt, k.crashes, k.max_attempts,
                 k.backoff_ms, k.backoff_cap_ms, k.slot_key, k.slot_limit, k.step, k.event),
     told as (
       insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, who)
       select $4 / 86400000 % 32, id, $4, generation, turn, attempt, 'ready', 'running', 'claimed', $3 from mine)
select * from mine

-- Claims the tasks that come first: by priority, then by the time of first being ready.
--  $1 queues as a JSON array (null: all)  $2 names as a JSON array  $3 me  $4 now  $5 how many  $6 set aside, as a JSON array of hexadecimal ids
-- SQLite has no lateral: a correlated list, one index range a queue, name and priority, serves. There is one writer, so
-- nothing is locked or skipped. One with a concurrency key has begun, and expires no more, only once it has a slot: the
-- caller sees to that.
update reveille_task
   set state = 'running', holder = $3, generation = generation + 1, progress = null,
       expires_at = case when slot_key is not null then expires_at end
 where exists (select 1 from reveille_replica r where r.incarnation = $3 and r.gone_at is null)
   and id in (select k.id
                from (select 3 as priority union all select 2 union all select 1 union all select 0) p
                     cross join reveille_queue q
                     cross join json_each($2) n
                     cross join reveille_task k
                  on k.rowid in (select x.rowid
                                   from reveille_task x
                                  where x.state = 'ready' and x.queue = q.name and x.name = n.value and x.priority = p.priority
                                    and (x.expires_at is null or x.expires_at > $4)
                                    and hex(x.id) not in (select value from json_each($6))
                                  order by x.ready_at
                                  limit $5)
               where q.paused_at is null and ($1 is null or q.name in (select value from json_each($1)))
               order by k.priority desc, k.ready_at
               limit $5)
returning id, name, queue, priority, ready_at, generation, turn, attempt, crashes, max_attempts, backoff_ms, backoff_cap_ms,
          slot_key, slot_limit, step, event

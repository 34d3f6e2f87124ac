-- Counts what can be leased: free active triggers that are due for a look, and what holders that are gone left behind.
--  $1 queues as a JSON array (null: all)  $2 kind sets as a JSON array  $3 now  $4 up to how many of each  $5 set aside, as a JSON array of hexadecimal ids
-- Walks the index ranges that the lease walks.
select (select count(*)
          from (select 1
                  from (select 3 as priority union all select 2 union all select 1 union all select 0) p
                       cross join reveille_queue q
                       cross join json_each($2) s
                       cross join reveille_trigger t
                    on t.queue = q.name and t.kind = s.value and t.priority = p.priority
                 where t.holder is null and t.passive = 0 and t.wake_at <= $3
                   and hex(t.task_id) not in (select value from json_each($5))
                   and ($1 is null or q.name in (select value from json_each($1)))
                 limit $4) due)
     + (select count(*)
          from (select 1
                  from reveille_replica g
                       cross join reveille_trigger t on t.holder = g.incarnation
                 where g.gone_at is not null and g.role = 'triggerer'
                   and t.kind in (select value from json_each($2))
                   and hex(t.task_id) not in (select value from json_each($5))
                   and ($1 is null or t.queue in (select value from json_each($1)))
                 limit $4) gone)

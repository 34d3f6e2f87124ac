-- Puts running tasks back to ready, as they were.
--  $1 now  $2 who
--  each task: $3 id  $4 generation  $5 holder  $6 one more crash (0 or 1)  $7 why
-- Both statements see the same tasks: only the second moves them.
with f(id, generation, holder, why) as (values ($3, $4, $5, $7))
insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, who)
select $1 / 86400000 % 32, k.id, $1, k.generation + 1, k.turn, k.attempt, 'running', 'ready', f.why, $2
  from f
       cross join reveille_task k on k.id = f.id and k.generation = f.generation
 where k.state = 'running' and k.holder = f.holder;

with f(id, generation, holder, crashed) as (values ($3, $4, $5, $6))
update reveille_task as k
   set state = 'ready', holder = null, generation = k.generation + 1, crashes = k.crashes + f.crashed
  from f
 where k.id = f.id and k.generation = f.generation and k.state = 'running' and k.holder = f.holder;

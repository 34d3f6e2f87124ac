//! What the hot statements cost beside rows that cannot move.

use reveille::{id::Incarnation, store::Db};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use uuid::Uuid;

use crate::{sql::files, stage::Stage};

/// How many rows are stuck.
const STUCK: usize = 1_000_000;

/// How many rows one statement is given.
const BATCH: usize = 500;

/// How many rows are taken where pages are counted: so few that reading what is stuck would show.
const FEW: usize = 20;

/// The text of a statement.
macro_rules! statement {
    ($name:literal) => {
        include_str!(concat!("../../src/store/sql/", $name, ".postgres.sql"))
    };
}

async fn run(c: &mut PgConnection, text: impl Into<String>) {
    sqlx::raw_sql(AssertSqlSafe(text.into())).execute(c).await.unwrap();
}

/// 2,000 tasks that are ready, 2,000 that run and 2,000 triggers that are free, all of the lowest priority but one.
async fn movable(c: &mut PgConnection, worker: Incarnation, triggerer: Incarnation) {
    let task = |from: usize, state: &str, holder: &str| {
        format!(
            "insert into reveille_task (id, name, queue, origin, state, priority, ready_at, generation, turn, attempt, crashes,
                                        max_attempts, backoff_ms, backoff_cap_ms, holder, step, enqueued_at)
             select lpad(to_hex({from} + n), 32, '0')::uuid, 'work', 'default', 'manual', '{state}', 1, n, 0, 0, 1, 0, 3, 1, 1,
                    {holder}, '\\x00', n
               from generate_series(1, 2000) n;"
        )
    };
    let trigger = |from: usize, passive: bool, wake_at: &str, deadline: &str, holder: &str| {
        format!(
            "insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, spec, since, wake_at, deadline_at,
                                           or_resume, holder, deaths)
             select lpad(to_hex({from} + n), 32, '0')::uuid, 0, 'fake', {passive}, 'default', 1, '\\x00', n, {wake_at}, {deadline},
                    false, {holder}, 0
               from generate_series(1, 2000) n;"
        )
    };
    let (worker, triggerer) = (format!("'{worker}'"), format!("'{triggerer}'"));
    run(c, "insert into reveille_queue (name) values ('default')").await;
    run(c, task(0, "ready", "null")).await;
    run(c, task(10_000, "running", &worker)).await;
    for (from, passive, wake_at, holder) in
        [(20_000, false, "n", "null"), (30_000, false, "n", &*triggerer), (40_000, true, "n", "null")]
    {
        run(c, task(from, "deferred", "null")).await;
        run(c, trigger(from, passive, wake_at, "n", holder)).await;
    }
}

/// 2,000 tasks that wait for a slot of ten keys, and as many that have one.
async fn keyed(c: &mut PgConnection) {
    let task = |from: usize, state: &str| {
        format!(
            "insert into reveille_task (id, name, queue, origin, state, priority, ready_at, generation, turn, attempt, crashes,
                                        max_attempts, backoff_ms, backoff_cap_ms, slot_key, slot_limit, step, enqueued_at)
             select lpad(to_hex({from} + n), 32, '0')::uuid, 'work', 'default', 'manual', '{state}', 0, n, 0, 0, 1, 0, 3, 1, 1,
                    'k' || n % 10, 200, '\\x00', n
               from generate_series(1, 2000) n;"
        )
    };
    run(c, task(60_000, "deferred")).await;
    run(
        c,
        "insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, since, or_resume, deaths)
         select id, 0, 'slot', true, 'default', 0, ready_at, false, 0 from reveille_task where slot_key is not null;
         insert into reveille_wait_key (key, task_id, generation)
         select 'slot:' || slot_key, id, 0 from reveille_task where slot_key is not null",
    )
    .await;
    run(c, task(70_000, "deferred")).await;
    run(
        c,
        "insert into reveille_slot (key, n, task_id)
         select slot_key, ready_at / 10 + 1, id from reveille_task where slot_key is not null
            and not exists (select 1 from reveille_trigger t where t.task_id = id)",
    )
    .await;
}

/// What has ended on one day.
async fn ended(c: &mut PgConnection) {
    let text = "insert into reveille_finished (day, id, name, queue, origin, state, priority, generation, turn, attempt, crashes,
                                               max_attempts, backoff_ms, backoff_cap_ms, result, enqueued_at, finished_at)
                select 5, lpad(to_hex(20000000 + n), 32, '0')::uuid, 'work', 'default', 'manual', 'succeeded', 1, 5, 1, 1, 0, 3, 1, 1,
                       '\\x00', 0, n
                  from generate_series(1, 100000) n";
    run(c, text).await;
}

/// A million dormant tasks of the highest priority on the same queue, with their triggers, half of them passive; and a
/// hundred thousand that are ready under names and kinds that nobody has.
async fn stuck(c: &mut PgConnection) {
    run(
        c,
        format!(
            "insert into reveille_task (id, name, queue, origin, state, priority, ready_at, generation, turn, attempt, crashes,
                                        max_attempts, backoff_ms, backoff_cap_ms, step, enqueued_at)
             select lpad(to_hex(1000000 + n), 32, '0')::uuid, 'work', 'default', 'manual', 'deferred', 3, 0, 0, 0, 1, 0, 3, 1, 1, '\\x00', 0
               from generate_series(1, {STUCK}) n;
             insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, spec, since, wake_at, deadline_at,
                                           or_resume, deaths)
             select lpad(to_hex(1000000 + n), 32, '0')::uuid, 0, case when n % 2 = 0 then 'fake' else 'timer' end, n % 2 = 1, 'default', 3,
                    '\\x00', 0, 9000000000000 + n, 9000000000000 + n, false, 0
               from generate_series(1, {STUCK}) n;
             insert into reveille_task (id, name, queue, origin, state, priority, ready_at, generation, turn, attempt, crashes,
                                        max_attempts, backoff_ms, backoff_cap_ms, step, enqueued_at)
             select lpad(to_hex(9000000 + n), 32, '0')::uuid, 'unknown', 'default', 'manual', 'ready', 3, 0, 0, 0, 1, 0, 3, 1, 1, '\\x00', 0
               from generate_series(1, {STUCK} / 10) n;
             insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, spec, since, wake_at, or_resume, deaths)
             select lpad(to_hex(9500000 + n), 32, '0')::uuid, 0, 'unknown', false, 'default', 3, '\\x00', 0, 0, false, 0
               from generate_series(1, {STUCK} / 10) n;"
        ),
    )
    .await;
}

async fn analyze(c: &mut PgConnection) {
    run(c, "analyze reveille_task, reveille_trigger, reveille_slot, reveille_wait_key, reveille_replica, reveille_queue, reveille_finished, reveille_history").await;
}

/// An array of one value a row, as a literal.
fn array(kind: &str, value: impl Fn(usize) -> String) -> String {
    let values: Vec<_> = (1..=BATCH).map(value).collect();
    format!("array[{}]::{kind}[]", values.join(","))
}

fn ids(from: usize) -> String {
    array("uuid", |n| format!("'{}'", Uuid::from_u128((from + n) as u128)))
}

fn all(kind: &str, value: &str) -> String {
    array(kind, |_| value.to_owned())
}

/// Each hot statement with what it is given: a batch of rows that it can move.
#[expect(clippy::too_many_lines, reason = "a table")]
fn hot(worker: Incarnation, triggerer: Incarnation) -> Vec<(&'static str, &'static str, String)> {
    let (now, me) = ("1000000::bigint", format!("'{worker}'::uuid"));
    let holder = format!("'{triggerer}'::uuid");
    let none = "array[]::uuid[]";
    let queues = "null::text[]";
    vec![
        (
            "claim",
            statement!("claim"),
            format!("{queues}, array['work','other'], {me}, {now}, {BATCH}::bigint, {none}"),
        ),
        (
            "lease",
            statement!("lease"),
            format!("{queues}, array['fake','other'], {holder}, {now}, {BATCH}::bigint, {none}"),
        ),
        (
            "take_over",
            statement!("take_over"),
            format!("{queues}, array['fake','other'], {holder}, {BATCH}::bigint, {none}"),
        ),
        ("look", statement!("look"), holder.clone()),
        ("free", statement!("free"), format!("{queues}, array['fake','other'], {now}, {BATCH}::bigint, {none}")),
        (
            "release",
            statement!("release"),
            format!(
                "{holder}, {}, {}, {}, {}",
                ids(30_000),
                all("integer", "0"),
                all("bigint", "1"),
                all("integer", "0")
            ),
        ),
        ("news", statement!("news"), format!("{holder}, {BATCH}::bigint")),
        (
            "arrive",
            statement!("arrive"),
            format!("{now}, 'signal:1', '\\x01'::bytea, {}, {}", ids(30_000), all("integer", "0")),
        ),
        (
            "fire",
            statement!("fire"),
            format!(
                "{now}, {holder}, {}, {}, {}, {}, {}",
                ids(30_000),
                all("integer", "0"),
                all("bytea", "'\\x01'"),
                ids(0),
                all("text", "'event'"),
            ),
        ),
        (
            "end",
            statement!("end"),
            format!(
                "{now}, {}, {}, {}, {}, {}, {}, {}, {}, {}",
                ids(10_000),
                all("integer", "0"),
                all("text", "'running'"),
                all("uuid", &me),
                all("text", "'succeeded'"),
                all("bytea", "'\\x01'"),
                all("text", "'finished'"),
                all("uuid", "null"),
                all("uuid", &me),
            ),
        ),
        (
            "back",
            statement!("back"),
            format!(
                "{now}, {me}, {}, {}, {}, {}, {}",
                ids(10_000),
                all("integer", "0"),
                all("uuid", &format!("'{worker}'")),
                all("integer", "0"),
                all("text", "'released'"),
            ),
        ),
        (
            "defer",
            statement!("defer"),
            format!(
                "{now}, {me}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}",
                ids(10_000),
                all("integer", "0"),
                all("bytea", "'\\x01'"),
                all("integer", "1"),
                all("text", "'deferred'"),
                all("text", "'signal'"),
                all("boolean", "true"),
                all("bytea", "null"),
                all("bigint", "null"),
                all("bigint", "null"),
                all("boolean", "false"),
                all("boolean", "false"),
                all("integer", "null"),
                ids(10_000),
                array("text", |n| format!("'signal:{n}'")),
            ),
        ),
        ("due", statement!("due"), format!("{now}, {me}, {BATCH}::bigint")),
        (
            "enqueue",
            statement!("enqueue"),
            format!(
                "{now}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}",
                ids(50_000),
                all("text", "'work'"),
                all("text", "'default'"),
                all("text", "'manual'"),
                all("uuid", "null"),
                all("smallint", "1"),
                all("bigint", "null"),
                all("bigint", "null"),
                all("integer", "3"),
                all("bigint", "1"),
                all("bigint", "1"),
                all("text", "null"),
                all("bytea", "'\\x01'"),
                all("text", "null"),
                all("text", "'k1'"),
                all("integer", "3"),
                ids(50_000),
                all("text", "'signal'"),
                all("boolean", "true"),
                all("bytea", "null"),
                all("bigint", "null"),
                all("bigint", "null"),
                all("boolean", "false"),
                all("boolean", "false"),
                all("integer", "null"),
                ids(50_000),
                array("text", |n| format!("'signal:{n}'")),
            ),
        ),
        ("rescue", statement!("rescue"), format!("{BATCH}::bigint")),
        ("slot_wait", statement!("slot_wait"), format!("{now}, {me}, {}, 'running'", ids(10_000))),
        (
            "slot_next",
            statement!("slot_next"),
            format!("array['k1','k2'], {queues}, array['work','other'], {none}, {BATCH}::bigint"),
        ),
        (
            "slot_fire",
            statement!("slot_fire"),
            format!(
                "{now}, {me}, 'k1', {}, {}, {}",
                ids(60_000),
                all("integer", "0"),
                array("integer", |n| n.to_string())
            ),
        ),
        ("slot_free", statement!("slot_free"), "array['k1','k2'], array[1000,1000], array[2,2]".to_owned()),
        ("slot_open", statement!("slot_open"), "array['k1','k2']".to_owned()),
    ]
}

/// The plan of a statement, as JSON; with `analyze, buffers`, it is run for that.
async fn explain(c: &mut PgConnection, options: &str, text: &str, arguments: &str) -> Value {
    run(c, format!("prepare hot as {text}")).await;
    let explain = format!("explain (format json{options}) execute hot({arguments})");
    let plan: Value = sqlx::query_scalar(AssertSqlSafe(explain)).fetch_one(&mut *c).await.unwrap();
    run(c, "deallocate hot").await;
    plan[0]["Plan"].clone()
}

/// Every node of a plan.
fn nodes(plan: &Value) -> Vec<&Value> {
    let children = plan["Plans"].as_array().into_iter().flatten();
    std::iter::once(plan).chain(children.flat_map(nodes)).collect()
}

/// What a node reads directly, through those that only pass it on.
fn source(plan: &Value) -> &str {
    let kind = plan["Node Type"].as_str().unwrap();
    match kind {
        "Materialize" | "Memoize" | "Sort" | "Limit" | "Unique" | "Subquery Scan" => {
            plan["Plans"].as_array().and_then(|plans| plans.first()).map_or(kind, source)
        }
        _ => kind,
    }
}

/// What is wrong with a plan, if anything.
fn faults(plan: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for node in nodes(plan) {
        let (kind, relation) =
            (node["Node Type"].as_str().unwrap(), node["Relation Name"].as_str().unwrap_or_default());
        if kind == "Seq Scan" && ["reveille_task", "reveille_trigger", "reveille_finished_05"].contains(&relation) {
            faults.push(format!("reads the whole of {relation}"));
        }
        if kind == "Nested Loop" {
            let mut plans = node["Plans"].as_array().into_iter().flatten();
            let inner = plans.find(|plan| plan["Parent Relationship"] == "Inner").map_or("", source);
            // A list has no index: it is gone through once for every row of the other side.
            if ["CTE Scan", "Function Scan"].contains(&inner) {
                faults.push("goes through a list again and again".to_owned());
            }
        }
    }
    faults
}

/// What is wrong with the plans of these statements, for these arguments and for any.
async fn faults_of(c: &mut PgConnection, statements: &[(&str, &str, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for mode in ["force_custom_plan", "force_generic_plan"] {
        run(c, format!("set plan_cache_mode = {mode}")).await;
        for (name, text, arguments) in statements {
            let plan = explain(c, "", text, arguments).await;
            found.extend(faults(&plan).into_iter().map(|fault| format!("{name} ({mode}) {fault}")));
        }
    }
    found
}

/// How many rows a statement answers with, and how many pages it touches; what it changes is undone.
async fn touched(c: &mut PgConnection, text: &str, arguments: &str) -> (f64, i64) {
    run(c, "begin").await;
    let plan = explain(c, ", analyze, buffers, timing off", text, arguments).await;
    run(c, "rollback").await;
    let pages = |kind: &str| plan[format!("Shared {kind} Blocks")].as_i64().unwrap();
    (plan["Actual Rows"].as_f64().unwrap(), pages("Hit") + pages("Read"))
}

/// How many pages it touches to move a few rows.
async fn pages(c: &mut PgConnection, text: &str, arguments: &str) -> i64 {
    let (rows, pages) = touched(c, text, arguments).await;
    assert!((rows - FEW as f64).abs() < 0.5, "it moved {rows} rows");
    pages
}

on_postgres!(
    async fn a_million_stuck_rows_cost_the_hot_statements_nothing(stage: Stage) {
        let (worker, triggerer) = (stage.worker().await, stage.triggerer().await);
        let mut tx = stage.store.begin().await.unwrap();
        let Db::Postgres(c) = tx.db() else { unreachable!() };
        run(c, "commit; set statement_timeout = 0; set idle_in_transaction_session_timeout = 0").await;
        movable(c, worker, triggerer).await;
        run(c, "vacuum reveille_task, reveille_trigger").await;
        analyze(c).await;
        let hot = hot(worker, triggerer);
        let few = |arguments: &str| arguments.replace(&format!("{BATCH}::bigint"), &format!("{FEW}::bigint"));
        let taking = hot.iter().filter(|(name, ..)| ["claim", "lease"].contains(name));
        let taking: Vec<_> = taking.map(|(name, text, arguments)| (name, text, few(arguments))).collect();
        let mut before = Vec::new();
        for (_, text, arguments) in &taking {
            before.push(pages(c, text, arguments).await);
        }

        stuck(c).await;
        ended(c).await;
        keyed(c).await;
        run(c, "vacuum reveille_task, reveille_trigger").await;
        analyze(c).await;
        for ((name, text, arguments), before) in taking.iter().zip(before) {
            let after = pages(c, text, arguments).await;
            println!("{name} reads {after} pages beside the stuck, {before} without");
            // Trees that are a level or two deeper.
            assert!(after < before + before / 2, "{name} reads {after} pages beside the stuck, {before} without");
        }

        let found = faults_of(c, &hot).await;
        assert!(found.is_empty(), "{found:#?}");
    }
);

on_postgres!(
    async fn what_the_gone_left_is_found_where_one_holds_all(stage: Stage) {
        for gone in [stage.worker().await, stage.triggerer().await] {
            stage.leave(gone).await;
        }
        let (worker, triggerer) = (stage.worker().await, stage.triggerer().await);
        let mut tx = stage.store.begin().await.unwrap();
        let Db::Postgres(c) = tx.db() else { unreachable!() };
        run(c, "commit").await;
        movable(c, worker, triggerer).await;
        run(c, format!("update reveille_task set state = 'running', holder = '{worker}'")).await;
        let many = format!(
            "delete from reveille_trigger;
             insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, spec, since, wake_at, or_resume,
                                           holder, deaths)
             select lpad(to_hex(n), 32, '0')::uuid, 0, 'fake', false, 'default', 1, '\\x00', n, n, false, '{triggerer}', 0
               from generate_series(1, 50000) n"
        );
        run(c, many).await;
        run(c, "vacuum reveille_task, reveille_trigger").await;
        analyze(c).await;
        // What it held and has let go of stays in the indexes until they are vacuumed, next to where the gone had theirs.
        run(c, "delete from reveille_trigger where wake_at < 40000").await;
        // Of any holder the planner then expects that it holds all, and nobody left anything.
        let asking = ["look", "take_over", "free", "news", "rescue"];
        let asking = hot(worker, triggerer).into_iter().filter(|(name, ..)| asking.contains(name));
        for (name, text, arguments) in asking {
            for mode in ["force_custom_plan", "force_generic_plan"] {
                run(c, format!("set plan_cache_mode = {mode}")).await;
                let (_, pages) = touched(c, text, &arguments).await;
                assert!(pages < 30, "{name} ({mode}) reads {pages} pages to find nothing");
            }
        }
    }
);

on_postgres!(
    async fn what_came_after_the_tables_were_analyzed_is_taken_by_its_id(stage: Stage) {
        let (worker, triggerer) = (stage.worker().await, stage.triggerer().await);
        let mut tx = stage.store.begin().await.unwrap();
        let Db::Postgres(c) = tx.db() else { unreachable!() };
        run(c, "commit").await;
        movable(c, worker, triggerer).await;
        analyze(c).await;
        let claim = hot(worker, triggerer).into_iter().find(|(name, ..)| *name == "claim");
        let (_, text, arguments) = claim.expect("it is hot");
        let arguments = arguments.replace(&format!("{BATCH}::bigint"), &format!("{FEW}::bigint"));
        let before = pages(c, text, &arguments).await;
        // As after a night in which nothing was ready.
        run(c, "update reveille_task set state = 'running' where state = 'ready'").await;
        run(c, "vacuum reveille_task").await;
        analyze(c).await;
        run(c, "update reveille_task set state = 'ready' where state = 'running' and holder is null").await;
        let after = pages(c, text, &arguments).await;
        assert!(
            after < before + before / 2,
            "a claim reads {after} pages, {before} where it is known how many are ready"
        );

        // A defer names its rows, and does not go through all that its worker holds.
        let defer = hot(worker, triggerer).into_iter().find(|(name, ..)| *name == "defer");
        let (_, text, arguments) = defer.expect("it is hot");
        let plan = explain(c, "", text, &arguments).await;
        let is_of_holders = |node: &Value| node["Index Name"] == "reveille_task_held";
        assert!(!nodes(&plan).into_iter().any(is_of_holders), "{plan:#}");

        // Nor does the planner think that next to none of them runs, as where none did when the table was analyzed: it may then
        // compare each that does with each of the batch.
        run(c, "update reveille_task set state = 'ready', holder = null").await;
        analyze(c).await;
        let plan = explain(c, "", text, &arguments).await;
        let reads = |node: &Value| node["Relation Name"] == "reveille_task" && node["Node Type"] != "ModifyTable";
        let one_by_one = |node: &Value| node["Index Cond"].as_str().is_some_and(|cond| cond.starts_with("(id = d"));
        let next_to_none = |node: &Value| node["Plan Rows"].as_u64() < Some(BATCH as u64) && !one_by_one(node);
        assert!(!nodes(&plan).into_iter().any(|node| reads(node) && next_to_none(node)), "{plan:#}");
    }
);

on_sqlite!(
    async fn no_statement_goes_through_a_whole_table(stage: Stage) {
        let mut tx = stage.store.begin().await.unwrap();
        let Db::Sqlite(c) = tx.db() else { unreachable!() };
        // Lists that the statement is given, and the few queues and sets of kinds.
        let lists = [
            "SCAN CONSTANT ROW",
            "SCAN reveille_kind_set",
            "SCAN json_each",
            "SCAN p",
            "SCAN q",
            "SCAN n ",
            "SCAN s ",
            "SCAN d",
            "SCAN g",
            "SCAN f",
            "SCAN x ",
        ];
        for (name, statements) in files("sqlite") {
            for statement in statements {
                let explain = format!("explain query plan {statement}");
                let steps = sqlx::query(AssertSqlSafe(explain)).fetch_all(&mut *c).await.unwrap();
                for step in steps.iter().map(|row| row.get::<String, _>("detail")) {
                    let whole = step.starts_with("SCAN ") && !lists.iter().any(|list| step.starts_with(list));
                    assert!(!whole, "{name}: {step}");
                }
            }
        }
    }
);

#[test]
fn a_plan_with_a_fault_is_found_out() {
    let scan = |kind: &str, side: &str| serde_json::json!({ "Node Type": kind, "Parent Relationship": side });
    let nested =
        |outer: Value, inner: Value| serde_json::json!({ "Node Type": "Nested Loop", "Plans": [outer, inner] });
    let sorted = serde_json::json!({ "Node Type": "Sort", "Parent Relationship": "Inner", "Plans": [scan("CTE Scan", "Outer")] });
    assert_eq!(faults(&nested(scan("Function Scan", "Outer"), sorted)), ["goes through a list again and again"]);
    assert_eq!(faults(&nested(scan("Index Scan", "Outer"), scan("CTE Scan", "Inner"))).len(), 1);
    assert!(faults(&nested(scan("Function Scan", "Outer"), scan("Index Scan", "Inner"))).is_empty());
    let whole = serde_json::json!({ "Node Type": "Limit", "Plans": [{ "Node Type": "Seq Scan", "Relation Name": "reveille_task" }] });
    assert_eq!(faults(&whole), ["reads the whole of reveille_task"]);
}

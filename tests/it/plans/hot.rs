//! The hot statements, and what they are given.

use reveille::id::Incarnation;
use uuid::Uuid;

/// How many rows one statement is given.
pub(super) const BATCH: usize = 500;

/// The text of a statement.
macro_rules! statement {
    ($name:literal) => {
        include_str!(concat!("../../../src/store/sql/", $name, ".postgres.sql"))
    };
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
pub(super) fn hot(worker: Incarnation, triggerer: Incarnation) -> Vec<(&'static str, &'static str, String)> {
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

//! Rows that are alike, written by plain SQL as the runtime leaves them.

use uuid::Uuid;

use crate::{id::Incarnation, store::Url};

/// The name of those who claim and lease here can run.
pub(super) const NAME: &str = "bench.stuck";

/// The queues that the rows lie on by turns.
const QUEUES: usize = 3;

/// The concurrency key that is full, and how many are at work under it.
const KEY: &str = "bench";
pub(super) const SLOTS: usize = 2;

/// When what sleeps wakes, long after the end of whatever measures it, in milliseconds.
pub(in crate::store) const FAR: i64 = 9_000_000_000_000;

/// Rows that are alike.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    /// Which number the first has.
    pub(super) from: usize,
    pub(super) count: usize,
    pub(super) name: &'a str,
    pub(super) priority: i16,
    pub(super) wait: Option<Wait<'a>>,
    pub(super) is_keyed: bool,
    pub(super) runs: Option<Incarnation>,
}

/// What they wait for, in SQL.
#[derive(Clone, Copy)]
pub(super) struct Wait<'a> {
    pub(super) kind: &'a str,
    pub(super) passive: &'a str,
    pub(super) wake_at: &'a str,
}

impl Default for Rows<'_> {
    fn default() -> Self {
        Self { from: 0, count: 0, name: NAME, priority: 3, wait: None, is_keyed: false, runs: None }
    }
}

impl Rows<'_> {
    pub(super) fn texts(&self, yard: &Yard) -> Vec<String> {
        let Self { name, priority, .. } = self;
        let (id, series, sealed) = (yard.id(self.from), yard.series(self.count), yard.bytes("5e"));
        let state = match (self.wait, self.runs) {
            (Some(_), _) => "deferred",
            (None, Some(_)) => "running",
            (None, None) => "ready",
        };
        let holder = self.runs.map_or_else(|| "null".to_owned(), |holder| yard.uuid(holder.0));
        let key = if self.is_keyed { format!("'{KEY}', {SLOTS}") } else { "null, null".to_owned() };
        // What begins with its wait was never ready.
        let ready_at = if self.wait.is_some() && !self.is_keyed { "null" } else { "n" };
        let queue = format!("'bench-' || (n % {QUEUES} + 1)");
        let mut texts = vec![format!(
            "insert into reveille_task (id, name, queue, origin, state, priority, ready_at, generation, turn, attempt, crashes,
                                        max_attempts, backoff_ms, backoff_cap_ms, holder, slot_key, slot_limit, step, enqueued_at)
             select {id}, '{name}', {queue}, 'manual', '{state}', {priority}, {ready_at}, 0, 0, 1, 0, 3, 1000, 60000,
                    {holder}, {key}, {sealed}, n
               from {series}"
        )];
        if let Some(Wait { kind, passive, wake_at }) = self.wait {
            texts.push(format!(
                "insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, spec, since, wake_at, or_resume, deaths)
                 select {id}, 0, '{kind}', {passive}, {queue}, {priority}, {sealed}, n, {wake_at}, false, 0 from {series}"
            ));
        }
        if self.is_keyed && self.wait.is_some() {
            texts.push(format!(
                "insert into reveille_wait_key (key, task_id, generation) select 'slot:{KEY}', {id}, 0 from {series}"
            ));
        }
        if self.is_keyed && self.runs.is_some() {
            texts.push(format!("insert into reveille_slot (key, n, task_id) select '{KEY}', n, {id} from {series}"));
        }
        texts
    }
}

/// How one database writes what the other writes differently.
pub(super) enum Yard {
    Sqlite,
    Postgres,
}

impl Yard {
    pub(super) fn of(url: &Url) -> Self {
        match url {
            Url::Sqlite(_) => Self::Sqlite,
            Url::Postgres(_) => Self::Postgres,
        }
    }

    /// The queues.
    pub(super) fn queues(&self) -> String {
        format!("insert into reveille_queue (name) select 'bench-' || n from {}", self.series(QUEUES))
    }

    /// The numbers `n` from 1.
    fn series(&self, count: usize) -> String {
        match self {
            Self::Postgres => format!("generate_series(1, {count}) as s(n)"),
            // One that is empty has a first number, too, which is looked at before it is told.
            Self::Sqlite => format!(
                "(with recursive s(n) as (select 1 where {count} > 0 union all select n + 1 from s where n < {count}) select n from s) as s"
            ),
        }
    }

    /// An id for each number, in their order.
    fn id(&self, from: usize) -> String {
        match self {
            Self::Postgres => format!("lpad(to_hex(n + {from}), 32, '0')::uuid"),
            Self::Sqlite => format!("unhex(printf('%032x', n + {from}))"),
        }
    }

    fn uuid(&self, uuid: Uuid) -> String {
        match self {
            Self::Postgres => format!("'{uuid}'::uuid"),
            Self::Sqlite => format!("x'{}'", uuid.simple()),
        }
    }

    /// As long as a short spec that is sealed.
    fn bytes(&self, byte: &str) -> String {
        let bytes = byte.repeat(60);
        match self {
            Self::Postgres => format!("'\\x{bytes}'::bytea"),
            Self::Sqlite => format!("x'{bytes}'"),
        }
    }
}

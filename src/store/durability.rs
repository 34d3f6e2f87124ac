//! What an answered commit is worth on this server: whether it can be lost, and by what.

use super::{Db, doing, examine::Finding};
use crate::error::Result;

/// How a server of ours commits.
struct Commits {
    /// The setting of this name.
    synchronous_commit: String,
    /// Whether commits wait for any standby at all.
    waits: bool,
    /// How many standbys follow.
    standbys: i64,
}

/// What can be lost of that which was answered; nothing on SQLite, whose commits are on disk.
///
/// # Errors
/// If the database does not answer.
pub(super) async fn examine(db: &mut Db<'_>) -> Result<Option<Finding>> {
    let Db::Postgres(c) = db else { return Ok(None) };
    let text = "select current_setting('synchronous_commit'), current_setting('synchronous_standby_names') <> '',
                       (select count(*) from pg_stat_replication)";
    let row: (String, bool, i64) =
        sqlx::query_as(text).fetch_one(&mut **c).await.map_err(doing("asking how it commits"))?;
    let (synchronous_commit, waits, standbys) = row;
    Ok(Commits { synchronous_commit, waits, standbys }.risk())
}

impl Commits {
    fn risk(&self) -> Option<Finding> {
        const COST: &str = "steps and checks whose ends it forgets are done again, with the same idempotency key, and a deferral can reach a second outcome";
        let finding = |what: &str, advice: String| Some(Finding { what: what.to_owned(), advice, is_problem: false });
        match self.synchronous_commit.as_str() {
            "off" => finding(
                "commits are answered before they are on disk (synchronous_commit = off)",
                format!("a crash of the server can lose the last of them: {COST}; set it on for this role or database"),
            ),
            "local" if self.waits => finding(
                "commits do not wait for the standbys (synchronous_commit = local)",
                format!("a failover can lose the last of them: {COST}; set it on for this role or database"),
            ),
            _ if self.standbys > 0 && !self.waits => finding(
                "commits do not wait for the standbys (synchronous_standby_names is empty)",
                format!("a failover can lose the last of them: {COST}; name a standby to wait for, if that matters"),
            ),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(synchronous_commit: &str, waits: bool, standbys: i64) -> Option<String> {
        let commits = Commits { synchronous_commit: synchronous_commit.to_owned(), waits, standbys };
        commits.risk().map(|finding| finding.what)
    }

    #[test]
    fn what_a_crash_or_a_failover_can_lose_is_told() {
        assert!(said("off", true, 1).unwrap().contains("before they are on disk"));
        assert!(said("local", true, 1).unwrap().contains("= local"));
        assert!(said("on", false, 1).unwrap().contains("synchronous_standby_names is empty"));
        assert_eq!(said("local", false, 0), None, "nobody follows");
        assert_eq!((said("on", false, 0), said("on", true, 1), said("remote_apply", true, 2)), (None, None, None));
    }
}

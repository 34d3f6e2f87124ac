//! Who holds how much, and how many deferrals were decided: what is asked of a fleet from outside, to prove it.

use uuid::Uuid;

use super::{Db, Store, doing, each};
use crate::error::Result;

/// How many tasks' deferrals reached their outcome, as the history tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Tasks with one outcome at least.
    pub decided: i64,
    /// Tasks with more outcomes than deferrals.
    pub twice: i64,
}

impl Store {
    /// How many triggers name this replica as their holder, gone or not.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn held_by(&self, replica: Uuid) -> Result<i64> {
        let text = "select count(*) from reveille_trigger where holder = $1";
        let count = async |db: &mut Db<'_>| {
            each!(db, c => sqlx::query_scalar(text).bind(replica).fetch_one(&mut **c).await)
                .map_err(doing("counting triggers"))
        };
        self.reading("counting triggers", count).await
    }

    /// Counts the outcomes of all deferrals that the history knows.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn outcomes(&self) -> Result<Outcomes> {
        let text = "select count(*), coalesce(sum(case when ended > begun then 1 else 0 end), 0)
                      from (select sum(case when became = 'deferred' then 1 else 0 end) as begun,
                                   sum(case when was = 'deferred' then 1 else 0 end) as ended
                              from reveille_history group by task_id) as told
                     where ended > 0";
        let count = async |db: &mut Db<'_>| {
            each!(db, c => sqlx::query_as(text).fetch_one(&mut **c).await).map_err(doing("counting outcomes"))
        };
        let (decided, twice) = self.reading("counting outcomes", count).await?;
        Ok(Outcomes { decided, twice })
    }
}

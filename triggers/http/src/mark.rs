//! What the looks of one trigger leave one another: when to look again, and what was seen.

use reqwest::header::{ETAG, HeaderValue};
use reveille_trigger::{Context, Error, Timestamp};

use crate::{Answered, Call};

/// What an answer says of the next look. Losing it costs a request, and decides nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mark {
    /// Of an answer that was not yet it.
    etag: Option<HeaderValue>,
    /// When the server wants to be asked again.
    not_before: Option<Timestamp>,
}

impl Mark {
    /// What an answer says. Its `ETag` counts only `by_etag`, and if no redirect led to it.
    pub fn of(answered: &Answered, by_etag: bool, now: Timestamp) -> Self {
        let etag = answered.headers().get(ETAG).filter(|_| by_etag && answered.is_direct());
        let not_before = answered.retry_after(now).and_then(|delay| now.checked_add(delay).ok());
        Self { etag: etag.cloned(), not_before }
    }

    /// Leaves it for the next look on this replica.
    pub fn leave(self, cx: &Context) {
        // What remembers nothing may go dormant between two looks, and costs no memory.
        if self != cx.recall().unwrap_or_default() {
            cx.remember(self);
        }
    }
}

impl Call<'_> {
    /// Looks once, with what the look before has left. None if nothing has changed since, or if the server does not want
    /// to be asked yet.
    ///
    /// # Errors
    /// As those of [`send`](Call::send).
    pub async fn look(&self, cx: &Context) -> Result<Option<Answered>, Error> {
        let before: Mark = cx.recall().unwrap_or_default();
        if before.not_before.is_some_and(|at| cx.now() < at) {
            return Ok(None);
        }
        let answered = self.send(cx, before.etag.as_ref()).await?;
        if before.etag.is_none() || answered.status() != 304 {
            return Ok(Some(answered));
        }
        Mark { etag: before.etag, ..Mark::of(&answered, false, cx.now()) }.leave(cx);
        Ok(None)
    }
}

//! Why a check could not tell.

use std::{any::Any, error::Error as StdError, fmt, time::Duration};

/// A check that could not tell. Any standard error becomes one that may be tried again, by `?`.
#[derive(Debug)]
pub struct Error {
    fatal: bool,
    after: Option<Duration>,
    source: Box<dyn StdError + Send + Sync>,
}

impl Error {
    /// The look failed; another may succeed. Back-off is the runtime's work.
    pub fn again(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { fatal: false, after: None, source: source.into() }
    }

    /// No further look can succeed: the wait ends badly.
    pub fn fatal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { fatal: true, after: None, source: source.into() }
    }

    /// Code of a trigger's author panicked. Another look may succeed.
    pub fn panicked(panic: &(dyn Any + Send)) -> Self {
        let said = panic.downcast_ref::<&str>().copied();
        let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it said nothing");
        Self::again(format!("the check panicked: {said}"))
    }

    /// Not before this much time has passed: what was asked has said so, by a `Retry-After` header, say.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self { after: Some(delay), ..self }
    }

    /// How long no further look is to be made, if what was asked has said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.after
    }

    /// Whether no further look can succeed.
    pub fn is_fatal(&self) -> bool {
        self.fatal
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)?;
        let mut cause = self.source.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

// Not a `std::error::Error` itself: that would collide with the conversion below, which `?` needs.
impl<E: StdError + Send + Sync + 'static> From<E> for Error {
    fn from(source: E) -> Self {
        Self::again(source)
    }
}

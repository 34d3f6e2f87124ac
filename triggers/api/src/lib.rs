//! What a trigger is written against: the [`Trigger`] trait, the [`Context`] of a check, and the [`Event`] it fires.
//!
//! A trigger is a small value that knows how to tell whether something has happened. It is stored as its `kind`
//! (the name given to `#[typetag::serde(name = "…")]`) and its `spec` (its fields, as JSON), and may be checked
//! more than once and in two places: it keeps no state of its own.
//!
//! ```
//! use reveille_trigger::{Answer, Context, Error, Event, Trigger, async_trait, typetag};
//! use serde::{Deserialize, Serialize};
//!
//! /// Fires once the clock shows an even second.
//! #[derive(Debug, Serialize, Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct EvenSecond {}
//!
//! #[typetag::serde(name = "even_second")]
//! #[async_trait]
//! impl Trigger for EvenSecond {
//!     async fn check(&self, cx: &Context) -> Result<Answer, Error> {
//!         if cx.now().as_second() % 2 == 0 { Ok(Answer::Fire(Event::resume(())?)) } else { Ok(Answer::NotYet) }
//!     }
//! }
//! ```

pub mod checks;
mod config;
mod context;
mod error;
mod event;
pub mod pace;
mod spacing;
mod trigger;

pub use config::Config;
pub use context::{Arrived, Clock, Context, Memory};
pub use error::Error;
pub use event::{Answer, Event, Outcome, Receipt};
pub use spacing::{Growing, Spacing};
pub use trigger::{Key, Trigger, Wait, look};

pub use async_trait::async_trait;
pub use jiff::Timestamp;
pub use typetag;

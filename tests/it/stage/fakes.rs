//! Triggers that need a triggerer, and do nothing.

use reveille::trigger::{Answer, Context, Error, Trigger, async_trait, typetag};
use serde::{Deserialize, Serialize};

/// An active trigger that never fires by itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Fake {
    pub(crate) marker: String,
}

#[typetag::serde(name = "fake")]
#[async_trait]
impl Trigger for Fake {
    async fn check(&self, _: &Context) -> Result<Answer, Error> {
        Ok(Answer::NotYet)
    }
}

/// Another kind of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct OtherFake {}

#[typetag::serde(name = "other_fake")]
#[async_trait]
impl Trigger for OtherFake {
    async fn check(&self, _: &Context) -> Result<Answer, Error> {
        Ok(Answer::NotYet)
    }
}

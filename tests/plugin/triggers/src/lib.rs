//! What Acme waits for.

use std::{io::ErrorKind, path::PathBuf};

use reveille_trigger::{Answer, Context, Error, Event, Spacing, Trigger, async_trait, typetag};
use serde::{Deserialize, Serialize};

/// Fires when a status file, which some other program writes, says a word.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusFile {
    path: PathBuf,
    says: String,
    #[serde(default)]
    every: Spacing,
}

/// What it fires.
#[derive(Debug, Serialize, Deserialize)]
pub struct Said {
    /// The word.
    pub word: String,
}

impl StatusFile {
    /// Waits until the file at `path` says `word`.
    pub fn at(path: impl Into<PathBuf>, word: impl Into<String>) -> Self {
        Self { path: path.into(), says: word.into(), every: Spacing::default() }
    }

    /// Sets how far apart the looks are.
    #[must_use]
    pub fn spaced(self, every: Spacing) -> Self {
        Self { every, ..self }
    }
}

#[typetag::serde(name = "status_file")]
#[async_trait]
impl Trigger for StatusFile {
    async fn check(&self, _: &Context) -> Result<Answer, Error> {
        match tokio::fs::read_to_string(&self.path).await {
            Ok(text) if text.trim() == self.says => Ok(Answer::Fire(Event::resume(Said { word: self.says.clone() })?)),
            Ok(_) => Ok(Answer::NotYet),
            Err(missing) if missing.kind() == ErrorKind::NotFound => Ok(Answer::NotYet),
            Err(unclear) => Err(Error::again(unclear)),
        }
    }

    fn validate(&self) -> Result<(), Error> {
        if self.path.is_absolute() {
            Ok(())
        } else {
            Err(Error::fatal(r#"`path` must be absolute: write it such as "/srv/export/status""#))
        }
    }

    fn spacing(&self) -> Spacing {
        self.every
    }
}

//! `reveille outside`

use std::path::PathBuf;

use super::failure::{Exit, Failure};
use crate::outside::{self, Speaking};

/// Play the part of another program in the demo or the benchmark
#[derive(Debug, clap::Subcommand)]
pub(super) enum Outside {
    /// Write a file in parts
    WriteFile { path: PathBuf },
    /// Print how large a file is; exit with 1 while it is not there
    LookFor { path: PathBuf },
    /// Serve HTTP until the standard input ends
    Serve {
        /// How many requests to answer with 503
        #[arg(long)]
        busy: u64,

        /// How many after those to answer with `running`
        #[arg(long)]
        pending: u64,

        /// What to say after that
        #[arg(long)]
        state: String,
    },
}

impl Outside {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::WriteFile { path } => outside::write_file(&path).await?,
            Self::LookFor { path } => {
                let Some(bytes) = outside::look_for(&path).await? else { return Ok(Exit::Wrong) };
                println!("{}", serde_json::json!({ "bytes": bytes }));
            }
            Self::Serve { busy, pending, state } => outside::serve(Speaking { busy, pending, state }).await?,
        }
        Ok(Exit::Fine)
    }
}

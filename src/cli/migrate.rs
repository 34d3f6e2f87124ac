//! `reveille migrate`

use std::{fmt, path::PathBuf};

use serde::Serialize;

use super::{
    app::App,
    failure::{Exit, Failure},
    output::FAINT,
};
use crate::{
    error::Error,
    store::{Options, Store, migrations},
    vault::{Vault, VaultError},
};

/// Make the database or bring it up to date, and make the key file
///
/// A key file that is there is left as it is. Safe to repeat, and to run from several places at once.
#[derive(Debug, clap::Args)]
pub(super) struct Migrate {
    /// Print the migrations of this kind of database, and apply nothing
    #[arg(long)]
    sql: bool,
}

impl Migrate {
    pub(super) async fn run(self, app: &App) -> Result<Exit, Failure> {
        if self.sql {
            let migrations = migrations(app.url()).map(|(version, name, sql)| Migration { version, name, sql });
            app.output.print(&Sql(migrations.collect()))?;
        } else {
            app.output.print(&prepare(app).await?)?;
        }
        Ok(Exit::Fine)
    }
}

/// Brings the database and the key to where the other commands need them.
pub(super) async fn prepare(app: &App) -> Result<Prepared, Failure> {
    let applied = Store::migrate(app.url()).await?;
    let key_file = app.key_file();
    let key_is_new = !key_file.exists();
    let vault = Vault::read_or_create(&key_file)?;
    // The first to connect leaves the mark of its key, by which a wrong one is told from then on.
    match Store::connect(Options::new(app.url().clone(), vault)).await {
        Ok(store) => app.close(store).await,
        Err(error @ Error::Vault(VaultError::UnknownKey { .. })) if key_is_new => {
            let key_file = key_file.display();
            return Err(Failure::from(error).help(format!(
                "put the key file that this database was first used with in the place of {key_file}, which was only made now and seals nothing"
            )));
        }
        Err(error) => return Err(error.into()),
    }
    let applied = migrations(app.url())
        .filter(|(version, ..)| applied.contains(version))
        .map(|(version, name, _)| Applied { version, name })
        .collect();
    Ok(Prepared { database: app.url().to_string(), applied, key_file, key_is_new })
}

/// What was made or changed.
#[derive(Serialize)]
pub(super) struct Prepared {
    pub(super) database: String,
    applied: Vec<Applied>,
    pub(super) key_file: PathBuf,
    pub(super) key_is_new: bool,
}

#[derive(Serialize)]
struct Applied {
    version: i64,
    name: &'static str,
}

impl Prepared {
    /// Whether there was nothing in the database before.
    pub(super) fn is_new(&self) -> bool {
        self.applied.first().is_some_and(|migration| migration.version == 1)
    }
}

impl fmt::Display for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = &self.database;
        match self.applied.len() {
            0 => writeln!(f, "{database} is up to date: nothing to apply")?,
            1 => writeln!(f, "applied 1 migration to {database}:")?,
            count => writeln!(f, "applied {count} migrations to {database}:")?,
        }
        for Applied { version, name } in &self.applied {
            writeln!(f, "  {version:04}  {name}")?;
        }
        let key_file = self.key_file.display();
        if self.key_is_new {
            writeln!(f, "made the key file {key_file}: keep a copy, as without it the database cannot be read")
        } else {
            writeln!(f, "{FAINT}the key file {key_file} opens it{FAINT:#}")
        }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Sql(Vec<Migration>);

#[derive(Serialize)]
struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

impl fmt::Display for Sql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Migration { version, name, sql } in &self.0 {
            writeln!(f, "-- migration {version:04}: {name}\n\n{}\n", sql.trim_end())?;
        }
        Ok(())
    }
}

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

/// Make the database, or bring it up to this binary, and make the key file if there is none
///
/// Safe to repeat, and to run from several places at once.
#[derive(Debug, clap::Args)]
pub(super) struct Migrate {
    /// Print the migrations of this kind of database, and apply nothing
    #[arg(long)]
    sql: bool,
}

impl Migrate {
    pub(super) async fn run(self, app: &App) -> Result<Exit, Failure> {
        if self.sql {
            app.output.print(&Sql(all(app)))?;
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
    let applied = all(app).into_iter().filter(|migration| applied.contains(&migration.version)).collect();
    Ok(Prepared { database: app.url().to_string(), applied, key_file, key_is_new })
}

fn all(app: &App) -> Vec<Migration> {
    migrations(app.url()).map(|(version, name, sql)| Migration { version, name, sql }).collect()
}

#[derive(Serialize)]
pub(super) struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

/// What was made or changed.
pub(super) struct Prepared {
    pub(super) database: String,
    pub(super) applied: Vec<Migration>,
    pub(super) key_file: PathBuf,
    pub(super) key_is_new: bool,
}

impl Prepared {
    /// Whether there was nothing in the database before.
    pub(super) fn is_new(&self) -> bool {
        self.applied.first().is_some_and(|migration| migration.version == 1)
    }
}

impl Serialize for Prepared {
    /// Without the migrations' text, which is what `--sql` is for.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Applied {
            version: i64,
            name: &'static str,
        }
        #[derive(Serialize)]
        struct Form<'a> {
            database: &'a str,
            applied: Vec<Applied>,
            key_file: &'a PathBuf,
            key_is_new: bool,
        }
        let applied = self.applied.iter().map(|Migration { version, name, .. }| Applied { version: *version, name });
        let form = Form {
            database: &self.database,
            applied: applied.collect(),
            key_file: &self.key_file,
            key_is_new: self.key_is_new,
        };
        form.serialize(serializer)
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
        for Migration { version, name, .. } in &self.applied {
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

impl fmt::Display for Sql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Migration { version, name, sql } in &self.0 {
            writeln!(f, "-- migration {version:04}: {name}\n\n{}\n", sql.trim_end())?;
        }
        Ok(())
    }
}

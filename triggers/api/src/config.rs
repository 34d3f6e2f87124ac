//! What the configuration of a replica says to triggers: connections with their secrets, and settings by kind.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Error;

/// What the configuration of this replica has for triggers. Specs name connections and never hold a secret.
#[derive(Clone, Default)]
pub struct Config(Arc<Tables>);

#[derive(Default)]
struct Tables {
    connections: BTreeMap<String, Value>,
    kinds: BTreeMap<String, Value>,
}

impl Config {
    /// The tables of the configuration: `[connections.NAME]`, and `[triggers.KIND]`.
    pub fn new(connections: BTreeMap<String, Value>, kinds: BTreeMap<String, Value>) -> Self {
        Self(Arc::new(Tables { connections, kinds }))
    }

    /// A connection by its name, in the form that a trigger reads.
    ///
    /// # Errors
    /// That may be tried again, as another replica may have it: there is none of that name here, or it does not read.
    /// No value of it is in the message.
    pub fn connection<T: DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        let Some(table) = self.0.connections.get(name) else {
            let known: Vec<&str> = self.0.connections.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Error::again(format!(
                "no connection named {name:?} is configured here ({known} is): add [connections.{name}] to reveille.toml"
            )));
        };
        read(table).map_err(|why| Error::again(format!("the connection {name:?} does not read: {why}")))
    }

    /// The settings of a kind, if there are any.
    ///
    /// # Errors
    /// That may be tried again: they do not read. No value of them is in the message.
    pub fn of_kind<T: DeserializeOwned>(&self, kind: &str) -> Result<Option<T>, Error> {
        let Some(table) = self.0.kinds.get(kind) else { return Ok(None) };
        read(table).map(Some).map_err(|why| Error::again(format!("the settings [triggers.{kind}] do not read: {why}")))
    }
}

/// Only names are shown.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tables { connections, kinds } = &*self.0;
        f.debug_struct("Config")
            .field("connections", &connections.keys().collect::<Vec<_>>())
            .field("kinds", &kinds.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// Reads a table; an error says what is wrong, and quotes no value: it may be a secret.
fn read<T: DeserializeOwned>(table: &Value) -> Result<T, String> {
    T::deserialize(table).map_err(|error| {
        let said = error.to_string();
        // What serde says of names is what helps; of values it says more than it should.
        let is_about_a_name =
            ["unknown field", "missing field", "duplicate field"].iter().any(|it| said.starts_with(it));
        if is_about_a_name { said } else { "a value in it is not of the form that is expected".to_owned() }
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Login {
        url: String,
        retries: Option<u8>,
    }

    fn config(table: Value) -> Config {
        Config::new([("api".to_owned(), table)].into(), BTreeMap::new())
    }

    #[test]
    fn a_connection_is_read_in_the_form_that_is_asked_for() {
        let login: Login = config(json!({ "url": "http://u:secret@h" })).connection("api").unwrap();
        assert_eq!(login.url, "http://u:secret@h");
        assert_eq!(config(json!({})).of_kind::<Login>("http").unwrap(), None);
    }

    #[test]
    fn an_error_names_what_is_wrong_and_quotes_no_value() {
        for (table, part) in [
            (json!({ "url": "secret", "port": 1 }), "unknown field `port`"),
            (json!({}), "missing field `url`"),
            (json!({ "url": "x", "retries": "secret" }), "not of the form"),
        ] {
            let said = config(table).connection::<Login>("api").unwrap_err().to_string();
            assert!(said.contains(part) && !said.contains("secret"), "{said}");
        }
        let said = config(json!({})).connection::<Login>("other").unwrap_err().to_string();
        assert!(said.contains("[connections.other]") && said.contains("api"), "{said}");
        assert!(!format!("{:?}", config(json!({ "url": "secret" }))).contains("secret"));
    }
}

//! A query and its parameters.

use reveille_trigger::Error;
use serde_json::Value;

/// The most bytes that a query and its parameters have together.
const MAX_BYTES: usize = 64 * 1024;

/// What a query that reads begins with. Others could not stand where a look puts them, among the tables of its own.
const BEGINNINGS: [&str; 4] = ["select", "with", "values", "table"];

/// A query that reads, with what is bound to it.
#[derive(Clone, Copy)]
pub(crate) struct Query<'q> {
    pub(crate) text: &'q str,
    pub(crate) parameters: &'q [Value],
}

impl Query<'_> {
    /// The statement as it can stand within another: without semicolons at its end, and with a line break, in case that
    /// it ends in a comment.
    pub(crate) fn statement(&self) -> String {
        format!("{}\n", self.text.trim_end_matches(|c: char| c == ';' || c.is_whitespace()))
    }

    /// Refuses what can never work, by the name that the field has in the spec.
    pub(crate) fn validate(&self, field: &str) -> Result<(), Error> {
        let statement = self.statement();
        let first = statement.trim_start_matches(|c: char| c == '(' || c.is_whitespace());
        let first = first.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        if !BEGINNINGS.iter().any(|word| first.eq_ignore_ascii_case(word)) {
            return Err(Error::fatal(format!(
                "`{field}` begins with {first:?}: write a query that reads, and begins with `select`, `with`, `values` or \
                 `table`"
            )));
        }
        // SQLite runs one statement after the other, and an `attach` among them opens any file.
        if statement.contains([';', '\0']) {
            return Err(Error::fatal(format!(
                "`{field}` has a semicolon in it, or a NUL character: write one statement, and bind text that has one as \
                 a parameter"
            )));
        }
        for (number, value) in self.parameters.iter().enumerate() {
            let why = match value {
                Value::Array(_) | Value::Object(_) => "a list or an object",
                Value::Number(it) if it.as_i64().is_none() && !it.is_f64() => "too large a number",
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => continue,
            };
            return Err(Error::fatal(format!(
                "number {} of `parameters` is {why}: write it as text, and let the query convert it",
                number + 1
            )));
        }
        let bytes = self.text.len() + self.parameters.iter().filter_map(Value::as_str).map(str::len).sum::<usize>();
        if bytes > MAX_BYTES {
            return Err(Error::fatal(format!(
                "`{field}` and its parameters have {bytes} bytes, and may have {MAX_BYTES}: make a view of it"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(text: &str, parameters: &[Value]) -> Option<String> {
        let error = Query { text, parameters }.validate("query").err()?;
        assert!(error.is_fatal());
        Some(error.to_string())
    }

    #[test]
    fn queries_that_read_are_valid() {
        for text in [
            "select 1",
            "  SELECT\n1 ; \n",
            "with a as (select 1) select * from a",
            "values (1)",
            "table t",
            "(select 1) union (select 2)",
            "select*from t -- with a comment",
        ] {
            assert_eq!(refusal(text, &[]), None, "{text}");
        }
        assert_eq!(refusal("select $1", &[json!(null), json!(true), json!(-1), json!(0.5), json!("a;b")]), None);
    }

    #[test]
    fn others_are_refused() {
        for text in ["", ";", "delete from t", "selected", "set x = 1", "attach 'x' as y", "-- select\nselect 1"] {
            assert!(refusal(text, &[]).expect(text).starts_with("`query` begins with"), "{text}");
        }
        for text in ["select 1; select 2", "select ';'", "select 1) ; attach 'x' as y; select * from (select 2"] {
            assert!(refusal(text, &[]).expect(text).starts_with("`query` has a semicolon"), "{text}");
        }
    }

    #[test]
    fn parameters_that_no_database_binds_are_refused() {
        for (value, why) in [(json!([1]), "a list"), (json!({}), "a list"), (json!(u64::MAX), "too large a number")] {
            let said = refusal("select 1", &[json!(1), value]).expect("a refusal");
            assert!(said.starts_with(&format!("number 2 of `parameters` is {why}")), "{said}");
        }
        assert!(refusal("select 1", &[json!("x".repeat(MAX_BYTES))]).expect("a refusal").contains("have 65544 bytes"));
    }
}

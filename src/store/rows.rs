//! Many rows in one statement of SQLite, which has no arrays: a list of values is repeated for each of them.
//!
//! A file holds the statement for one row. `values ($3, $4)` becomes `values ($3, $4), ($5, $6)` for two, and what is not
//! in such a list is bound once. JSON would do as well, but each look into it reads a row's text again.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use sqlx::AssertSqlSafe;

/// For how many rows there are statements, so that few are prepared. The driver looks each parameter up by its name, and the
/// more there are, the longer that takes.
const SIZES: [usize; 4] = [32, 8, 2, 1];

const LIST: &str = "values (";

/// Cuts a batch into parts for each of which there is a statement.
pub(super) fn parts<T>(mut batch: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = SIZES.into_iter().find(|size| *size <= batch.len())?;
        let (part, rest) = batch.split_at(size);
        batch = rest;
        Some(part)
    })
}

/// The statements of a file for so many rows, of which each has so many parameters.
pub(super) fn statements(file: &'static str, rows: usize, width: usize) -> AssertSqlSafe<Arc<str>> {
    type Known = HashMap<(&'static str, usize), Arc<str>>;
    static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let text = known.entry((file, rows)).or_insert_with(|| repeated(file, rows, width).into());
    AssertSqlSafe(Arc::clone(text))
}

fn repeated(file: &str, rows: usize, width: usize) -> String {
    let mut pieces = file.split(LIST);
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (list, rest) = piece.split_once(')').expect("a list ends");
        text.push_str("values ");
        for row in 0..rows {
            text.push_str(if row == 0 { "(" } else { ", (" });
            let numbers = list.split(", ").map(|parameter| parameter.trim_start_matches('$').parse::<usize>());
            for (at, number) in numbers.enumerate() {
                let number = number.expect("a list holds parameters") + row * width;
                write!(text, "{}${number}", if at == 0 { "" } else { ", " }).expect("a string takes all");
            }
            text.push(')');
        }
        text.push_str(rest);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_parameters_of_its_own_and_the_rest_is_bound_once() {
        let file = "with f(a, b) as (values ($2, $3)) select $1, a from f; with f(b) as (values ($3)) select b from f";
        let two = "with f(a, b) as (values ($2, $3), ($4, $5)) select $1, a from f; with f(b) as (values ($3), ($5)) select b from f";
        assert_eq!(repeated(file, 1, 2), file);
        assert_eq!(repeated(file, 2, 2), two);
    }

    #[test]
    fn a_batch_is_cut_into_parts_of_few_sizes() {
        let batch = [(); 79];
        let sizes: Vec<usize> = parts(&batch).map(<[()]>::len).collect();
        assert_eq!(sizes, [32, 32, 8, 2, 2, 2, 1]);
    }
}

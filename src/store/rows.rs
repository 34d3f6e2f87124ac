//! Many rows in one statement of SQLite, which has no arrays: a list of values is repeated for each of them.
//!
//! A file holds the statement for one row. `values ($3, $4)` becomes `values (?, ?), (?, ?)` for two, and what is not in
//! such a list is bound once. JSON would do as well, but each look into it reads a row's text again. The values of rows have
//! no names, as the driver looks each name up among all names of its statement.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use sqlx::{Arguments, AssertSqlSafe, sqlite::SqliteArguments};
use uuid::Uuid;

/// For how many rows there are statements, so that few are prepared.
const SIZES: [usize; 9] = [256, 128, 64, 32, 16, 8, 4, 2, 1];

const LIST: &str = "values (";

/// What is bound.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell<'a> {
    Null,
    Integer(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Id(Uuid),
}

macro_rules! cells {
    ($($of:ty => $value:pat => $cell:expr),* $(,)?) => {
        $(impl<'a> From<$of> for Cell<'a> {
            fn from($value: $of) -> Self {
                $cell
            }
        })*
    };
}

cells! {
    bool => value => Self::Integer(value.into()),
    i16 => value => Self::Integer(value.into()),
    i32 => value => Self::Integer(value.into()),
    i64 => value => Self::Integer(value),
    Uuid => value => Self::Id(value),
    &'a str => value => Self::Text(value),
    &'a String => value => Self::Text(value),
    &'a [u8] => value => Self::Bytes(value),
    &'a Vec<u8> => value => Self::Bytes(value),
}

impl<'a, T: Into<Cell<'a>>> From<Option<T>> for Cell<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl Cell<'_> {
    fn add_to(self, arguments: &mut SqliteArguments) {
        match self {
            Self::Null => arguments.add(None::<i64>),
            Self::Integer(value) => arguments.add(value),
            Self::Text(value) => arguments.add(value),
            Self::Bytes(value) => arguments.add(value),
            Self::Id(value) => arguments.add(value),
        }
        .expect("numbers, text and bytes can be bound");
    }
}

/// Cuts a batch into parts for each of which there is a statement.
pub(super) fn parts<T>(mut batch: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = SIZES.into_iter().find(|size| *size <= batch.len())?;
        let (part, rest) = batch.split_at(size);
        batch = rest;
        Some(part)
    })
}

/// The statements of a file for these rows, and what is bound: `all` for all of them, as the file's first parameters, and
/// the cells of each, as those that follow.
pub(super) fn statements<T, const ALL: usize, const WIDTH: usize>(
    file: &'static str,
    all: [Cell<'_>; ALL],
    rows: &[T],
    cells: impl for<'a> Fn(&'a T) -> [Cell<'a>; WIDTH],
) -> (AssertSqlSafe<Arc<str>>, SqliteArguments) {
    let repeated = Repeated::of(file, rows.len());
    let rows: Vec<[Cell<'_>; WIDTH]> = rows.iter().map(cells).collect();
    let mut arguments = SqliteArguments::default();
    arguments.reserve(repeated.unnamed + ALL, 0);
    for list in &repeated.lists {
        for row in &rows {
            list.iter().for_each(|number| row[number - ALL - 1].add_to(&mut arguments));
        }
    }
    all.into_iter().for_each(|cell| cell.add_to(&mut arguments));
    (AssertSqlSafe(Arc::clone(&repeated.text)), arguments)
}

/// A file for some number of rows.
#[derive(Debug)]
struct Repeated {
    text: Arc<str>,
    /// The numbers in each list, as the file has them.
    lists: Vec<Vec<usize>>,
    /// How many values come before those with a name.
    unnamed: usize,
}

impl Repeated {
    fn of(file: &'static str, rows: usize) -> Arc<Self> {
        type Known = HashMap<(&'static str, usize), Arc<Repeated>>;
        static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry((file, rows)).or_insert_with(|| Arc::new(Self::new(file, rows))))
    }

    fn new(file: &str, rows: usize) -> Self {
        let number = |parameter: &str| parameter.parse::<usize>().expect("parameters are numbered");
        let mut pieces = file.split(LIST);
        let first = pieces.next().unwrap_or_default();
        let (lists, rests): (Vec<Vec<usize>>, Vec<&str>) = pieces
            .map(|piece| {
                let (list, rest) = piece.split_once(')').expect("a list ends");
                (list.split(", ").map(|parameter| number(parameter.trim_start_matches('$'))).collect(), rest)
            })
            .unzip();
        let unnamed = rows * lists.iter().map(Vec::len).sum::<usize>();
        let renumbered = |piece: &str| {
            let mut parts = piece.split('$');
            let mut text = parts.next().unwrap_or_default().to_owned();
            for part in parts {
                let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
                text.extend(["$", &(number(&part[..end]) + unnamed).to_string(), &part[end..]]);
            }
            text
        };
        let mut text = renumbered(first);
        for (list, rest) in lists.iter().zip(rests) {
            let row = format!("({})", vec!["?"; list.len()].join(", "));
            text.extend(["values ", &vec![row; rows].join(", "), &renumbered(rest)]);
        }
        Self { text: text.into(), lists, unnamed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_values_of_its_own_and_the_rest_is_bound_once() {
        let file = "with f(a, b) as (values ($2, $3)) select $1, a from f; with f(b) as (values ($3)) select b from f";
        let two = "with f(a, b) as (values (?, ?), (?, ?)) select $7, a from f; with f(b) as (values (?), (?)) select b from f";
        let repeated = Repeated::new(file, 2);
        assert_eq!(&*repeated.text, two);
        assert_eq!(repeated.lists, [vec![2, 3], vec![3]]);
    }

    #[tokio::test]
    async fn what_is_bound_gets_to_where_the_file_names_it() {
        use sqlx::Connection;
        let mut connection = sqlx::SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let file = "with f(a, b) as (values ($3, $5)) select $2 || a || b || $1 from f;
                    with f(c, b) as (values ($4, $5)) select $1 || c || b || $2 from f";
        let rows = [("a", None, 1), ("d", Some("e"), 2)];
        let (text, bound) = statements(file, ["<".into(), ">".into()], &rows, |(a, c, b)| {
            [(*a).into(), c.map_or("none", |c| c).into(), (*b).into()]
        });
        let all: Vec<String> = sqlx::query_scalar_with(text, bound).fetch_all(&mut connection).await.unwrap();
        assert_eq!(all, [">a1<", ">d2<", "<none1>", "<e2>"]);
    }

    #[test]
    fn a_batch_is_cut_into_parts_of_few_sizes() {
        let batch = [(); 79];
        let sizes: Vec<usize> = parts(&batch).map(<[()]>::len).collect();
        assert_eq!(sizes, [64, 8, 4, 2, 1]);
    }
}

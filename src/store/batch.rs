//! How much one transaction takes.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use serde::Serialize;

use super::Url;

/// The most rows.
pub const BATCH: usize = 500;

/// The most bytes of values, unless one row alone has more.
const BYTES: usize = 4 << 20;

/// The most rows, where each takes little.
pub(crate) const MOST: usize = 4 * BATCH;

/// How long a transaction may take that is to grow.
const QUICK: Duration = Duration::from_millis(100);

/// How many rows are asked for at once by who asks again and again: more, the quicker it goes.
#[derive(Debug)]
pub(crate) struct Reach {
    rows: AtomicUsize,
    most: usize,
}

impl Reach {
    /// On SQLite all share one writer, and no transaction is to keep the others from it for long.
    pub(crate) fn on(url: &Url) -> Self {
        let most = match url {
            Url::Sqlite(_) => BATCH,
            Url::Postgres(_) => MOST,
        };
        Self { rows: AtomicUsize::new(BATCH), most }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }

    /// Takes note of how long as many rows took as there were asked for; none: they could not be had.
    pub(crate) fn note(&self, took: Option<Duration>) {
        let rows = match took {
            Some(took) if took < QUICK => (2 * self.rows()).min(self.most),
            Some(took) if took < 2 * QUICK => self.rows(),
            Some(_) | None => BATCH,
        };
        self.rows.store(rows, Ordering::Relaxed);
    }
}

/// Cuts a batch into parts that one transaction takes, in its order; `size` is in bytes.
pub(crate) fn parts<T>(batch: impl IntoIterator<Item = T>, rows: usize, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let (mut parts, mut bytes) = (Vec::<Vec<T>>::new(), 0);
    for row in batch {
        let more = size(&row);
        match parts.last_mut() {
            Some(part) if part.len() < rows && bytes + more <= BYTES => {
                bytes += more;
                part.push(row);
            }
            _ => {
                bytes = more;
                parts.push(vec![row]);
            }
        }
    }
    parts
}

/// Half of a part at a time, for one that holds a row that cannot be stored, or that is too slow.
pub(crate) fn halves<T>(mut part: Vec<T>) -> [Vec<T>; 2] {
    let rest = part.split_off(part.len() / 2);
    [part, rest]
}

/// How many bytes a value has as JSON.
pub(crate) fn json_size<T: Serialize + ?Sized>(value: &T) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // What cannot be written is refused where it is sealed.
    serde_json::to_writer(&mut count, value).ok();
    count.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(parts: &[Vec<usize>]) -> Vec<usize> {
        parts.iter().map(Vec::len).collect()
    }

    #[test]
    fn a_part_has_no_more_rows_and_bytes_than_one_transaction_takes() {
        assert_eq!(sizes(&parts(vec![1; 1_001], BATCH, |size| *size)), [500, 500, 1]);
        assert_eq!(sizes(&parts(vec![1 << 20; 9], BATCH, |size| *size)), [4, 4, 1]);
        assert_eq!(sizes(&parts([1, 5 << 20, 1, 1], BATCH, |size| *size)), [1, 1, 2], "one alone may be larger");
        assert_eq!(parts(Vec::<usize>::new(), BATCH, |size| *size), Vec::<Vec<usize>>::new());
        assert_eq!(parts(1..=5, 2, |_| 0).concat(), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn the_size_is_that_of_the_json() {
        let value = serde_json::json!({ "a": ["ß", 1.5, null] });
        assert_eq!(json_size(&value), serde_json::to_vec(&value).unwrap().len());
    }

    #[test]
    fn more_is_asked_for_while_it_goes_quickly() {
        let reach = Reach::on(&Url::Postgres(String::new()));
        let after = |ms: Option<u64>| {
            reach.note(ms.map(Duration::from_millis));
            reach.rows()
        };
        assert_eq!([20, 40, 80].map(|ms| after(Some(ms))), [1_000, 2_000, 2_000]);
        assert_eq!([Some(150), Some(250), Some(20), None].map(after), [2_000, 500, 1_000, 500]);
        let embedded = Reach::on(&Url::Sqlite("reveille.db".into()));
        embedded.note(Some(Duration::ZERO));
        assert_eq!(embedded.rows(), BATCH);
    }
}

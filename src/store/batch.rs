//! How much one transaction takes.

use std::io;

use serde::Serialize;

/// The most rows.
pub const BATCH: usize = 500;

/// The most bytes of values, unless one row alone has more.
const BYTES: usize = 4 << 20;

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
}

//! What was measured again and again over time, and whether it is flat.

use serde::Serialize;

use crate::store::size::Size;

/// What is seen at one time.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Seconds since it began.
    pub at_s: f64,
    /// How many deferrals were over by then.
    pub resumed: u64,
    /// What is open in this process, where the system tells.
    pub descriptors: Option<u64>,
    /// The memory of this process.
    pub rss_bytes: Option<u64>,
    /// The tasks of the runtime that are not over.
    pub tokio_tasks: u64,
    /// From due to running, for 99 in 100 of those since the sample before.
    pub lag_p99_ms: u64,
    /// What tables take.
    pub tables: Vec<Size>,
}

/// One measure over time.
#[derive(Clone, Debug)]
pub struct Series {
    /// Of what.
    pub measure: String,
    /// In what.
    pub unit: Unit,
    /// At each time.
    pub values: Vec<f64>,
}

/// What a measure is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// How many.
    Count,
    /// Of memory, or of a file.
    Bytes,
    /// How long.
    Milliseconds,
}

impl Unit {
    /// How much more is no more: a part of what it was, and so much beside.
    fn tolerance(self) -> (f64, f64) {
        match self {
            Self::Count => (0.05, 3.0),
            Self::Bytes => (0.05, f64::from(1 << 20)),
            Self::Milliseconds => (0.25, 5.0),
        }
    }
}

/// Whether a measure is flat: in the last third no more than in the third before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Flat {
    /// Of what.
    pub measure: String,
    /// Its median in the second third.
    pub middle: f64,
    /// Its median in the last.
    pub last: f64,
    /// Whether it has not grown.
    pub is_flat: bool,
}

/// A table that takes less is not shown by itself.
const LEAST: f64 = 262_144.0;

/// Each measure of some samples.
pub fn series(samples: &[Sample]) -> Vec<Series> {
    let of = |measure: &str, unit: Unit, value: &dyn Fn(&Sample) -> Option<f64>| Series {
        measure: measure.to_owned(),
        unit,
        values: samples.iter().filter_map(value).collect(),
    };
    let mut all = vec![
        of("descriptors", Unit::Count, &|sample| sample.descriptors.map(|count| count as f64)),
        of("memory", Unit::Bytes, &|sample| sample.rss_bytes.map(|bytes| bytes as f64)),
        of("tokio tasks", Unit::Count, &|sample| Some(sample.tokio_tasks as f64)),
        of("lag p99", Unit::Milliseconds, &|sample| Some(sample.lag_p99_ms as f64)),
    ];
    let mut tables: Vec<&str> =
        samples.iter().flat_map(|sample| sample.tables.iter().map(|table| table.name.as_str())).collect();
    tables.sort_unstable();
    tables.dedup();
    for name in tables {
        // What is not there yet takes nothing.
        let sum = |sample: &Sample, bytes: &dyn Fn(&Size) -> i64| {
            Some(sample.tables.iter().filter(|table| table.name == name).map(|table| bytes(table) as f64).sum())
        };
        all.push(of(&format!("table {name}"), Unit::Bytes, &|sample| sum(sample, &|table| table.bytes)));
        all.push(of(&format!("its indexes, {name}"), Unit::Bytes, &|sample| sum(sample, &|table| table.index_bytes)));
    }
    let is_told = |series: &Series| {
        let is_table = series.measure.starts_with("table") || series.measure.starts_with("its");
        !series.values.is_empty() && (!is_table || series.values.iter().any(|bytes| *bytes >= LEAST))
    };
    all.retain(is_told);
    all
}

/// How many samples there are between two times of forgetting, or a multiple of that: what is compared is as many whole
/// periods of tables that grow and are emptied.
const PERIOD: usize = 48;

impl Series {
    /// Whether it is flat.
    pub fn flat(&self) -> Flat {
        let third = self.values.len() / 3;
        let third = if third > PERIOD { third - third % PERIOD } else { third };
        // Not means: one sample in a moment when much is under way says nothing.
        let last = median(&self.values[self.values.len() - third..]);
        let middle = median(&self.values[self.values.len() - 2 * third..self.values.len() - third]);
        let (part, beside) = self.unit.tolerance();
        Flat { measure: self.measure.clone(), middle, last, is_flat: last <= middle * (1.0 + part) + beside }
    }

    /// The means of so many stretches at most.
    pub fn in_brief(&self, most: usize) -> Vec<f64> {
        let each = self.values.len().div_ceil(most).max(1);
        self.values.chunks(each).map(mean).collect()
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    // Of an even number, the mean of the two in the middle.
    mean(&sorted[half.saturating_sub(usize::from(sorted.len().is_multiple_of(2)))..(half + 1).min(sorted.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(unit: Unit, values: &[f64]) -> Series {
        Series { measure: "this".to_owned(), unit, values: values.to_vec() }
    }

    #[test]
    fn flat_is_what_has_not_grown_since_the_middle() {
        let counts = |values: &[f64]| of(Unit::Count, values).flat().is_flat;
        // What it was in the first third does not count.
        assert!(counts(&[0.0, 0.0, 500.0, 500.0, 500.0, 500.0]));
        assert!(counts(&[500.0, 500.0, 500.0, 500.0, 520.0, 530.0]), "up to a twentieth and 3 more");
        assert!(!counts(&[500.0, 500.0, 500.0, 500.0, 530.0, 530.0]));
        assert!(counts(&[9.0, 9.0, 500.0, 400.0, 10.0, 10.0]));
        assert!(of(Unit::Milliseconds, &[1.0, 10.0, 16.0]).flat().is_flat);
        assert!(!of(Unit::Bytes, &[0.0, 1e8, 2e8]).flat().is_flat);
        assert!(counts(&[]));
        let saw: Vec<f64> = (0..240).map(|at| f64::from(at % 24) * 1_000.0).collect();
        assert!(counts(&saw), "it is emptied again and again");
        let mut with_a_peak = [9.0; 9];
        with_a_peak[7] = 900.0;
        assert!(counts(&with_a_peak));
    }

    #[test]
    fn a_series_is_told_in_brief() {
        let values: Vec<f64> = (0..10).map(f64::from).collect();
        assert_eq!(of(Unit::Count, &values).in_brief(5), [0.5, 2.5, 4.5, 6.5, 8.5]);
        assert_eq!(of(Unit::Count, &values[..2]).in_brief(5), [0.0, 1.0]);
    }

    #[test]
    fn what_takes_little_is_not_told_by_itself() {
        let size = |name: &str, bytes| Size { name: name.to_owned(), bytes, index_bytes: 8_192, live: 1, dead: 0 };
        let sample = |tables| Sample {
            at_s: 0.0,
            resumed: 0,
            descriptors: None,
            rss_bytes: Some(1),
            tokio_tasks: 1,
            lag_p99_ms: 1,
            tables,
        };
        let all =
            series(&[sample(vec![size("queue", 8_192)]), sample(vec![size("task", 1 << 20), size("queue", 8_192)])]);
        let named: Vec<_> = all.iter().map(|series| (series.measure.as_str(), series.values.clone())).collect();
        assert_eq!(named[..3], [("memory", vec![1.0; 2]), ("tokio tasks", vec![1.0; 2]), ("lag p99", vec![1.0; 2])]);
        assert_eq!(named[3..], [("table task", vec![0.0, 1_048_576.0])]);
    }
}

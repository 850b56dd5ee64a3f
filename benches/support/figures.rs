//! Figures for people: percentiles, lengths of time, sizes, and a table of them.

use std::{fmt, time::Duration};

/// A number of webhooks or the like, with how long each took.
#[derive(Debug, Default)]
pub struct Times {
    taken: Vec<Duration>,
    is_sorted: bool,
}

impl Times {
    pub fn add(&mut self, took: Duration) {
        self.taken.push(took);
        self.is_sorted = false;
    }

    pub fn count(&self) -> usize {
        self.taken.len()
    }

    /// The least time that so much of all (0 to 1) do not exceed: the nearest rank, so always a time that was measured.
    /// Zero where nothing was.
    pub fn quantile(&mut self, share: f64) -> Duration {
        if !self.is_sorted {
            self.taken.sort_unstable();
            self.is_sorted = true;
        }
        let rank = (share * self.taken.len() as f64).ceil() as usize;
        self.taken.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// `2.3 ms`, `10.1 s`.
pub fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{seconds:.1} s"),
    }
}

/// `12.3 MiB`.
pub fn size(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}

/// How much larger `after` is: `1.07`.
pub fn ratio(after: f64, before: f64) -> String {
    if before > 0.0 { format!("{:.2}", after / before) } else { "-".to_owned() }
}

/// Columns as wide as they need to be; the first one flush left, figures flush right.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|&name| name.to_owned()).collect()] }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

//! What became of the rows of a stage so far: for bars, lines of JSON and Prometheus.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use dataset::{Stage, Status};

/// Counts that grow while a stage is under way.
#[derive(Debug)]
pub(crate) struct Tally {
    stage: Stage,
    rows: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ends: BTreeMap<&'static str, u64>,
    bytes: u64,
    /// When the rates below were last looked at, and the counts of then.
    looked: (Instant, u64, u64),
    /// Rows kept and bytes in a second, of late.
    rates: (f64, f64),
}

impl Tally {
    pub(crate) fn new(stage: Stage, rows: Option<u64>) -> Self {
        let looked = (Instant::now(), 0, 0);
        Self { stage, rows, state: Mutex::new(State { ends: BTreeMap::new(), bytes: 0, looked, rates: (0.0, 0.0) }) }
    }

    pub(crate) fn add(&self, status: Status, bytes: u64) {
        let mut state = self.state.lock().expect("no thread panics with the lock");
        *state.ends.entry(status.name()).or_default() += 1;
        state.bytes += bytes;
    }

    /// How it goes: rates over the last seconds, the share that is kept, and why the others are not, the most frequent first.
    pub(crate) fn line(&self) -> String {
        let mut state = self.state.lock().expect("no thread panics with the lock");
        let all: u64 = state.ends.values().sum();
        if all == 0 {
            return String::new();
        }
        let kept = state.ends.get(Status::Kept.name()).copied().unwrap_or_default();
        let (since, kept_then, bytes_then) = state.looked;
        let elapsed = since.elapsed();
        if elapsed >= Duration::from_secs(2) {
            let rate = |now: u64, then: u64| (now - then) as f64 / elapsed.as_secs_f64();
            state.rates = (rate(kept, kept_then), rate(state.bytes, bytes_then));
            state.looked = (Instant::now(), kept, state.bytes);
        }
        let (images, bytes) = state.rates;
        let share = 100.0 * kept as f64 / all as f64;
        let digits = usize::from(images < 10.0); // a large model on few processors
        let mut line = format!("{images:.digits$} images/s");
        if state.bytes > 0 {
            line += &format!(" {:.1} MB/s", bytes / 1e6);
        }
        line += &format!(", {share:.1} % kept");
        let mut others: Vec<_> = state.ends.iter().filter(|(name, _)| **name != Status::Kept.name()).collect();
        others.sort_by_key(|(_, rows)| std::cmp::Reverse(**rows));
        for (name, rows) in others.into_iter().take(3) {
            line += &format!(", {name} {rows}");
        }
        line
    }

    /// The counts for a line of JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        let state = self.state.lock().expect("no thread panics with the lock");
        serde_json::json!({"bytes": state.bytes, "ends": state.ends})
    }

    /// The counts as Prometheus reads them (its text format, version 0.0.4).
    pub(crate) fn prometheus(&self) -> String {
        let state = self.state.lock().expect("no thread panics with the lock");
        let stage = self.stage.name();
        let mut text = String::from(
            "# HELP laion400m_rows_total Rows that came to an end, by what became of them.\n\
             # TYPE laion400m_rows_total counter\n",
        );
        for (end, rows) in &state.ends {
            text += &format!("laion400m_rows_total{{stage=\"{stage}\",end=\"{end}\"}} {rows}\n");
        }
        text += "# HELP laion400m_received_bytes_total Bytes of bodies that were received whole.\n\
                 # TYPE laion400m_received_bytes_total counter\n";
        text += &format!("laion400m_received_bytes_total{{stage=\"{stage}\"}} {}\n", state.bytes);
        if let Some(rows) = self.rows {
            text += "# HELP laion400m_rows_expected Rows of the whole stage.\n# TYPE laion400m_rows_expected gauge\n";
            text += &format!("laion400m_rows_expected{{stage=\"{stage}\"}} {rows}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataset::Failure;

    #[test]
    fn a_line_tells_how_much_is_kept_and_what_fails_most() {
        let tally = Tally::new(Stage::Download, Some(10));
        assert_eq!(tally.line(), "");
        for (status, rows) in
            [(Status::Kept, 6), (Status::Failed(Failure::Dns), 1), (Status::Failed(Failure::Timeout), 3)]
        {
            (0..rows).for_each(|_| tally.add(status, 100));
        }
        assert!(tally.line().ends_with("60.0 % kept, timeout 3, dns 1"), "{}", tally.line());
        let text = tally.prometheus();
        for line in [
            "laion400m_rows_total{stage=\"download\",end=\"timeout\"} 3\n",
            "laion400m_received_bytes_total{stage=\"download\"} 1000\n",
            "laion400m_rows_expected{stage=\"download\"} 10\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}

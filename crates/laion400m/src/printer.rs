//! Everything the program says: results on stdout, progress and words on stderr.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dataset::{Progress, Stage, Status, Summary, Task};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use pipeline::build::Report;

use crate::cli::{self, Output};
use crate::tally::Tally;

/// Speaks as the flags say.
#[derive(Debug)]
pub(crate) struct Printer {
    bars: MultiProgress,
    style: Style,
    quiet: bool,
    json: bool,
    tallies: Arc<Tallies>,
}

/// The counts of every stage that has begun.
#[derive(Debug, Default)]
pub(crate) struct Tallies(Mutex<Vec<Arc<Tally>>>);

impl Tallies {
    fn begin(&self, stage: Stage, rows: Option<u64>) -> Arc<Tally> {
        let tally = Arc::new(Tally::new(stage, rows));
        self.0.lock().expect("no thread panics with the lock").push(tally.clone());
        tally
    }

    pub(crate) fn prometheus(&self) -> String {
        self.0.lock().expect("no thread panics with the lock").iter().map(|tally| tally.prometheus()).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Bars,
    Json,
    Silent,
}

impl Printer {
    pub(crate) fn new(output: &Output) -> Self {
        let style = match output.progress {
            _ if output.quiet || output.no_progress => Style::Silent,
            cli::ProgressStyle::Json => Style::Json,
            cli::ProgressStyle::Bars if io::stderr().is_terminal() => Style::Bars,
            cli::ProgressStyle::Bars => Style::Silent,
        };
        let target = if style == Style::Bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self {
            bars: MultiProgress::with_draw_target(target),
            style,
            quiet: output.quiet,
            json: output.json,
            tallies: Arc::default(),
        }
    }

    /// The counts of the stages that have begun.
    pub(crate) fn tallies(&self) -> Arc<Tallies> {
        self.tallies.clone()
    }

    /// Whether results are wanted as JSON.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// A line of data.
    pub(crate) fn data(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")?;
        stdout.flush()
    }

    /// Something nice to know.
    pub(crate) fn note(&self, line: &str) {
        if !self.quiet {
            self.say(line);
        }
    }

    /// Why the program ends.
    pub(crate) fn error(&self, line: &str) {
        self.say(&format!("error: {line}"));
    }

    fn say(&self, line: &str) {
        self.bars.suspend(|| {
            let _ = writeln!(io::stderr().lock(), "{line}"); // nobody is there to be told
        });
    }

    /// The result of one stage.
    pub(crate) fn summary(&self, summary: &Summary) -> io::Result<()> {
        if self.json {
            return self.data(&serde_json::to_string(summary).expect("plain data"));
        }
        self.funnel(&Report { stages: vec![summary.clone()], truth: None })
    }

    /// The table of all stages.
    pub(crate) fn funnel(&self, report: &Report) -> io::Result<()> {
        if self.json {
            return self.data(&serde_json::to_string(report).expect("plain data"));
        }
        self.data(table(report).trim_end())
    }
}

impl Progress for Printer {
    fn begin(&self, stage: Stage, steps: Option<u64>) -> Box<dyn Task + '_> {
        let tally = self.tallies.begin(stage, steps);
        match self.style {
            Style::Silent => Box::new(Counted(tally)),
            Style::Bars => {
                let bar = self.bars.add(steps.map_or_else(ProgressBar::new_spinner, ProgressBar::new));
                let rate = if stage == Stage::Collect {
                    "{bytes}/{total_bytes} {bytes_per_sec}"
                } else {
                    "{pos}/{len} {rate}"
                };
                let template = format!("{{prefix:>9}} [{{bar:32}}] {rate} eta {{eta}} {{wide_msg}}");
                let style = ProgressStyle::with_template(&template).expect("a template of ours").with_key(
                    "rate",
                    |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                        let _ = write!(out, "{:.0} rows/s", state.per_sec()); // a bar without its rate is still a bar
                    },
                );
                bar.set_style(style.progress_chars("=> "));
                bar.set_prefix(stage.name());
                bar.enable_steady_tick(Duration::from_millis(200));
                Box::new(Bar(bar, tally))
            }
            Style::Json => {
                let last = Mutex::new(Instant::now());
                let lines = Lines { stage, steps, done: AtomicU64::new(0), last, tally };
                lines.print();
                Box::new(lines)
            }
        }
    }

    fn warn(&self, line: &str) {
        if !self.quiet {
            self.say(&format!("warning: {line}"));
        }
    }
}

/// Shows nothing.
struct Counted(Arc<Tally>);

impl Task for Counted {
    fn advance(&self, _: u64) {}

    fn row(&self, status: Status, bytes: u64) {
        self.0.add(status, bytes);
    }
}

struct Bar(ProgressBar, Arc<Tally>);

impl Task for Bar {
    fn advance(&self, steps: u64) {
        self.0.inc(steps);
    }

    fn row(&self, status: Status, bytes: u64) {
        self.1.add(status, bytes);
        self.0.inc(1);
        if self.0.position().is_multiple_of(64) {
            self.0.set_message(self.1.line());
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear(); // the table that follows tells what came of it
    }
}

/// A line of JSON at most five times a second.
struct Lines {
    stage: Stage,
    steps: Option<u64>,
    done: AtomicU64,
    last: Mutex<Instant>,
    tally: Arc<Tally>,
}

impl Lines {
    fn print(&self) {
        let line = serde_json::json!({
            "stage": self.stage.name(),
            "done": self.done.load(Ordering::Relaxed),
            "total": self.steps,
            "rows": self.tally.json()
        });
        let _ = writeln!(io::stderr().lock(), "{line}"); // nobody is there to be told
    }
}

impl Task for Lines {
    fn advance(&self, steps: u64) {
        self.done.fetch_add(steps, Ordering::Relaxed);
        if let Ok(mut last) = self.last.try_lock()
            && last.elapsed() >= Duration::from_millis(200)
        {
            *last = Instant::now();
            self.print();
        }
    }

    fn row(&self, status: Status, bytes: u64) {
        self.tally.add(status, bytes);
        self.advance(1);
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.print();
    }
}

fn table(report: &Report) -> String {
    let mut text =
        format!("{:<26}{:>10}{:>10}{:>10}{:>10}{:>10}\n", "stage", "rows", "kept", "dropped", "failed", "share");
    for Summary { stage, counts } in &report.stages {
        let share = |part: u64| match counts.rows {
            0 => "-".to_owned(),
            rows => format!("{:.1} %", 100.0 * part as f64 / rows as f64),
        };
        let (dropped, failed) = (counts.dropped_rows(), counts.failed_rows());
        text += &format!(
            "{:<26}{:>10}{:>10}{dropped:>10}{failed:>10}{:>10}\n",
            stage.name(),
            counts.rows,
            counts.kept,
            share(counts.kept)
        );
        for (reason, &rows) in &counts.dropped {
            text += &format!("  {reason:<24}{:>10}{:>10}{rows:>10}{:>10}{:>10}\n", "", "", "", share(rows));
        }
        for (failure, &rows) in &counts.failed {
            text += &format!("  {failure:<24}{:>10}{:>10}{:>10}{rows:>10}{:>10}\n", "", "", "", share(rows));
        }
    }
    if let Some(truth) = report.truth {
        text += &format!("\nagainst the known truth: precision {:.3}, recall {:.3}\n", truth.precision, truth.recall);
    }
    text
}

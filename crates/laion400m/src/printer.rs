//! Everything the program says: results on stdout, progress and words on stderr.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dataset::{Progress, Stage, Summary, Task};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use pipeline::build::Report;

use crate::cli::{self, Output};

/// Speaks as the flags say.
#[derive(Debug)]
pub(crate) struct Printer {
    bars: MultiProgress,
    style: Style,
    quiet: bool,
    json: bool,
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
        Self { bars: MultiProgress::with_draw_target(target), style, quiet: output.quiet, json: output.json }
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
        match self.style {
            Style::Silent => Box::new(dataset::Silent),
            Style::Bars => {
                let bar = self.bars.add(steps.map_or_else(ProgressBar::new_spinner, ProgressBar::new));
                let rate = if stage == Stage::Collect {
                    "{bytes}/{total_bytes} {bytes_per_sec}"
                } else {
                    "{pos}/{len} {rate}"
                };
                let template = format!("{{prefix:>9}} [{{bar:32}}] {rate} eta {{eta}}");
                let style = ProgressStyle::with_template(&template).expect("a template of ours").with_key(
                    "rate",
                    |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                        let _ = write!(out, "{:.0} rows/s", state.per_sec()); // a bar without its rate is still a bar
                    },
                );
                bar.set_style(style.progress_chars("=> "));
                bar.set_prefix(stage.name());
                bar.enable_steady_tick(Duration::from_millis(200));
                Box::new(Bar(bar))
            }
            Style::Json => {
                let last = Mutex::new(Instant::now());
                let lines = Lines { stage, steps, done: AtomicU64::new(0), last };
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

struct Bar(ProgressBar);

impl Task for Bar {
    fn advance(&self, steps: u64) {
        self.0.inc(steps);
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
}

impl Lines {
    fn print(&self) {
        let line = serde_json::json!({
            "stage": self.stage.name(),
            "done": self.done.load(Ordering::Relaxed),
            "total": self.steps
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

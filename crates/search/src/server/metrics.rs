//! Counts of the service, for Prometheus and for people.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Ends of the buckets in seconds: those of the Prometheus client for Python.
const BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Parts of a search, by the names that clip-retrieval gives them (`clip_back.py`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Knn,
    Download,
    EmbedText,
    EmbedPicture,
    Metadata,
    Search,
    Fold,
    /// clip-retrieval's safety model, which is not here: tags are.
    Safety,
    Decode,
    /// Of a text, which is a part of embedding it here.
    Tokenize,
}

impl Step {
    const ALL: [Self; 10] = [
        Self::Knn,
        Self::Download,
        Self::EmbedText,
        Self::EmbedPicture,
        Self::Metadata,
        Self::Search,
        Self::Fold,
        Self::Safety,
        Self::Decode,
        Self::Tokenize,
    ];

    fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::Knn => ("full_knn_request_time", "Time spent processing knn request"),
            Self::Download => ("download_time", "Time spent downloading an url"),
            Self::EmbedText => ("text_clip_inference_time", "Time spent doing a text clip inference"),
            Self::EmbedPicture => ("image_clip_inference_time", "Time spent doing a image clip inference"),
            Self::Metadata => ("metadata_get_time", "Time spent retrieving metadata"),
            Self::Search => ("knn_index_time", "Time spent doing a knn on the index"),
            Self::Fold => ("dedup_time", "Time spent deduping"),
            Self::Safety => ("safety_time", "Time spent doing a safety inference"),
            Self::Tokenize => ("text_prepro_time", "Time spent doing the text preprocessing"),
            Self::Decode => ("image_prepro_time", "Time spent doing the image preprocessing"),
        }
    }
}

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// By route, method and status.
    requests: Mutex<BTreeMap<(String, String, u16), u64>>,
    durations: Mutex<BTreeMap<String, Times>>,
    steps: [Mutex<Times>; Step::ALL.len()],
    under_way: AtomicI64,
    embedding: AtomicI64,
}

/// How long something took, how often.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    seconds: f64,
}

impl Times {
    fn add(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        if let Some(bucket) = BUCKETS.iter().position(|end| seconds <= *end) {
            self.buckets[bucket] += 1;
        }
        self.count += 1;
        self.seconds += seconds;
    }

    fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.seconds / self.count as f64 }
    }

    fn write(&self, text: &mut String, name: &str, labels: &str) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut sum = 0;
        for (count, end) in self.buckets.iter().zip(BUCKETS) {
            sum += count;
            let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{end:?}\"}} {sum}");
        }
        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(text, "{name}_sum{braces} {}", self.seconds);
        let _ = writeln!(text, "{name}_count{braces} {}", self.count);
    }
}

/// Something that is under way until it is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay<'a>(&'a AtomicI64);

impl<'a> UnderWay<'a> {
    fn new(count: &'a AtomicI64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The same for what outlives the one who counts.
#[derive(Debug)]
pub(crate) struct Embedding(std::sync::Arc<Metrics>);

impl Drop for Embedding {
    fn drop(&mut self) {
        self.0.embedding.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// A request is under way.
    pub(super) fn request(&self) -> UnderWay<'_> {
        UnderWay::new(&self.under_way)
    }

    /// How many are.
    pub(super) fn requests_under_way(&self) -> i64 {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Something waits for its embedding.
    pub(super) fn embedding(self: &std::sync::Arc<Self>) -> Embedding {
        self.embedding.fetch_add(1, Ordering::Relaxed);
        Embedding(self.clone())
    }

    /// A request has had its answer. The route is one of ours, and so is the method, or there would be no end of them.
    pub(super) fn answered(&self, route: &str, method: &str, status: u16, time: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route.into(), method.into(), status)).or_default() += 1;
        drop(requests);
        self.durations.lock().unwrap_or_else(PoisonError::into_inner).entry(route.into()).or_default().add(time);
    }

    /// A step took so long.
    pub(crate) fn took(&self, step: Step, time: Duration) {
        self.steps[step as usize].lock().unwrap_or_else(PoisonError::into_inner).add(time);
    }

    /// Does a step and notes how long it took.
    pub(crate) fn step<T>(&self, step: Step, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let done = work();
        self.took(step, started.elapsed());
        done
    }

    fn times(&self, step: Step) -> Times {
        *self.steps[step as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything as Prometheus reads it, with the rows of each index.
    pub(crate) fn prometheus(&self, rows: &[(String, usize)]) -> String {
        let mut text = String::new();
        let head = |text: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        head(&mut text, "laion400m_http_requests_total", "counter", "Requests that were answered");
        for ((route, method, status), count) in &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(
                text,
                "laion400m_http_requests_total{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}} {count}"
            );
        }
        let name = "laion400m_http_request_duration_seconds";
        head(&mut text, name, "histogram", "Time until a request was answered");
        for (route, times) in &*self.durations.lock().unwrap_or_else(PoisonError::into_inner) {
            times.write(&mut text, name, &format!("route=\"{route}\""));
        }
        for (name, help, count) in [
            ("laion400m_http_requests_in_flight", "Requests under way", &self.under_way),
            ("laion400m_embeddings_in_flight", "Texts and pictures that wait for their embedding", &self.embedding),
        ] {
            head(&mut text, name, "gauge", help);
            let _ = writeln!(text, "{name} {}", count.load(Ordering::Relaxed));
        }
        head(&mut text, "laion400m_index_rows", "gauge", "Rows that can be found");
        for (index, rows) in rows {
            let index = index.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = writeln!(text, "laion400m_index_rows{{index=\"{index}\"}} {rows}");
        }
        for step in Step::ALL {
            let (name, help) = step.name();
            head(&mut text, name, "histogram", help);
            self.times(step).write(&mut text, name, "");
        }
        text
    }

    /// What the parts of a search cost, the dearest first, in clip-retrieval's words.
    pub(crate) fn summary(&self) -> String {
        let whole = self.times(Step::Knn);
        if whole.count == 0 {
            return "No request yet, go do some".into();
        }
        let mut steps: Vec<_> = Step::ALL.into_iter().filter(|step| *step != Step::Knn).collect();
        steps.sort_by(|a, b| self.times(*b).mean().total_cmp(&self.times(*a).mean()));
        let mut text = format!(
            "Among {}.0 calls to the knn end point with an average latency of {:.4}s per request, the step costs are \
             (in order): \n\n",
            whole.count,
            whole.mean()
        );
        let _ = write!(text, "{:>27}{:>41}{:>7}{:>9}{:>12}", "name", "description", "calls", "average", "proportion");
        for (place, step) in steps.into_iter().enumerate() {
            let ((name, help), times) = (step.name(), self.times(step));
            let share = format!("{:.1}%", 100.0 * times.mean() / whole.mean().max(f64::MIN_POSITIVE));
            let average = format!("{:.4}s", times.mean());
            let _ = write!(text, "\n{place} {name:>25}{help:>41}{:>7}{average:>9}{share:>12}", times.count);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let metrics = Metrics::default();
        for milliseconds in [1, 7, 700, 20_000] {
            metrics.answered("/a", "GET", 200, Duration::from_millis(milliseconds));
        }
        let text = metrics.prometheus(&[("x\"y".into(), 7)]);
        let name = "laion400m_http_request_duration_seconds";
        for line in [
            "laion400m_http_requests_total{route=\"/a\",method=\"GET\",status=\"200\"} 4".to_owned(),
            format!("{name}_bucket{{route=\"/a\",le=\"0.005\"}} 1"),
            format!("{name}_bucket{{route=\"/a\",le=\"0.01\"}} 2"),
            format!("{name}_bucket{{route=\"/a\",le=\"0.75\"}} 3"),
            format!("{name}_bucket{{route=\"/a\",le=\"+Inf\"}} 4"),
            format!("{name}_sum{{route=\"/a\"}} 20.708"),
            "laion400m_index_rows{index=\"x\\\"y\"} 7".to_owned(),
            "knn_index_time_bucket{le=\"1.0\"} 0".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nnot in\n{text}");
        }
    }
}

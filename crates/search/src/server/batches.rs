//! What several requests want to have embedded, embedded together.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use dataset::{Embedding, Error, Result};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::metrics::Metrics;
use crate::api::ApiError;

/// Something that waits for its embedding.
struct Job<T> {
    item: T,
    answer: oneshot::Sender<Result<Embedding, String>>,
    /// The memory that the item takes.
    room: Option<OwnedSemaphorePermit>,
}

/// A thread that takes whatever waits, up to a batch, and embeds it: nobody waits longer than for the batch before.
#[derive(Debug)]
pub(super) struct Batches<T> {
    jobs: Sender<Job<T>>,
    metrics: Arc<Metrics>,
}

impl<T: Send + 'static> Batches<T> {
    /// Starts the thread, which ends with this.
    pub(super) fn new(
        name: &str,
        most: usize,
        metrics: Arc<Metrics>,
        embed: impl Fn(&[T]) -> Result<Vec<Embedding>> + Send + 'static,
    ) -> Result<Self> {
        let (jobs, waiting) = channel();
        std::thread::Builder::new().name(name.into()).spawn(move || work(&waiting, most, &embed))?;
        Ok(Self { jobs, metrics })
    }

    /// Hands something over at once, with the room that it takes; what comes back is the waiting.
    pub(super) fn embed(
        &self,
        item: T,
        room: Option<OwnedSemaphorePermit>,
    ) -> impl Future<Output = Result<Embedding, ApiError>> + Send + use<T> {
        let (answer, embedding) = oneshot::channel();
        let handed = self.jobs.send(Job { item, answer, room });
        let under_way = self.metrics.embedding();
        async move {
            handed.map_err(|_| ApiError::internal("the thread that embeds has ended"))?;
            let embedding = embedding.await.map_err(ApiError::internal)?.map_err(ApiError::internal);
            drop(under_way);
            embedding
        }
    }
}

fn work<T>(waiting: &Receiver<Job<T>>, most: usize, embed: &dyn Fn(&[T]) -> Result<Vec<Embedding>>) {
    while let Ok(first) = waiting.recv() {
        let jobs = std::iter::once(first).chain(waiting.try_iter());
        // Whoever has gone away needs nothing.
        let jobs = jobs.filter(|job| !job.answer.is_closed()).take(most);
        let (items, answers): (Vec<_>, Vec<_>) = jobs.map(|job| (job.item, (job.answer, job.room))).unzip();
        if items.is_empty() {
            continue;
        }
        let embeddings: Vec<Result<Embedding, String>> = match embedded(embed, &items) {
            Ok(embeddings) => embeddings.into_iter().map(Ok).collect(),
            Err(error) if items.len() == 1 => vec![Err(error)],
            // One bad item is nobody else's trouble.
            Err(_) => items.iter().map(|item| Ok(embedded(embed, std::slice::from_ref(item))?.remove(0))).collect(),
        };
        for ((answer, _room), embedding) in answers.into_iter().zip(embeddings) {
            let _ = answer.send(embedding); // nobody waits any more
        }
    }
}

fn embedded<T>(embed: &dyn Fn(&[T]) -> Result<Vec<Embedding>>, items: &[T]) -> Result<Vec<Embedding>, String> {
    let done = catch_unwind(AssertUnwindSafe(|| embed(items)));
    let embeddings = done.unwrap_or_else(|_| Err(Error::Invalid("the embedder panicked".into())));
    match embeddings {
        Ok(embeddings) if embeddings.len() == items.len() => Ok(embeddings),
        Ok(embeddings) => Err(format!("{} embeddings of {} items", embeddings.len(), items.len())),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    fn direction(value: f32) -> Embedding {
        Embedding::normalized(vec![value, 1.0]).expect("a direction")
    }

    #[test]
    fn what_waits_is_embedded_together_and_a_bad_item_fails_alone() {
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let embed = {
            let (gate, sizes) = (gate.clone(), sizes.clone());
            move |items: &[f32]| {
                let open = gate.0.lock().expect("not poisoned");
                drop(gate.1.wait_while(open, |open| !*open).expect("not poisoned"));
                sizes.lock().expect("not poisoned").push(items.len());
                assert!(!items.contains(&-2.0), "this one panics");
                match items.contains(&-1.0) {
                    true => Err(Error::Invalid("a bad item".into())),
                    false => Ok(items.iter().map(|item| direction(*item)).collect()),
                }
            }
        };
        let metrics = Arc::new(Metrics::default());
        let batches = Batches::new("test", 4, metrics.clone(), embed).expect("a thread");
        let items = [1.0, 2.0, 3.0, -1.0, 4.0, -2.0, 5.0];
        let waiting: Vec<_> = items.iter().map(|item| batches.embed(*item, None)).collect();
        *gate.0.lock().expect("not poisoned") = true;
        gate.1.notify_all();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        for (item, embedding) in items.iter().zip(waiting) {
            match runtime.block_on(embedding) {
                Ok(embedding) => assert_eq!(embedding, direction(*item)),
                Err(_) => assert!(*item < 0.0, "{item}"),
            }
        }
        // The thread may have begun with one or with some; nothing else follows from its time.
        let sizes = sizes.lock().expect("not poisoned").clone();
        assert!(sizes.iter().all(|size| *size <= 4) && sizes.iter().any(|size| *size > 1), "{sizes:?}");
    }
}

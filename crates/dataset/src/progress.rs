//! How a stage tells what it is doing. Libraries report; the binary draws.

use crate::status::{Stage, Status};

/// Whoever watches a run.
pub trait Progress: Send + Sync {
    /// A stage begins, over so many steps if that is known.
    fn begin(&self, stage: Stage, steps: Option<u64>) -> Box<dyn Task + '_>;

    /// Something a person should read: one line that names the file, the place and the cause.
    fn warn(&self, line: &str);
}

/// A stage that is under way; it ends when it is dropped.
pub trait Task: Send + Sync {
    /// So many steps more are done.
    fn advance(&self, steps: u64);

    /// A row has come to its end, with so many bytes from the network.
    fn row(&self, _: Status, _: u64) {
        self.advance(1);
    }
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: Stage, _: Option<u64>) -> Box<dyn Task + '_> {
        Box::new(Self)
    }

    fn warn(&self, _: &str) {}
}

impl Task for Silent {
    fn advance(&self, _: u64) {}
}

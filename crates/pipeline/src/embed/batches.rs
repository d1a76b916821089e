//! Batches of decoded pictures, made ahead of the model.

use std::sync::mpsc::SyncSender;

use dataset::picture::{self, Decoder, Limits, Squares};
use dataset::samples::{Found, Further, Sample, SampleShard};
use dataset::schema::EmbeddingRow;
use dataset::{Error, Failure, Pixels, Reason, Result, Status, encoded};
use rayon::prelude::*;

/// Less samples are decoded together if their pictures are large: 192 MB decoded. At most four batches are in memory.
const PIXELS_MAX: u64 = 64 << 20;
/// Less of them if their files are large.
const BYTES_MAX: usize = 64 << 20;
/// Longest caption. Models read some hundred characters; the longest alt texts of the web are below 100 kB.
const CAPTION_BYTES_MAX: usize = 1 << 20;

/// Samples that can be embedded, and what became of the others.
#[derive(Default)]
pub(super) struct Batch {
    /// Each with its number among the further columns of its shard.
    pub(super) rows: Vec<(EmbeddingRow, usize)>,
    pub(super) pixels: Vec<Pixels>,
    pub(super) lost: Vec<(Status, u64)>,
    /// Rows that were never downloaded.
    pub(super) absent: u64,
}

/// Samples that are read, but not decoded.
#[derive(Default)]
struct Waiting {
    samples: Vec<Sample>,
    pixels: u64,
    bytes: usize,
    batch: Batch,
}

/// Reads a shard, decodes its pictures on all of `threads`, and sends them in their order, `size` samples at once. A
/// receiver that has gone away ends it.
pub(super) fn send(
    shard: &SampleShard,
    texts: bool,
    size: usize,
    threads: &rayon::ThreadPool,
    batches: &SyncSender<Batch>,
) -> Result<Further> {
    let gone = |_| Error::Invalid("embed: nobody takes the pictures".into());
    let mut waiting = Waiting::default();
    let further = shard.read(|found| {
        match found {
            Found::Absent(rows) => waiting.batch.absent += rows,
            Found::Lost(status, rows) => waiting.batch.lost.push((status, rows)),
            Found::Sample(sample) => match refused(&sample.row, texts) {
                Some(reason) => waiting.batch.lost.push((Status::Dropped(reason), 1)),
                None => {
                    waiting.pixels += match encoded::dimensions(&sample.picture) {
                        Some((width, height)) => width as u64 * height as u64,
                        // Another decoder may make something of it, as large as it may be.
                        None if picture::is_image(&sample.picture) => Limits::default().pixels_max,
                        None => 0,
                    };
                    waiting.bytes += sample.picture.len() + sample.row.caption.len();
                    waiting.samples.push(*sample);
                }
            },
        }
        let full = waiting.samples.len() == size || waiting.pixels >= PIXELS_MAX || waiting.bytes >= BYTES_MAX;
        if full || waiting.batch.lost.len() >= size {
            batches.send(std::mem::take(&mut waiting).decoded(threads)).map_err(gone)?;
        }
        Ok(())
    })?;
    batches.send(waiting.decoded(threads)).map_err(gone)?;
    Ok(further)
}

/// Why a sample is not embedded, whatever its picture is.
fn refused(row: &EmbeddingRow, texts: bool) -> Option<Reason> {
    match row.caption.len() {
        _ if !texts => None,
        _ if row.caption.trim().is_empty() => Some(Reason::NoCaption),
        CAPTION_BYTES_MAX.. => Some(Reason::CaptionTooLong),
        _ => None,
    }
}

impl Waiting {
    fn decoded(self, threads: &rayon::ThreadPool) -> Batch {
        let Self { samples, mut batch, .. } = self;
        let decode = |decoder: &mut Decoder, sample: Sample| {
            let pixels = pixels(decoder, &sample.picture);
            (sample.row, sample.number, pixels)
        };
        let decoded: Vec<_> = threads.install(|| {
            samples.into_par_iter().map_init(|| Decoder::new(Limits::default()).without_profiles(), decode).collect()
        });
        for (mut row, number, pixels) in decoded {
            match pixels {
                Ok(pixels) => {
                    complete(&mut row, &pixels);
                    batch.rows.push((row, number));
                    batch.pixels.push(pixels);
                }
                Err(status) => batch.lost.push((status, 1)),
            }
        }
        batch
    }
}

fn pixels(decoder: &mut Decoder, picture: &[u8]) -> Result<Pixels, Status> {
    let pixels = decoder.full(picture).map_err(|(failure, _)| match failure {
        // It has the name of a picture.
        Failure::NotAnImage => Status::Failed(Failure::ImageDamaged),
        failure => Status::Failed(failure),
    })?;
    if Squares::takes(pixels.width(), pixels.height()) { Ok(pixels) } else { Err(Status::Dropped(Reason::AspectRatio)) }
}

/// Sizes that nobody told are those of the picture.
fn complete(row: &mut EmbeddingRow, pixels: &Pixels) {
    let (width, height) = (pixels.width() as i32, pixels.height() as i32);
    if row.width <= 0 || row.height <= 0 {
        (row.width, row.height) = (width, height);
    }
    if row.original_width <= 0 || row.original_height <= 0 {
        (row.original_width, row.original_height) = (row.width, row.height);
    }
}

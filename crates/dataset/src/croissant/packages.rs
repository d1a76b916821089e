//! The fields of every kind of package.

use super::FieldKind::{Float, Floats, Image, ImageBytes, Integer, Text, Url};
use super::{ARRAY_RECORD, Description, Field, FieldKind, FileSet, Origin, TFRECORD};
use crate::tfds::{Config, FileFormat};

/// A kind of package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A configuration of TFDS, in the format that readers take first.
    Tfds(Config, FileFormat),
    /// Tars with a table beside each.
    Webdataset,
    /// The columns of the release.
    Release,
    /// Matrices with a table to each two.
    Embeddings,
    /// Parquet as the Hugging Face Hub has it.
    Hub {
        /// Whether it holds pictures.
        images: bool,
        /// Whether it holds embeddings.
        embeddings: bool,
    },
}

const PARQUET: &str = "application/x-parquet";

const CAPTION: &str = "HTML alt-text attribute";
const URL: &str = "image URL";
const NSFW: &str = "NSFW tag (detected with CLIP): UNLIKELY, UNSURE, NSFW or UNTAGGED";
const SIMILARITY: &str = "cosine similarity of the text and image embeddings; unknown ones are null, or -1 in TFDS";
const LICENSE: &str = "type of Creative Commons license, ? where none is known";
const WIDTH: &str = "original width of the image, in pixels";
const HEIGHT: &str = "original height of the image, in pixels";
const KEY: &str = "key of the sample: shard and row";
const IMAGE_EMBEDDING: &str = "CLIP image embedding";
const TEXT_EMBEDDING: &str = "CLIP text embedding";

/// Describes a package of so many pairs.
pub fn describe(kind: Kind, origin: Origin, rows: u64) -> Description {
    let (form, sets) = form(kind);
    let source = match origin {
        Origin::Laion400m => "of LAION-400M",
        Origin::Crawl => "of a web crawl, collected and filtered by CLIP similarity as LAION-400M was",
    };
    let text =
        format!("{rows} image-text pairs {source}: {form}. Captions and addresses come from the web as they are.");
    let records = sets[0].id;
    let fields = columns(kind).into_iter().map(|(name, kind, text)| Field { name, set: records, kind, text }).collect();
    let name = match kind {
        Kind::Tfds(config, _) => format!("laion400m-{}", config.name()),
        Kind::Webdataset => "laion400m-webdataset".into(),
        Kind::Release => "laion400m-metadata".into(),
        Kind::Embeddings => "laion400m-npy".into(),
        Kind::Hub { .. } => "laion400m-hub".into(),
    };
    Description { name, text, origin, sets, fields }
}

/// What the package is in a few words, and its files; those that hold the records come first.
fn form(kind: Kind) -> (&'static str, Vec<FileSet>) {
    let set = |id, includes, encoding, text| FileSet { id, includes, encoding, text };
    match kind {
        Kind::Tfds(_, format) => {
            let (includes, encoding, text) = match format {
                FileFormat::Tfrecord => {
                    ("laion400m-train.tfrecord-*", TFRECORD, "A tf.train.Example each record, a feature each column.")
                }
                FileFormat::ArrayRecord => (
                    "laion400m-train.array_record-*",
                    ARRAY_RECORD,
                    "A tf.train.Example each record, a feature each column.",
                ),
                FileFormat::Parquet => {
                    ("laion400m-train.parquet-*", PARQUET, "A tf.train.Example each cell, a feature each column.")
                }
            };
            ("a configuration of TensorFlow Datasets", vec![set("shards", includes, encoding, text)])
        }
        Kind::Webdataset => (
            "WebDataset tars of pictures, captions and JSON, with a table beside each",
            vec![
                set("tables", "*.parquet", PARQUET, "Rows of the samples of the tar of the same name."),
                set("tars", "*.tar", "application/x-tar", "Samples: KEY.jpg, KEY.json and KEY.txt each."),
            ],
        ),
        Kind::Release => (
            "metadata in the columns of the release",
            vec![set("parts", "part-*.parquet", PARQUET, "The table in parts.")],
        ),
        Kind::Embeddings => (
            "CLIP embeddings as float16 matrices of NumPy, with a table to each two",
            vec![
                set("tables", "metadata/metadata_*.parquet", PARQUET, "Row i belongs to row i of both matrices N."),
                set("images", "img_emb/img_emb_*.npy", "application/x-npy", "Image embeddings, float16, a row each."),
                set("texts", "text_emb/text_emb_*.npy", "application/x-npy", "Text embeddings, float16, a row each."),
            ],
        ),
        Kind::Hub { images, embeddings } => {
            let text = match (images, embeddings) {
                (true, true) => "pictures, metadata and CLIP embeddings in Parquet",
                (true, false) => "pictures and metadata in Parquet",
                (false, true) => "CLIP embeddings and metadata in Parquet",
                (false, false) => "metadata in Parquet",
            };
            (text, vec![set("shards", "data/train-*.parquet", PARQUET, "The split train.")])
        }
    }
}

/// The columns of the table that holds the records.
fn columns(kind: Kind) -> Vec<(&'static str, FieldKind, &'static str)> {
    let sizes = [("original_width", Integer, WIDTH), ("original_height", Integer, HEIGHT)];
    let vectors = [("image_embedding", Floats, IMAGE_EMBEDDING), ("text_embedding", Floats, TEXT_EMBEDDING)];
    let mut columns = vec![("caption", Text, CAPTION), ("url", Url, URL)];
    match kind {
        Kind::Release => {
            return vec![
                ("SAMPLE_ID", Integer, "number of the sample"),
                ("URL", Url, URL),
                ("TEXT", Text, CAPTION),
                ("HEIGHT", Integer, HEIGHT),
                ("WIDTH", Integer, WIDTH),
                ("LICENSE", Text, LICENSE),
                ("NSFW", Text, NSFW),
                ("similarity", Float, SIMILARITY),
            ];
        }
        Kind::Webdataset | Kind::Embeddings => {
            columns.extend([("key", Text, KEY), ("LICENSE", Text, LICENSE), ("NSFW", Text, NSFW)]);
        }
        Kind::Tfds(config, _) => {
            columns.extend([("license", Text, LICENSE), ("nsfw", Integer, NSFW)]);
            match config {
                Config::Images => columns.push(("image", Image, "image")),
                Config::Embeddings => columns.extend(vectors),
            }
        }
        Kind::Hub { images, embeddings } => {
            columns.extend([("key", Text, KEY), ("license", Text, LICENSE), ("nsfw", Text, NSFW)]);
            if images {
                columns.push(("image", ImageBytes, "image"));
            }
            if embeddings {
                columns.extend(vectors);
            }
        }
    }
    columns.push(("similarity", Float, SIMILARITY));
    columns.extend(sizes);
    columns
}

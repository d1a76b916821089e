//! The columns of the package, for Arrow, for `datasets` and for the card.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, Float64Builder, Int32Builder, StringBuilder};
use arrow_array::{ArrayRef, FixedSizeListArray, Float16Array, RecordBatch, StructArray};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use half::f16;
use serde_json::json;

use crate::encoded::ending;
use crate::tfds::Example;

/// Which columns a package has beside those of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubColumns {
    /// The encoded picture.
    pub images: bool,
    /// Both embeddings, of so many values each.
    pub dimensions: Option<usize>,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Text,
    Image,
    Float64,
    Int32,
    Embedding(usize),
}

impl Column {
    fn data_type(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8,
            Self::Image => DataType::Struct(image_fields()),
            Self::Float64 => DataType::Float64,
            Self::Int32 => DataType::Int32,
            Self::Embedding(length) => DataType::FixedSizeList(element(), length as i32),
        }
    }

    /// As `datasets.Features` writes itself.
    fn feature(self) -> serde_json::Value {
        let value = |dtype| json!({"dtype": dtype, "_type": "Value"});
        match self {
            Self::Text => value("string"),
            Self::Image => json!({"_type": "Image"}),
            Self::Float64 => value("float64"),
            Self::Int32 => value("int32"),
            Self::Embedding(length) => json!({"feature": value("float16"), "length": length, "_type": "List"}),
        }
    }
}

fn image_fields() -> Fields {
    Fields::from(vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)])
}

/// Parquet's own name for what a list is made of.
fn element() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Float16, true))
}

impl HubColumns {
    /// The columns in order, with a word on each.
    pub(super) fn list(&self) -> Vec<(&'static str, Column, &'static str)> {
        let mut columns = vec![("key", Column::Text, "shard and row of the sample")];
        if self.images {
            columns.push(("image", Column::Image, "the picture as it was stored, not encoded again"));
        }
        columns.extend([
            ("caption", Column::Text, "HTML alt-text attribute"),
            ("nsfw", Column::Text, "`UNLIKELY`, `UNSURE`, `NSFW` or `UNTAGGED`"),
            ("similarity", Column::Float64, "cosine similarity of image and text embedding; null where it is unknown"),
            ("license", Column::Text, "Creative Commons license, `?` where none is known"),
            ("url", Column::Text, "where the picture was"),
            ("original_width", Column::Int32, "in pixels; null where it is unknown"),
            ("original_height", Column::Int32, "in pixels; null where it is unknown"),
        ]);
        if let Some(length) = self.dimensions {
            columns.extend([
                ("image_embedding", Column::Embedding(length), "CLIP image embedding"),
                ("text_embedding", Column::Embedding(length), "CLIP text embedding"),
            ]);
        }
        columns
    }

    pub(super) fn schema(&self) -> SchemaRef {
        let fields = self.list().into_iter().map(|(name, column, _)| Field::new(name, column.data_type(), true));
        let metadata: std::collections::HashMap<_, _> = [("huggingface".to_owned(), self.metadata())].into();
        Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), metadata))
    }

    /// The schema metadata from which `datasets` knows its features; they stand there in the order of the columns.
    pub(super) fn metadata(&self) -> String {
        let features = self.list().into_iter().map(|(name, column, _)| format!("\"{name}\": {}", column.feature()));
        format!("{{\"info\": {{\"features\": {{{}}}}}}}", features.collect::<Vec<_>>().join(", "))
    }
}

/// Rows that wait to become a row group.
#[derive(Debug, Default)]
pub(super) struct Batch {
    rows: usize,
    bytes: usize,
    key: StringBuilder,
    image: BinaryBuilder,
    path: StringBuilder,
    caption: StringBuilder,
    nsfw: StringBuilder,
    similarity: Float64Builder,
    license: StringBuilder,
    url: StringBuilder,
    original_width: Int32Builder,
    original_height: Int32Builder,
    image_embedding: Vec<f16>,
    text_embedding: Vec<f16>,
}

impl Batch {
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Roughly what Arrow holds the rows in, which is what `datasets` calls their number of bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, columns: &HubColumns, key: &str, example: &Example) -> Result<(), String> {
        const NUMBERS: usize = 8 + 2 * 4;
        const OFFSET: usize = 4;
        if columns.images {
            let image = example.image.as_ref().ok_or("no picture")?;
            let path = format!("{key}.{}", ending(image));
            self.bytes += image.len() + path.len() + 2 * OFFSET;
            self.image.append_value(image);
            self.path.append_value(path);
        }
        if let Some(length) = columns.dimensions {
            let (image, text) = example.embeddings.as_ref().ok_or("no embeddings")?;
            if image.len() != length || text.len() != length {
                return Err(format!("embeddings of {} and {} values, not {length}", image.len(), text.len()));
            }
            self.image_embedding.extend(image);
            self.text_embedding.extend(text);
            self.bytes += 4 * length;
        }
        let license = if example.license.is_empty() { "?" } else { &example.license };
        let texts = [
            (&mut self.key, key),
            (&mut self.caption, &example.caption),
            (&mut self.nsfw, example.nsfw.name()),
            (&mut self.license, license),
            (&mut self.url, &example.url),
        ];
        for (builder, text) in texts {
            builder.append_value(text);
            self.bytes += text.len() + OFFSET;
        }
        self.similarity.append_option(example.known_similarity());
        let (width, height) = example.known_size();
        self.original_width.append_option(width);
        self.original_height.append_option(height);
        self.bytes += NUMBERS;
        self.rows += 1;
        Ok(())
    }

    pub(super) fn finish(mut self, columns: &HubColumns) -> RecordBatch {
        let embeddings = |values: Vec<f16>, length: usize| {
            let values = Arc::new(Float16Array::from_iter_values(values));
            Arc::new(FixedSizeListArray::new(element(), length as i32, values, None)) as ArrayRef
        };
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(self.key.finish())];
        if columns.images {
            let parts: Vec<ArrayRef> = vec![Arc::new(self.image.finish()), Arc::new(self.path.finish())];
            arrays.push(Arc::new(StructArray::new(image_fields(), parts, None)));
        }
        arrays.push(Arc::new(self.caption.finish()));
        arrays.push(Arc::new(self.nsfw.finish()));
        arrays.push(Arc::new(self.similarity.finish()));
        arrays.push(Arc::new(self.license.finish()));
        arrays.push(Arc::new(self.url.finish()));
        arrays.push(Arc::new(self.original_width.finish()));
        arrays.push(Arc::new(self.original_height.finish()));
        if let Some(length) = columns.dimensions {
            arrays.push(embeddings(self.image_embedding, length));
            arrays.push(embeddings(self.text_embedding, length));
        }
        RecordBatch::try_new(columns.schema(), arrays).expect("columns follow the schema")
    }
}

//! Batches as Arrow has them.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, Float16Array, Float64Array, Int32Array, Int64Array, LargeBinaryArray,
    LargeStringArray, RecordBatch, UInt8Array,
};
use arrow_schema::{DataType, Field};

use super::batch::{Batch, Column, Pictures};
use crate::{Error, Result};

impl Batch {
    /// The columns under the names of TFDS's features. Nothing is copied but pictures of different sizes: texts are
    /// `large_utf8`, stored pictures `large_binary`, embeddings lists of fixed length of `float16`, squares lists of fixed
    /// length of `side * side * 3` bytes. Pictures in their own sizes are an error: Arrow has no type for them.
    pub fn into_arrow(self) -> Result<RecordBatch> {
        let rows = self.rows;
        let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
        let wrong = |error: arrow_schema::ArrowError| Error::Invalid(format!("batch to Arrow: {error}"));
        let texts = [("caption", self.captions), ("license", self.licenses), ("url", self.urls), ("tfds_id", self.ids)];
        for (name, texts) in texts {
            if !texts.is_empty() {
                let binary = binary(texts).map_err(wrong)?;
                columns.push((name, Arc::new(LargeStringArray::try_from_binary(binary).map_err(wrong)?)));
            }
        }
        match self.pictures {
            Pictures::None => {}
            Pictures::Encoded(column) => columns.push(("image", Arc::new(binary(column).map_err(wrong)?))),
            Pictures::Squares { rgb, .. } => {
                columns.push(("image", lists(Arc::new(UInt8Array::from(rgb)), rows).map_err(wrong)?));
            }
            Pictures::Decoded(_) => {
                return Err(Error::Invalid("batch to Arrow: pictures must be encoded, or squares of one size".into()));
            }
        }
        for (name, values) in [("image_embedding", self.image_embeddings), ("text_embedding", self.text_embeddings)] {
            if !values.is_empty() {
                columns.push((name, lists(Arc::new(Float16Array::from(values)), rows).map_err(wrong)?));
            }
        }
        if !self.nsfw.is_empty() {
            columns.push(("nsfw", Arc::new(Int64Array::from(self.nsfw))));
        }
        for (name, sizes) in [("original_height", self.original_heights), ("original_width", self.original_widths)] {
            if !sizes.is_empty() {
                columns.push((name, Arc::new(Int32Array::from(sizes))));
            }
        }
        if !self.similarities.is_empty() {
            columns.push(("similarity", Arc::new(Float64Array::from(self.similarities))));
        }
        columns.sort_by_key(|(name, _)| *name);
        RecordBatch::try_from_iter(columns).map_err(wrong)
    }
}

fn binary(column: Column) -> Result<LargeBinaryArray, arrow_schema::ArrowError> {
    let offsets = arrow_buffer::OffsetBuffer::new(column.offsets.into());
    LargeBinaryArray::try_new(offsets, column.bytes.into(), None)
}

fn lists(values: ArrayRef, rows: usize) -> Result<ArrayRef, arrow_schema::ArrowError> {
    let width = (values.len() / rows.max(1)) as i32;
    let item: DataType = values.data_type().clone();
    let lists = FixedSizeListArray::try_new(Arc::new(Field::new("item", item, false)), width, values, None)?;
    Ok(Arc::new(lists))
}

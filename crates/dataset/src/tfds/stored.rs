//! An example that waits for its place: its text and numbers as they will stand in the record, the rest as short as it
//! can be, down to saying where it lies.
//!
//! ```text
//! u8 kind | u32 length of the first feature | u32 length without the last feature | u32 length | features | content
//! ```
//! Features stand in the order of their names: a picture or the image embedding goes behind the first one, which is the
//! caption, and the text embedding before the last one, which is the URL.

use std::path::{Path, PathBuf};

use super::features::Example;
use crate::files;
use crate::proto::{BYTES, FLOATS, field_len, put_half_bytes, put_head, put_value, take_varint, value_len};
use crate::{Error, Result};

/// What an example has beside text and numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// An encoded picture.
    Picture(&'a [u8]),
    /// An encoded picture that is read once its place is known.
    PictureAt {
        /// The file it is in.
        path: &'a Path,
        /// Of its first byte.
        offset: u64,
        /// Its length.
        bytes: usize,
    },
    /// Both embeddings, their float16 as little-endian bytes.
    Embeddings {
        /// Image embedding.
        image: &'a [u8],
        /// Text embedding.
        text: &'a [u8],
    },
}

const HEAD_BYTES: usize = 13;
const PICTURE: u8 = 0;
const PICTURE_AT: u8 = 1;
const EMBEDDINGS: u8 = 2;

/// Appends an example; its own picture and embeddings are not looked at. Gives the length of its record.
pub(super) fn store(example: &Example, content: Content<'_>, files: &mut Files, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend([0; HEAD_BYTES]);
    if example.image.is_none() && example.embeddings.is_none() {
        example.encode(out);
    } else {
        text_and_numbers(example).encode(out);
    }
    // What was encoded is one field, which gets longer; its features stay as they are.
    let mut encoded = &out[start + HEAD_BYTES..];
    let message = encoded.len();
    take_field(&mut encoded);
    let features = encoded.len();
    out.drain(start + HEAD_BYTES..start + HEAD_BYTES + message - features);
    let (mut first, mut last, mut rest) = (0, 0, &out[start + HEAD_BYTES..]);
    while !rest.is_empty() {
        last = features - rest.len();
        let bytes = take_field(&mut rest);
        rest = &rest[bytes..];
        if first == 0 {
            first = features - rest.len();
        }
    }
    let (kind, more) = match content {
        Content::Picture(picture) => {
            out.extend_from_slice(picture);
            (PICTURE, value_len("image", picture.len()))
        }
        Content::PictureAt { path, offset, bytes } => {
            out.extend(files.number(path).to_le_bytes());
            out.extend(offset.to_le_bytes());
            out.extend((bytes as u64).to_le_bytes());
            (PICTURE_AT, value_len("image", bytes))
        }
        Content::Embeddings { image, text } => {
            out.extend_from_slice(image);
            out.extend_from_slice(text);
            let lengths = value_len("image_embedding", image.len() * 2) + value_len("text_embedding", text.len() * 2);
            (EMBEDDINGS, lengths)
        }
    };
    let head = &mut out[start..start + HEAD_BYTES];
    head[0] = kind;
    for (place, length) in head[1..].as_chunks_mut().0.iter_mut().zip([first, last, features]) {
        *place = (length as u32).to_le_bytes(); // a caption or URL is limited by the table it is from
    }
    field_len(features + more)
}

/// Appends the record of a stored example.
pub(super) fn put_record(stored: &[u8], files: &mut Files, out: &mut Vec<u8>) -> Result<()> {
    let (head, rest) = stored.split_at(HEAD_BYTES);
    let length = |place: usize| u32::from_le_bytes(head[1 + place * 4..][..4].try_into().expect("4 bytes")) as usize;
    let (features, content) = rest.split_at(length(2));
    let (first, rest) = features.split_at(length(0));
    let (middle, last) = rest.split_at(length(1) - length(0));
    match head[0] {
        PICTURE => {
            put_head(out, 1, features.len() + value_len("image", content.len()));
            out.extend_from_slice(first);
            put_value(out, "image", BYTES, content.len(), |out| out.extend_from_slice(content));
            out.extend_from_slice(middle);
        }
        PICTURE_AT => {
            let (file, place) = content.split_at(4);
            let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
            let (offset, bytes) = (number(&place[..8]), number(&place[8..]) as usize);
            put_head(out, 1, features.len() + value_len("image", bytes));
            out.extend_from_slice(first);
            let file = u32::from_le_bytes(file.try_into().expect("4 bytes"));
            put_value(out, "image", BYTES, bytes, |out| files.read(file, offset, bytes, out))?;
            out.extend_from_slice(middle);
        }
        _ => {
            let (image, text) = content.split_at(content.len() / 2);
            let (image_bytes, text_bytes) = (image.len() * 2, text.len() * 2);
            let more = value_len("image_embedding", image_bytes) + value_len("text_embedding", text_bytes);
            put_head(out, 1, features.len() + more);
            out.extend_from_slice(first);
            put_value(out, "image_embedding", FLOATS, image_bytes, |out| put_half_bytes(out, image));
            out.extend_from_slice(middle);
            put_value(out, "text_embedding", FLOATS, text_bytes, |out| put_half_bytes(out, text));
        }
    }
    out.extend_from_slice(last);
    Ok(())
}

/// Passes over tag and length of a field, and gives the length.
fn take_field(bytes: &mut &[u8]) -> usize {
    take_varint(bytes).expect("encoded by this process");
    take_varint(bytes).expect("encoded by this process") as usize
}

fn text_and_numbers(example: &Example) -> Example {
    Example {
        caption: example.caption.clone(),
        image: None,
        embeddings: None,
        license: example.license.clone(),
        url: example.url.clone(),
        ..*example
    }
}

/// Files with pictures that wait.
#[derive(Debug, Default)]
pub(super) struct Files {
    paths: Vec<PathBuf>,
    open: std::collections::HashMap<u32, files::File>,
}

/// Files that are kept open; the usual limit of a process is 1,024.
const OPEN_MAX: usize = 512;

impl Files {
    fn number(&mut self, path: &Path) -> u32 {
        if self.paths.last().is_none_or(|last| last != path) {
            self.paths.push(path.into());
        }
        (self.paths.len() - 1) as u32
    }

    fn read(&mut self, number: u32, offset: u64, bytes: usize, out: &mut Vec<u8>) -> Result<()> {
        let path = &self.paths[number as usize];
        if !self.open.contains_key(&number) {
            if self.open.len() == OPEN_MAX {
                self.open.clear();
            }
            self.open.insert(number, files::File::open(path)?);
        }
        let start = out.len();
        out.resize(start + bytes, 0);
        let read = self.open[&number].read_exact_at(&mut out[start..], offset);
        read.map_err(|error| Error::format(path, format!("{bytes} bytes at byte {offset} are gone: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Nsfw;
    use fs_err as fs;
    use half::f16;

    fn example(image: Option<Vec<u8>>, embeddings: Option<(Vec<f16>, Vec<f16>)>) -> Example {
        Example {
            caption: "a picture ".repeat(30),
            image,
            embeddings,
            license: String::new(),
            nsfw: Nsfw::Nsfw,
            original_height: -1,
            original_width: 70_000,
            similarity: 0.31,
            url: "http://a.com/".into(),
        }
    }

    #[test]
    fn every_kind_of_content_becomes_the_record_that_the_example_is_encoded_to() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("00000.tar");
        let halves = |from: i32| (from..from + 700).map(|i| f16::from_f32(i as f32 / 512.0)).collect::<Vec<_>>();
        let bytes = |row: &[f16]| row.iter().flat_map(|half| half.to_le_bytes()).collect::<Vec<_>>();
        for size in [0, 1, 90, 127, 128, 16_000, 70_000] {
            let picture = vec![7; size];
            fs::write(&path, [b"before", &picture[..], b"behind"].concat()).expect("room");
            let rows = (halves(0)[..size.min(700)].to_vec(), halves(-900)[..size.min(700)].to_vec());
            let (image, text) = (bytes(&rows.0), bytes(&rows.1));
            let pictured = example(Some(picture.clone()), None);
            let cases = [
                (&pictured, Content::Picture(&picture)),
                (&pictured, Content::PictureAt { path: &path, offset: 6, bytes: size }),
                (&example(None, Some(rows)), Content::Embeddings { image: &image, text: &text }),
            ];
            for (example, content) in cases {
                let (mut files, mut stored, mut record, mut expected) = (Files::default(), vec![], vec![], vec![]);
                let length = store(example, content, &mut files, &mut stored);
                put_record(&stored, &mut files, &mut record).expect("there");
                example.encode(&mut expected);
                assert!(record == expected, "{size} bytes, {:?}", stored[0]);
                assert_eq!(length, record.len());
            }
        }
    }
}

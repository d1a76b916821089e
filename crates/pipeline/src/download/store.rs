//! What was fetched to what is kept: checked against hashes and block lists, decoded, resized, encoded.

use dataset::carried::Object;
use dataset::picture::{self, Decoder, Limits};
use dataset::schema::{ImageRow, Pair, hex};
use dataset::shard::Layout;
use dataset::{Failure, Reason, SampleKey, Status};
use md5::{Digest, Md5};
use serde_json::Value;
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use super::Config;
use super::blocked::{self, Blocked};
use super::client::Fetched;
use super::resize::Form;

/// What became of a row, and its picture if it is kept.
pub(super) struct Finished {
    pub(super) row: ImageRow,
    pub(super) status: Status,
    pub(super) picture: Option<Vec<u8>>,
}

impl Finished {
    fn failed(mut row: ImageRow, status: Status, message: Option<String>, resized: bool) -> Self {
        row.error_message = message;
        row.set_status(status, resized);
        Self { row, status, picture: None }
    }

    /// Without anything that leads to the picture.
    pub(super) fn blocked(mut row: ImageRow, status: Status) -> Self {
        blocked::conceal(&mut row, status);
        Self { row, status, picture: None }
    }

    /// Whether it is on a block list.
    pub(super) fn is_blocked(&self) -> bool {
        matches!(self.status, Status::Dropped(Reason::UrlBlocked | Reason::HashBlocked))
    }
}

/// Checks, decodes and resizes what was fetched, and fills in the row. `further` is what the list says of it besides.
pub(super) fn finish(
    config: &Config,
    blocked: &Blocked,
    pair: &Pair,
    further: &Object,
    key: SampleKey,
    status: Status,
    fetched: Fetched,
) -> Finished {
    let mut row = ImageRow::new(pair, key);
    row.attempts = fetched.attempts;
    row.http_status = fetched.http_status.map(i32::from);
    row.final_url = fetched.final_url;
    row.content_type = fetched.content_type;
    let Some(body) = fetched.body else {
        return Finished::failed(row, status, fetched.message, false);
    };
    row.bytes = Some(body.len() as i64);
    let unseen = config.output_format == Layout::Dummy && config.verify_hash.is_none() && blocked.is_empty();
    if !unseen {
        row.sha256 = Some(hex(&Sha256::digest(&body)));
        row.sha1 = Some(hex(&Sha1::digest(&body)));
        row.md5 = Some(hex(&Md5::digest(&body)));
    }
    if let Some(status) = blocked.row(&row) {
        return Finished::blocked(row, status);
    }
    if let Some(column) = &config.verify_hash
        && let Err(cause) = verify(&row, &body, further.get(column))
    {
        return Finished::failed(row, Status::Dropped(Reason::HashMismatch), Some(cause), false);
    }
    if config.disable_all_reencoding {
        row.set_status(Status::Kept, false);
        return Finished { row, status: Status::Kept, picture: Some(body) };
    }
    match store(config, body, further, &mut row) {
        Ok(picture) => match blocked.row(&row) {
            Some(status) => Finished::blocked(row, status),
            None => {
                row.set_status(Status::Kept, false);
                Finished { row, status: Status::Kept, picture: Some(picture) }
            }
        },
        Err((status, message)) => Finished::failed(row, status, Some(message), true),
    }
}

/// Whether the bytes are those that the list means. How many digits a hash has tells which one it is.
fn verify(row: &ImageRow, body: &[u8], expected: Option<&Value>) -> Result<(), String> {
    let expected = expected.and_then(Value::as_str).unwrap_or_default().trim().to_ascii_lowercase();
    let found = match expected.len() {
        32 => row.md5.clone(),
        40 => row.sha1.clone(),
        64 => row.sha256.clone(),
        128 => Some(hex(&Sha512::digest(body))),
        0 => return Err("hash mismatch: the list has none".into()),
        _ => None,
    };
    match found {
        Some(found) if found == expected => Ok(()),
        Some(found) => Err(format!("hash mismatch: {found}")),
        None => Err(format!("hash mismatch: {} digits are those of no hash", expected.len())),
    }
}

/// The stored form of a downloaded image.
fn store(config: &Config, body: Vec<u8>, further: &Object, row: &mut ImageRow) -> Result<Vec<u8>, (Status, String)> {
    let failed = |(failure, message)| (Status::Failed(failure), message);
    let limits = Limits { pixels_max: config.pixels_max };
    // A page that is served in place of an image is no image, however short it is.
    if (body.len() as u64) < config.image_bytes_min && picture::is_image(&body) {
        let message = format!("{} bytes, the recipe asks for {}", body.len(), config.image_bytes_min);
        return Err((Status::Dropped(Reason::ImageTooFewBytes), message));
    }
    let form = Form {
        mode: config.resize_mode,
        size: config.image_size,
        only_if_bigger: config.resize_only_if_bigger,
        pixels_max: config.pixels_max,
    };
    let decoded = Decoder::new(limits).picture(&body, form.needed()).map_err(failed)?;
    let (width, height) = (decoded.original_width, decoded.original_height);
    (row.original_width, row.original_height) = (Some(width as i32), Some(height as i32));
    row.exif = Some(decoded.exif.clone());
    if let Some(reason) = config.refuses(width, height) {
        return Err((Status::Dropped(reason), format!("{width} x {height} pixels")));
    }
    let format = decoded.as_in_file.then_some(decoded.format);
    let boxes = config.bbox_col.as_ref().and_then(|column| further.get(column)).map(boxes).unwrap_or_default();
    let stored = form.store(decoded, &boxes).ok_or_else(|| {
        let message = format!("{width} x {height} pixels would become more than {}", config.pixels_max);
        (Status::Failed(Failure::TooManyPixels), message)
    })?;
    row.phash = stored.phash;
    (row.width, row.height) = (Some(stored.pixels.width() as i32), Some(stored.pixels.height() as i32));
    // Where somebody was is nobody's business: the bytes are stored without it, or the pixels encoded again.
    if config.skip_reencode
        && stored.untouched
        && format == Some(config.encode_format.format())
        && let Some(bytes) = picture::without_place(&body)
    {
        return Ok(bytes);
    }
    let encoded = picture::encode(&stored.pixels, config.encode_format, config.encode_quality);
    encoded.map_err(|error| (Status::Failed(Failure::ImageDamaged), error.to_string()))
}

/// The boxes of a row: an array of arrays of four numbers, or a text that is one. What is no box is left out.
fn boxes(value: &Value) -> Vec<[f32; 4]> {
    let parsed = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let number = |number: &Value| number.as_f64().map(|number| number as f32);
    let corners = |corners: &Value| corners.as_array()?.iter().map(number).collect::<Option<Vec<_>>>()?.try_into().ok();
    let boxes = parsed.as_ref().unwrap_or(value).as_array();
    boxes.map(|boxes| boxes.iter().filter_map(corners).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_arrays_or_texts_of_them() {
        let box_ = [0.25, 0.5, 0.75, 1.0];
        for value in [serde_json::json!([box_, [1, 2], "x"]), "[[0.25,0.5,0.75,1]]".into()] {
            assert_eq!(boxes(&value), [box_.map(|side: f64| side as f32)], "{value}");
        }
        for none in [Value::Null, "".into(), "here".into(), 7.into()] {
            assert!(boxes(&none).is_empty(), "{none}");
        }
    }

    #[test]
    fn a_hash_is_told_by_its_length() {
        let row = ImageRow {
            md5: Some(hex(&Md5::digest(b"abc"))),
            sha1: Some(hex(&Sha1::digest(b"abc"))),
            sha256: Some(hex(&Sha256::digest(b"abc"))),
            ..ImageRow::default()
        };
        let verify = |text: &str| verify(&row, b"abc", Some(&text.into()));
        // The vectors of RFC 1321 and FIPS 180-4.
        assert_eq!(verify("900150983CD24FB0D6963F7D28E17F72"), Ok(()));
        assert_eq!(verify("a9993e364706816aba3e25717850c26c9cd0d89d"), Ok(()));
        assert_eq!(verify("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"), Ok(()));
        let sha512 = hex(&Sha512::digest(b"abc"));
        assert!(sha512.starts_with("ddaf35a193617aba"));
        assert_eq!(verify(&sha512), Ok(()));
        for wrong in ["", "abc", "900150983cd24fb0d6963f7d28e17f73"] {
            assert!(verify(wrong).is_err_and(|cause| cause.starts_with("hash mismatch")), "{wrong}");
        }
        assert!(super::verify(&row, b"abc", None).is_err());
    }
}

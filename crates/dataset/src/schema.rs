//! Every table of a run: the only place where column names stand.

use md5::{Digest, Md5};
use serde::Serialize;

use crate::row::table;
use crate::{Embedding, SampleKey, Status};

table! {
    /// `pairs/`: an image URL and the text found with it on a page of the crawl. Nothing has been fetched yet.
    #[derive(Default)]
    Pair {
        /// [`uid`] of caption and URL.
        uid: String = "uid",
        /// Absolute.
        url: String = "url",
        /// The text found with the image.
        caption: String = "caption",
        /// The page that shows the image.
        page_url: String = "page_url",
        /// Creative Commons licence the page links to.
        license: Option<String> = "license",
        /// Where on the page that link stands.
        license_evidence: Option<String> = "license_evidence",
        /// ISO 639-3 code, or empty where nobody asked.
        language: String = "language",
        /// The archive's file name.
        archive: String = "archive",
        /// Where the page's record starts in the archive, in (compressed) bytes.
        record_offset: i64 = "record_offset",
        /// Which link of the record.
        link_path: String = "link_path",
        /// What the caption was: `alt`.
        source: String = "source",
    }
}

table! {
    /// What a pair is known by: the one column that pairs of other programs have, too.
    Uid {
        /// [`uid`] of caption and URL.
        uid: String = "uid",
    }
}

table! {
    /// What rows from the images on are known by.
    Keyed {
        /// [`SampleKey`].
        key: String = "key",
    }
}

/// The identity of a pair as cc2dataset writes it: lower-case hex of md5(caption + url).
pub fn uid(caption: &str, url: &str) -> String {
    let mut hash = Md5::new();
    hash.update(caption);
    hash.update(url);
    hex(&hash.finalize())
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

table! {
    /// `images/*.parquet`: one row per pair, fetched or not. Carried columns, then img2dataset's, then ours.
    #[derive(Default, Serialize)]
    ImageRow {
        /// Carried from the pair.
        uid: String = "uid",
        /// Carried from the pair.
        page_url: String = "page_url",
        /// Carried from the pair.
        license: Option<String> = "license",
        /// Carried from the pair.
        language: String = "language",
        /// The text found with the image.
        caption: String = "caption",
        /// As asked for.
        url: String = "url",
        /// [`SampleKey`].
        key: String = "key",
        /// img2dataset's word: `success`, `failed_to_download` or `failed_to_resize`.
        status: String = "status",
        /// What went wrong, for people.
        error_message: Option<String> = "error_message",
        /// Stored width in pixels.
        width: Option<i32> = "width",
        /// Stored height in pixels.
        height: Option<i32> = "height",
        /// Width before resizing, in pixels.
        original_width: Option<i32> = "original_width",
        /// Height before resizing, in pixels.
        original_height: Option<i32> = "original_height",
        /// EXIF as a JSON object of strings, without position data.
        exif: Option<String> = "exif",
        /// Of the bytes as downloaded.
        sha256: Option<String> = "sha256",
        /// Name of the [`Status`].
        error_code: String = "error_code",
        /// Status of the last answer.
        http_status: Option<i32> = "http_status",
        /// Where redirects led.
        final_url: Option<String> = "final_url",
        /// As the server said.
        content_type: Option<String> = "content_type",
        /// Bytes as downloaded.
        bytes: Option<i64> = "bytes",
        /// Requests made for this row, redirects not counted.
        attempts: i32 = "attempts",
        /// Of the bytes as downloaded.
        md5: Option<String> = "md5",
        /// Of the bytes as downloaded.
        sha1: Option<String> = "sha1",
        /// Perceptual hash of the picture, 16 hexadecimal digits.
        phash: Option<String> = "phash",
    }
}

impl ImageRow {
    /// A row of which nothing is known but its pair.
    pub fn new(pair: &Pair, key: SampleKey) -> Self {
        Self {
            uid: pair.uid.clone(),
            page_url: pair.page_url.clone(),
            license: pair.license.clone(),
            language: pair.language.clone(),
            caption: pair.caption.clone(),
            url: pair.url.clone(),
            key: key.to_string(),
            ..Self::default()
        }
    }

    /// Whether an image lies in the tar under this key.
    pub fn is_success(&self) -> bool {
        self.status == "success"
    }

    /// Sets both status columns.
    pub fn set_status(&mut self, status: Status, resized: bool) {
        self.error_code = status.name().into();
        self.status = match status {
            Status::Kept => "success",
            _ if resized => "failed_to_resize",
            _ => "failed_to_download",
        }
        .into();
    }
}

table! {
    /// `embeddings/metadata/`: row i belongs to row i of both matrices. clip-retrieval's columns, then carried ones, which
    /// its own tables may lack.
    #[derive(Default)]
    EmbeddingRow {
        /// The key of the sample, which is its path in the tar; clip-retrieval's name.
        image_path: String = "image_path",
        /// The text found with the image.
        caption: String = "caption",
        /// Where the image was.
        url: String = "url" or String::new(),
        /// [`SampleKey`].
        key: String = "key" or String::new(),
        /// Carried from the pair.
        uid: String = "uid" or String::new(),
        /// Carried from the pair.
        page_url: String = "page_url" or String::new(),
        /// Carried from the pair.
        license: Option<String> = "license" or None,
        /// Carried from the pair.
        language: Option<String> = "language" or None,
        /// Stored width in pixels.
        width: i32 = "width" or 0,
        /// Stored height in pixels.
        height: i32 = "height" or 0,
        /// Width before resizing, in pixels.
        original_width: i32 = "original_width" or 0,
        /// Height before resizing, in pixels.
        original_height: i32 = "original_height" or 0,
        /// Of the bytes as downloaded.
        sha256: String = "sha256" or String::new(),
        /// Cosine of both embeddings before they were rounded to float16; a float32.
        similarity: Option<f64> = "similarity" or None,
    }
}

impl EmbeddingRow {
    /// The similarity that decides: that of the table, else the cosine of the embeddings as they are stored.
    pub fn cosine(&self, image: &Embedding, text: &Embedding) -> f32 {
        self.similarity.unwrap_or_else(|| image.similarity(text)) as f32
    }

    /// What the row is known by: clip-retrieval's tables have a path alone.
    pub fn name(&self) -> &str {
        if self.key.is_empty() { &self.image_path } else { &self.key }
    }
}

table! {
    /// `curated/`: one row per embedded row with its verdict.
    CuratedRow {
        /// [`SampleKey`].
        key: String = "key",
        /// Carried from the pair.
        uid: String = "uid",
        /// Cosine of both embeddings; a float32.
        similarity: f64 = "similarity",
        /// The tag that decided and that packages have: one of the next two, by the rules that were chosen.
        nsfw: String = "nsfw",
        /// The tag by the rule as it was meant.
        nsfw_meant: String = "nsfw_meant",
        /// The tag exactly as the workers of 2021 computed it; see `docs/recipe.md`.
        nsfw_2021: String = "nsfw_2021",
        /// `kept` or `dropped`.
        verdict: String = "verdict",
        /// Why it was dropped.
        reason: Option<String> = "reason",
        /// Row of the shard's embedding matrices.
        embedding_row: i64 = "embedding_row",
        /// The text found with the image.
        caption: String = "caption",
        /// Where the image was.
        url: String = "url",
        /// The page that shows the image.
        page_url: String = "page_url",
        /// Creative Commons licence the page links to.
        license: Option<String> = "license",
        /// ISO 639-3 code of the caption's language, where somebody asked.
        language: Option<String> = "language" or None,
        /// Stored width in pixels.
        width: i32 = "width",
        /// Stored height in pixels.
        height: i32 = "height",
        /// Width before resizing, in pixels.
        original_width: i32 = "original_width",
        /// Height before resizing, in pixels.
        original_height: i32 = "original_height",
    }
}

impl CuratedRow {
    /// Whether the row belongs to the dataset.
    pub fn is_kept(&self) -> bool {
        self.verdict == "kept"
    }
}

table! {
    /// `packages/metadata/`: the release schema of LAION-400M, height and width the right way round.
    ReleaseRow {
        /// [`SampleKey::number`].
        sample_id: i64 = "SAMPLE_ID",
        /// Where the image was.
        url: String = "URL",
        /// The text found with the image.
        text: String = "TEXT",
        /// Height before resizing, in pixels.
        height: i32 = "HEIGHT",
        /// Width before resizing, in pixels.
        width: i32 = "WIDTH",
        /// `?` where no licence is known.
        license: String = "LICENSE",
        /// Name of the [`crate::Nsfw`] tag.
        nsfw: String = "NSFW",
        /// Cosine of both embeddings.
        similarity: f64 = "similarity",
    }
}

table! {
    /// `packages/embeddings/metadata/` and `index/metadata.parquet`: row i belongs to row i of the matrices.
    KeptRow {
        /// The key of the sample; clip-retrieval's name.
        image_path: String = "image_path",
        /// The text found with the image.
        caption: String = "caption",
        /// Where the image was.
        url: String = "url",
        /// [`SampleKey`].
        key: String = "key",
        /// The page that shows the image.
        page_url: String = "page_url",
        /// Creative Commons licence the page links to, or `?`.
        license: String = "LICENSE",
        /// ISO 639-3 code of the caption's language, where somebody asked.
        language: Option<String> = "language" or None,
        /// Name of the [`crate::Nsfw`] tag.
        nsfw: String = "NSFW",
        /// Cosine of both embeddings.
        similarity: f64 = "similarity",
        /// Stored width in pixels.
        width: i32 = "width",
        /// Stored height in pixels.
        height: i32 = "height",
        /// Width before resizing, in pixels.
        original_width: i32 = "original_width",
        /// Height before resizing, in pixels.
        original_height: i32 = "original_height",
        /// Where the image bytes start in the WebDataset tar of the shard.
        image_offset: i64 = "image_offset",
        /// How many they are.
        image_bytes: i64 = "image_bytes",
    }
}

table! {
    /// The columns of the release where some cells may be unknown: what files of other tools become.
    PublishedRow {
        /// The number of the sample; unknown where its key is no number.
        sample_id: Option<i64> = "SAMPLE_ID",
        /// Where the image was.
        url: String = "URL",
        /// The text found with the image.
        text: String = "TEXT",
        /// Height before resizing, in pixels.
        height: Option<i32> = "HEIGHT",
        /// Width before resizing, in pixels.
        width: Option<i32> = "WIDTH",
        /// `?` where no licence is known.
        license: String = "LICENSE",
        /// Name of the [`crate::Nsfw`] tag.
        nsfw: String = "NSFW",
        /// Cosine of both embeddings.
        similarity: Option<f64> = "similarity",
    }
}

table! {
    /// The table beside a tar or two matrices that were packed from files of other tools: img2dataset's columns, as far
    /// as they are known, and clip-retrieval's name of the key.
    PackedRow {
        /// The key of the sample; clip-retrieval's name.
        image_path: String = "image_path",
        /// The text found with the image.
        caption: String = "caption",
        /// Where the image was.
        url: String = "url",
        /// Shard and row.
        key: String = "key",
        /// img2dataset's word: `success`.
        status: String = "status",
        /// Nothing.
        error_message: Option<String> = "error_message",
        /// `?` where no licence is known.
        license: String = "LICENSE",
        /// Name of the [`crate::Nsfw`] tag.
        nsfw: String = "NSFW",
        /// Cosine of both embeddings.
        similarity: Option<f64> = "similarity",
        /// Stored width in pixels.
        width: Option<i32> = "width",
        /// Stored height in pixels.
        height: Option<i32> = "height",
        /// Width before resizing, in pixels.
        original_width: Option<i32> = "original_width",
        /// Height before resizing, in pixels.
        original_height: Option<i32> = "original_height",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{FromBatch, Row};

    #[test]
    fn the_uid_is_cc2datasets() {
        // md5("a cathttp://a.com/i.jpg"), caption first
        assert_eq!(uid("a cat", "http://a.com/i.jpg"), hex(&Md5::digest("a cathttp://a.com/i.jpg")));
        assert_eq!(uid("", ""), "d41d8cd98f00b204e9800998ecf8427e");
    }

    #[test]
    fn embeddings_of_clip_retrieval_lack_what_a_run_carries() {
        let full = EmbeddingRow {
            image_path: "000000000".into(),
            caption: "a cat".into(),
            url: "http://a.com/".into(),
            key: "000000000".into(),
            uid: uid("a cat", "http://a.com/"),
            page_url: "http://a.com/".into(),
            license: Some("?".into()),
            language: Some("eng".into()),
            width: 256,
            height: 256,
            original_width: 300,
            original_height: 300,
            sha256: "00".into(),
            similarity: Some(0.3),
        };
        let batch = EmbeddingRow::to_batch(std::slice::from_ref(&full));
        assert_eq!(EmbeddingRow::from_batch(&batch), Ok(vec![full.clone()]));
        let theirs = EmbeddingRow::from_batch(&batch.project(&[0, 1]).expect("two columns")).expect("enough");
        assert_eq!((&theirs[0].image_path, &theirs[0].caption), (&full.image_path, &full.caption));
        assert_eq!((theirs[0].similarity, theirs[0].width, theirs[0].url.as_str()), (None, 0, ""));
        let error = EmbeddingRow::from_batch(&batch.project(&[0]).expect("a column")).expect_err("no caption");
        assert_eq!(error, "no column \"caption\"");
    }

    #[test]
    fn the_release_columns_are_laions() {
        let schema = ReleaseRow::schema();
        let columns: Vec<_> = schema.fields().iter().map(|field| (field.name().as_str(), field.data_type())).collect();
        use arrow_schema::DataType::{Float64, Int32, Int64, Utf8};
        assert_eq!(
            columns,
            [
                ("SAMPLE_ID", &Int64),
                ("URL", &Utf8),
                ("TEXT", &Utf8),
                ("HEIGHT", &Int32),
                ("WIDTH", &Int32),
                ("LICENSE", &Utf8),
                ("NSFW", &Utf8),
                ("similarity", &Float64)
            ]
        );
    }
}

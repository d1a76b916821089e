//! The kept rows of one shard, in three forms.

use std::collections::HashMap;
use std::path::Path;

use dataset::npy::{MatrixReader, MatrixWriter};
use dataset::schema::{CuratedRow, KeptRow, ReleaseRow};
use dataset::table::{TableReader, write_table};
use dataset::webdataset::{TarWriter, read_samples, tar_path};
use dataset::{
    Counts, EmbeddingFiles, Error, FileEntry, Marker, Packages, Result, Run, SampleKey, ShardId, Status, Task,
    file_sha256,
};
use half::f16;

use super::format::Format;

/// Which packages a shard becomes; all of them is what a run becomes unasked.
fn described(formats: &[Format]) -> serde_json::Value {
    if formats.len() == Format::BY_SHARD.len() {
        return serde_json::json!({});
    }
    let names: Vec<_> = formats.iter().map(|format| format.name()).collect();
    serde_json::json!({"formats": names})
}

/// The formats asked for, and those that are there already: they stay, and are made of the same rows.
fn wanted(formats: &[Format], there: Option<&Marker>) -> Vec<Format> {
    let has = |format: Format| {
        let folder = format!("{}/", format.folder());
        there.is_some_and(|marker| marker.files.iter().any(|file| file.name.starts_with(&folder)))
    };
    Format::BY_SHARD.into_iter().filter(|&format| formats.contains(&format) || has(format)).collect()
}

/// Packs one shard in those of the formats that are made shard by shard; one that is done is not done again. The counts
/// are of its curated rows that were kept.
pub fn pack_shard(run: &Run, packages: &Packages, id: ShardId, formats: &[Format], task: &dyn Task) -> Result<Counts> {
    let curated = run.curated().join(format!("{id}.parquet"));
    let marker = Marker::of_shard(packages.folder(), id);
    let there = Marker::read(&marker)?;
    let formats = wanted(formats, there.as_ref());
    let (described, inputs) = (described(&formats), vec![file_sha256(&curated)?]);
    let total = TableReader::<CuratedRow>::open(&curated)?.row_count();
    if let Some(done) = there
        && done.config == described
        && done.inputs == inputs
        && done.damaged(&marker).is_none()
    {
        task.advance(total);
        return Ok(done.counts);
    }
    let mut kept = Vec::new();
    for row in TableReader::<CuratedRow>::open(&curated)? {
        let row = row?;
        if row.is_kept() {
            kept.push(row);
        } else {
            task.advance(1);
        }
    }
    kept.sort_by(|a, b| a.key.cmp(&b.key));
    let mut files = Vec::new();
    let rows = if formats.contains(&Format::Webdataset) {
        let tar = tar_path(&packages.webdataset(), id);
        let (tar, rows) = pack_samples(&tar_path(&run.images(), id), &tar, kept, task)?;
        let table = packages.webdataset().join(format!("{id}.parquet"));
        let table = write_table(&table, rows.iter().map(|(_, row)| row.clone()))?;
        files.extend([tar.below("webdataset"), table.below("webdataset")]);
        rows
    } else {
        task.advance(kept.len() as u64);
        kept.into_iter().map(|row| (row.embedding_row, kept_row(row, 0, 0))).collect()
    };
    if formats.contains(&Format::Parquet) {
        let release: Vec<_> = rows.iter().map(|(_, row)| release_row(row)).collect::<Result<_>>()?;
        let part = packages.metadata().join(format!("part-{id}.snappy.parquet"));
        files.push(write_table(&part, release)?.below("metadata"));
    }
    if formats.contains(&Format::Npy) {
        files.extend(pack_embeddings(run, packages, id, &rows)?);
    }
    let mut counts = Counts::default();
    counts.add_many(Status::Kept, rows.len() as u64);
    Ok(Marker::finish(&marker, &described, inputs, counts, files)?.counts)
}

/// The row of a sample whose picture is so many bytes at that offset of its tar.
fn kept_row(row: CuratedRow, image_offset: i64, image_bytes: i64) -> KeptRow {
    KeptRow {
        image_path: row.key.clone(),
        caption: row.caption,
        url: row.url,
        key: row.key,
        page_url: row.page_url,
        license: row.license.unwrap_or_else(|| "?".into()),
        nsfw: row.nsfw,
        similarity: row.similarity,
        width: row.width,
        height: row.height,
        original_width: row.original_width,
        original_height: row.original_height,
        image_offset,
        image_bytes,
    }
}

/// Copies the kept samples, and gives their rows with the row of the embedding matrices they belong to.
fn pack_samples(
    from: &Path,
    to: &Path,
    kept: Vec<CuratedRow>,
    task: &dyn Task,
) -> Result<(FileEntry, Vec<(i64, KeptRow)>)> {
    let mut waiting: HashMap<String, CuratedRow> = kept.into_iter().map(|row| (row.key.clone(), row)).collect();
    let mut writer = TarWriter::create(to)?;
    let mut rows = Vec::new();
    read_samples(from, |sample| {
        let Some(row) = waiting.remove(&sample.key) else { return Ok(()) };
        let missing = |what: &str| Error::format(from, format!("sample {} has no {what}", row.key));
        let image = sample.files.get("jpg").ok_or_else(|| missing("jpg"))?;
        let json = sample.files.get("json").ok_or_else(|| missing("json"))?;
        let mut json: serde_json::Value = serde_json::from_slice(json).map_err(|error| missing(&error.to_string()))?;
        json["similarity"] = row.similarity.into();
        json["NSFW"] = row.nsfw.as_str().into();
        json["LICENSE"] = row.license.as_deref().unwrap_or("?").into();
        let json = serde_json::to_string_pretty(&json).expect("read above");
        let image_offset = writer.push(&format!("{}.jpg", row.key), image)?;
        writer.push(&format!("{}.json", row.key), json.as_bytes())?;
        writer.push(&format!("{}.txt", row.key), row.caption.as_bytes())?;
        task.advance(1);
        rows.push((row.embedding_row, kept_row(row, image_offset as i64, image.len() as i64)));
        Ok(())
    })?;
    if let Some(key) = waiting.keys().min() {
        let cause = format!("{} kept samples are missing, the first is {key}", waiting.len());
        return Err(Error::format(from, cause));
    }
    Ok((writer.publish()?, rows))
}

fn release_row(row: &KeptRow) -> Result<ReleaseRow> {
    Ok(ReleaseRow {
        sample_id: row.key.parse::<SampleKey>()?.number(),
        url: row.url.clone(),
        text: row.caption.clone(),
        height: row.original_height,
        width: row.original_width,
        license: row.license.clone(),
        nsfw: row.nsfw.clone(),
        similarity: row.similarity,
    })
}

/// Copies the kept rows of both matrices, bit by bit.
fn pack_embeddings(run: &Run, packages: &Packages, id: ShardId, rows: &[(i64, KeptRow)]) -> Result<Vec<FileEntry>> {
    let from = EmbeddingFiles::of(&run.embeddings(), id);
    let to = EmbeddingFiles::of(&packages.embeddings(), id);
    let mut files = Vec::new();
    for (folder, from, to) in [("img_emb", &from.image, &to.image), ("text_emb", &from.text, &to.text)] {
        let mut reader = MatrixReader::open(from)?;
        let mut writer = MatrixWriter::create(to, rows.len(), reader.columns())?;
        let (mut row, mut read) = (Vec::<f16>::new(), 0);
        for &(position, _) in rows {
            while read <= position {
                if !reader.read_row(&mut row)? {
                    return Err(Error::format(from, format!("no row {position}")));
                }
                read += 1;
            }
            writer.push_f16(&row)?;
        }
        files.push(writer.publish()?.below(&format!("embeddings/{folder}")));
    }
    let metadata = write_table(&to.metadata, rows.iter().map(|(_, row)| row.clone()))?;
    files.push(metadata.below("embeddings/metadata"));
    Ok(files)
}

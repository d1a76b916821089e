//! The kept rows of one shard, in three forms.

use std::collections::HashMap;
use std::path::Path;

use dataset::carried::RecordBatch;
use dataset::files;
use dataset::npy::{MatrixReader, MatrixWriter};
use dataset::schema::{KeptRow, ReleaseRow};
use dataset::table::{write_table, write_table_before};
use dataset::webdataset::{TarWriter, read_samples, tar_path};
use dataset::{
    Counts, EmbeddingFiles, Error, FileEntry, Marker, Packages, Result, Run, SampleKey, ShardId, Status, Task,
};
use half::f16;

use super::format::Format;
use super::place::{Choice, Place};

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
    pack_chosen(Choice { run, keys: None }, packages, id, formats, task)
}

/// The same of chosen rows.
pub(super) fn pack_chosen(
    choice: Choice<'_>,
    packages: &Packages,
    id: ShardId,
    formats: &[Format],
    task: &dyn Task,
) -> Result<Counts> {
    let marker = Marker::of_shard(packages.folder(), id);
    let there = Marker::read(&marker)?;
    let formats = wanted(formats, there.as_ref());
    let (described, inputs) = (described(&formats), choice.inputs(id)?);
    let total = choice.row_count(id)?;
    if let Some(done) = there
        && done.config == described
        && done.inputs == inputs
        && done.is_whole(&marker)?
    {
        task.advance(total);
        return Ok(done.counts);
    }
    let staged = Place::staged(choice.run, id);
    let place = if files::exists(&staged.tar)? { staged } else { choice.place_in_run(id)? };
    let kept = choice.rows(&place)?;
    task.advance(total.saturating_sub(kept.len() as u64));
    let mut files = Vec::new();
    let rows = if formats.contains(&Format::Webdataset) {
        let tar = tar_path(&packages.webdataset(), id);
        let (tar, rows) = pack_samples(&place.tar, &tar, kept, task)?;
        files.push(tar.below("webdataset"));
        rows
    } else {
        task.advance(kept.len() as u64);
        kept
    };
    let scores = choice.scores(&place, &rows)?;
    if formats.contains(&Format::Webdataset) {
        let table = packages.webdataset().join(format!("{id}.parquet"));
        files.push(write_rows(&table, &rows, &scores)?.below("webdataset"));
    }
    if formats.contains(&Format::Parquet) {
        let release: Vec<_> = rows.iter().map(|(_, row)| release_row(row)).collect::<Result<_>>()?;
        let part = packages.metadata().join(format!("part-{id}.snappy.parquet"));
        files.push(write_table(&part, release)?.below("metadata"));
    }
    if formats.contains(&Format::Npy) {
        files.extend(pack_embeddings(&place.matrices, packages, &rows, &scores)?);
    }
    let mut counts = Counts::default();
    counts.add_many(Status::Kept, rows.len() as u64);
    Ok(Marker::finish(&marker, &described, inputs, counts, files)?.counts)
}

/// Copies the kept samples, and gives their rows with the row of the embedding matrices they belong to.
fn pack_samples(
    from: &Path,
    to: &Path,
    kept: Vec<(i64, KeptRow)>,
    task: &dyn Task,
) -> Result<(FileEntry, Vec<(i64, KeptRow)>)> {
    let mut waiting: HashMap<String, (i64, KeptRow)> =
        kept.into_iter().map(|(position, row)| (row.key.clone(), (position, row))).collect();
    let mut writer = TarWriter::create(to)?;
    let mut rows = Vec::new();
    read_samples(from, |sample| {
        let Some((position, mut row)) = waiting.remove(&sample.key) else { return Ok(()) };
        let missing = |what: &str| Error::format(from, format!("sample {} has no {what}", row.key));
        let image = sample.files.get("jpg").ok_or_else(|| missing("jpg"))?;
        let json = sample.files.get("json").ok_or_else(|| missing("json"))?;
        let mut json: serde_json::Value = serde_json::from_slice(json).map_err(|error| missing(&error.to_string()))?;
        json["similarity"] = row.similarity.into();
        json["NSFW"] = row.nsfw.as_str().into();
        json["LICENSE"] = row.license.as_str().into();
        let json = serde_json::to_string_pretty(&json).expect("read above");
        row.image_offset = writer.push(&format!("{}.jpg", row.key), image)? as i64;
        row.image_bytes = image.len() as i64;
        writer.push(&format!("{}.json", row.key), json.as_bytes())?;
        writer.push(&format!("{}.txt", row.key), row.caption.as_bytes())?;
        task.advance(1);
        rows.push((position, row));
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
fn pack_embeddings(
    from: &EmbeddingFiles,
    packages: &Packages,
    rows: &[(i64, KeptRow)],
    scores: &RecordBatch,
) -> Result<Vec<FileEntry>> {
    let to = EmbeddingFiles::of(&packages.embeddings(), from.id);
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
    let metadata = write_rows(&to.metadata, rows, scores)?;
    files.push(metadata.below("embeddings/metadata"));
    Ok(files)
}

/// Writes the table of a shard, scores last.
fn write_rows(path: &Path, rows: &[(i64, KeptRow)], scores: &RecordBatch) -> Result<FileEntry> {
    let rows: Vec<_> = rows.iter().map(|(_, row)| row.clone()).collect();
    write_table_before(path, &rows, scores)
}

/// Removes a shard from packages, its marker last.
pub(super) fn remove(packages: &Packages, id: ShardId) -> Result<()> {
    let matrices = EmbeddingFiles::of(&packages.embeddings(), id);
    for path in [
        tar_path(&packages.webdataset(), id),
        packages.webdataset().join(format!("{id}.parquet")),
        packages.metadata().join(format!("part-{id}.snappy.parquet")),
        matrices.image,
        matrices.text,
        matrices.metadata,
        Marker::of_shard(packages.folder(), id),
    ] {
        match files::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

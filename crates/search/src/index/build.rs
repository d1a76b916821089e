//! Builds an index from embeddings with their tables, in clip-retrieval's layout, and adds to it what has come since.

use std::path::Path;

use dataset::files;
use dataset::indexed::index_rows;
use dataset::npy::{MatrixReader, MatrixWriter};
use dataset::schema::KeptRow;
use dataset::table::TableReader;
use dataset::{
    Counts, EmbeddingFiles, Error, FileEntry, Marker, Progress, Result, Stage, Status, Summary, Task, file_sha256,
    remove_temporary,
};
use half::f16;

use super::{MARKER, Modality, segment, trial};
use crate::lists;

/// Segments of fewer rows have no lists: to look at every row takes half a millisecond.
const LISTS_FROM_ROWS: usize = 4096;
/// More segments than this are built anew as one.
const SEGMENTS_MAX: usize = 8;

/// Indexes all shards of a folder of embeddings. `model` names the weights they were made with, which queries have to be made
/// with, too. An index of the same shards is left alone; shards that have come after those it has become a further segment;
/// if others have changed, it is built again. Deleted keys stay deleted.
pub fn build(embeddings: &Path, output: &Path, model: &str, progress: &dyn Progress) -> Result<Summary> {
    let shards = EmbeddingFiles::list(embeddings)?;
    let first = shards.first();
    let first = first.ok_or_else(|| Error::Invalid(format!("{}: no embeddings", embeddings.display())))?;
    let mut sides = Vec::new();
    for side in Modality::ALL {
        if files::exists(matrix_of(first, side))? {
            sides.push(side);
        }
    }
    let mut inputs = Vec::new();
    for files in &shards {
        let mut hashes = String::new();
        for &side in &sides {
            hashes.push_str(&file_sha256(matrix_of(files, side))?);
        }
        inputs.push(hashes + &file_sha256(&files.metadata)?);
    }
    let marker = output.join(MARKER);
    let before = Marker::read(&marker)?.filter(|marker| marker.config["model"] == model);
    let mut kept: Vec<(String, Marker)> = Vec::new();
    for name in before.iter().flat_map(|before| before.config["segments"].as_array().into_iter().flatten()) {
        let Some(name) = name.as_str().filter(|name| segment::is_name(name)) else { break };
        let path = output.join(name).join(segment::MARKER);
        let there = Marker::read_whole(&path)?;
        let passed: usize = kept.iter().map(|(_, there)| there.inputs.len()).sum();
        match there {
            Some(there) if inputs[passed..].starts_with(&there.inputs) => kept.push((name.to_owned(), there)),
            _ => {
                kept.clear();
                break;
            }
        }
    }
    let mut passed: usize = kept.iter().map(|(_, there)| there.inputs.len()).sum();
    if passed < shards.len() && kept.len() == SEGMENTS_MAX {
        (passed, kept) = (0, Vec::new());
    }
    if passed < shards.len() {
        let name = name_of(&inputs[passed..], model);
        let new = write_segment(&shards[passed..], &inputs[passed..], &sides, model, &output.join(&name), progress)?;
        kept.push((name, new));
    } else if let Some(before) = before
        && before.inputs == inputs
        && before.is_whole(&marker)?
    {
        return Ok(Summary { stage: Stage::Index, counts: before.counts });
    }
    let mut counts = Counts::default();
    let (mut names, mut files) = (Vec::new(), Vec::new());
    for (name, there) in kept {
        counts.add_many(Status::Kept, there.counts.kept);
        files.extend(there.files.into_iter().map(|file| file.below(&name)));
        names.push(name);
    }
    let described = serde_json::json!({"model": model, "segments": names});
    Marker::finish(&marker, &described, inputs, counts.clone(), files)?;
    remove_others(output, &names)?;
    Ok(Summary { stage: Stage::Index, counts })
}

fn matrix_of(files: &EmbeddingFiles, side: Modality) -> &Path {
    match side {
        Modality::Image => &files.image,
        Modality::Text => &files.text,
    }
}

/// The same shards and weights always make a segment of the same name, so that work on it can be gone on with.
fn name_of(inputs: &[String], model: &str) -> String {
    let mut state = 0xCBF2_9CE4_8422_2325u64;
    for byte in inputs.iter().flat_map(|input| input.bytes()).chain(model.bytes()) {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3); // FNV-1a
    }
    format!("{state:016x}")
}

/// Removes segments that the index does not have, those of an earlier one: who still searches them keeps their files.
fn remove_others(output: &Path, names: &[String]) -> Result<()> {
    for entry in files::list(output)? {
        let name = entry.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if segment::is_name(&name) && !names.contains(&name) && entry.is_dir {
            files::remove_dir_all(entry.path)?;
        }
    }
    Ok(())
}

fn write_segment(
    shards: &[EmbeddingFiles],
    inputs: &[String],
    sides: &[Modality],
    model: &str,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<Marker> {
    let path = folder.join(segment::MARKER);
    if let Some(there) = Marker::read_whole(&path)? {
        return Ok(there);
    }
    files::create_dir_all(folder)?;
    remove_temporary(folder)?;
    let mut counts = Vec::new();
    let mut dimensions = None;
    for files in shards {
        let reader = MatrixReader::open(matrix_of(files, sides[0]))?;
        if *dimensions.get_or_insert(reader.columns()) != reader.columns() {
            return Err(Error::format(
                matrix_of(files, sides[0]),
                "its embeddings have another length than those before",
            ));
        }
        counts.push(reader.rows());
    }
    let (rows, dimensions) = (counts.iter().sum::<usize>(), dimensions.unwrap_or_default());
    // Tables, and each side copied, then put into lists.
    let task = progress.begin(Stage::Index, Some(rows as u64 * (1 + 2 * sides.len() as u64)));
    let tables: Vec<&Path> = shards.iter().map(|files| files.metadata.as_path()).collect();
    for (files, &count) in shards.iter().zip(&counts) {
        let there = TableReader::<KeptRow>::open(&files.metadata)?.row_count();
        if there != count as u64 {
            return Err(Error::format(&files.metadata, format!("{there} rows instead of {count}")));
        }
    }
    let mut files = index_rows(folder, &tables, |rows| task.advance(rows))?;
    for &side in sides {
        let path = folder.join(side.name()).with_extension("npy");
        files.push(copy(shards, &counts, side, dimensions, &path, &*task)?);
    }
    let mut probes = serde_json::Map::new();
    for &side in sides {
        let path = folder.join(side.name()).with_extension("npy");
        if rows < LISTS_FROM_ROWS {
            task.advance(rows as u64);
            continue;
        }
        let lists = path.with_extension("lists");
        files.push(lists::write(&MatrixReader::open(&path)?, &lists, &*task)?);
        // Words look for pictures: captions are the harder queries for them, and the other way round.
        let asked = sides.iter().find(|&&other| other != side).unwrap_or(&side);
        let asked = MatrixReader::open(&folder.join(asked.name()).with_extension("npy"))?;
        probes.insert(side.name().into(), trial::probes(&path, &lists, &asked)?.into());
    }
    let config = serde_json::json!({"model": model, "rows": rows, "dimensions": dimensions, "probes": probes});
    let mut kept = Counts::default();
    kept.add_many(Status::Kept, rows as u64);
    Marker::finish(&path, &config, inputs.to_vec(), kept, files)?;
    Marker::read(&path)?.ok_or_else(|| Error::format(&path, "gone"))
}

/// The matrices of all shards as one.
fn copy(
    shards: &[EmbeddingFiles],
    counts: &[usize],
    side: Modality,
    dimensions: usize,
    path: &Path,
    task: &dyn Task,
) -> Result<FileEntry> {
    let mut writer = MatrixWriter::create(path, counts.iter().sum(), dimensions)?;
    for (files, &count) in shards.iter().zip(counts) {
        let from = matrix_of(files, side);
        let mut reader = MatrixReader::open(from)?;
        if reader.columns() != dimensions {
            return Err(Error::format(from, "its embeddings have another length than those before"));
        }
        if reader.rows() != count {
            return Err(Error::format(from, format!("{} rows instead of {count}", reader.rows())));
        }
        let mut row: Vec<f16> = Vec::new();
        while reader.read_row(&mut row)? {
            writer.push_f16(&row)?;
        }
        task.advance(count as u64);
    }
    writer.publish()
}

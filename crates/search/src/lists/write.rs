//! Writing lists: the centres are learnt from a sample, rows are given to the nearest, part by part, and the parts are merged
//! list by list. A part in memory is 72 bytes a row of 512 values; parts that are there are not made again.

use std::io::{BufReader, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use dataset::npy::MatrixReader;
use dataset::{Draft, Error, FileEntry, Result, Task, files};
use fs_err as fs;
use half::f16;
use half::slice::HalfFloatSliceExt;
use ndarray::Array2;
use rayon::prelude::*;

use super::clusters;
use super::codes::{LANES, block_bytes, encode, pack, sign_bytes};
use super::rotation::{Rotation, drawn};
use super::{HEADER_BYTES, MAGIC, lists_for};

/// Rows the centres are learnt from, for each.
const SAMPLE_ROWS: usize = 40;
/// Rows of a part.
const PART_ROWS: usize = 1 << 20;
/// Rows that are rotated and given to lists at once.
const BLOCK_ROWS: usize = 1024;

/// Writes the lists of a matrix as `path`.
pub(crate) fn write(matrix: &MatrixReader, path: &Path, task: &dyn Task) -> Result<FileEntry> {
    let rotation = Rotation::new(matrix.columns());
    let centres = learn(matrix, &rotation)?;
    let scratch = files::scratch(path.parent().unwrap_or(path))?;
    fs::create_dir_all(&scratch)?;
    let name = scratch.join(path.file_name().unwrap_or_default());
    let mut parts = Vec::new();
    for (number, start) in (0..matrix.rows()).step_by(PART_ROWS).enumerate() {
        let rows = start..(start + PART_ROWS).min(matrix.rows());
        // Of other centres, another machine's perhaps, no part is taken.
        let part = name.with_extension(format!("part-{:08x}-{number:05}", fingerprint(&centres)));
        if !part.exists() {
            write_part(matrix, rows.clone(), &rotation, &centres, &part)?;
        }
        task.advance(rows.len() as u64);
        parts.push(Part::open(part, centres.nrows(), &rotation)?);
    }
    let entry = merge(path, matrix.rows(), &rotation, &centres, &mut parts)?;
    for part in parts {
        fs::remove_file(part.path)?;
    }
    Ok(entry)
}

/// The centres, from a sample of the rows.
fn learn(matrix: &MatrixReader, rotation: &Rotation) -> Result<Array2<f32>> {
    let lists = lists_for(matrix.rows());
    let count = (lists * SAMPLE_ROWS).min(matrix.rows());
    let mut sample = Array2::zeros((count, rotation.padded()));
    let (mut halves, mut values) = (Vec::new(), vec![0.0; matrix.columns()]);
    for (mut row, number) in sample.outer_iter_mut().zip(drawn(matrix.rows(), count)) {
        halves.clear();
        matrix.append_rows(number..number + 1, &mut halves)?;
        halves.convert_to_f32_slice(&mut values);
        rotation.turn_into(&values, row.as_slice_mut().expect("a row lies in one piece"));
    }
    Ok(clusters::learn(sample.view(), lists))
}

fn fingerprint(centres: &Array2<f32>) -> u32 {
    centres.iter().fold(0, |hash: u32, value| hash.rotate_left(5).wrapping_mul(0x9E37_79B1) ^ value.to_bits())
}

/// A row on its way to its list.
struct Coded {
    list: u32,
    row: u32,
    factor: f32,
    signs: Vec<u8>,
}

/// Rows of each list, then for each row, list by list: number, factor, and signs, two times four in a byte.
fn write_part(
    matrix: &MatrixReader,
    rows: Range<usize>,
    rotation: &Rotation,
    centres: &Array2<f32>,
    path: &Path,
) -> Result<()> {
    let starts: Vec<usize> = rows.clone().step_by(BLOCK_ROWS).collect();
    let blocks = starts.into_par_iter().map(|start| {
        let block = start..(start + BLOCK_ROWS).min(rows.end);
        let mut halves: Vec<f16> = Vec::new();
        matrix.append_rows(block.clone(), &mut halves)?;
        let mut values = vec![0.0; halves.len()];
        halves.convert_to_f32_slice(&mut values);
        let mut turned = Array2::zeros((block.len(), rotation.padded()));
        for (mut turned, values) in turned.outer_iter_mut().zip(values.chunks_exact(matrix.columns())) {
            rotation.turn_into(values, turned.as_slice_mut().expect("a row lies in one piece"));
        }
        let lists = clusters::nearest(turned.view(), centres);
        let coded = lists.into_iter().zip(turned.outer_iter()).zip(block).map(|((list, values), row)| {
            let rest = &values - &centres.row(list);
            let mut fours = Vec::with_capacity(rest.len() / 4);
            let factor = encode(rest.as_slice().expect("made in one piece"), &mut fours);
            let signs = fours.as_chunks::<2>().0.iter().map(|[first, second]| first | second << 4).collect();
            let row = u32::try_from(row).map_err(|_| Error::Invalid("more than 4,294,967,295 rows".into()))?;
            Ok(Coded { list: list as u32, row, factor, signs })
        });
        coded.collect::<Result<Vec<Coded>>>()
    });
    let mut coded = blocks.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect::<Vec<Coded>>();
    coded.sort_by_key(|coded| coded.list);
    let mut counts = vec![0u32; centres.nrows()];
    coded.iter().for_each(|coded| counts[coded.list as usize] += 1);
    let mut draft = Draft::create(path)?;
    draft.write_all(&counts.into_iter().flat_map(u32::to_le_bytes).collect::<Vec<u8>>())?;
    for coded in coded {
        draft.write_all(&coded.row.to_le_bytes())?;
        draft.write_all(&coded.factor.to_le_bytes())?;
        draft.write_all(&coded.signs)?;
    }
    draft.publish()?;
    Ok(())
}

/// A part that is being read, list by list.
struct Part {
    path: PathBuf,
    counts: Vec<u32>,
    file: BufReader<fs::File>,
}

impl Part {
    fn open(path: PathBuf, lists: usize, rotation: &Rotation) -> Result<Self> {
        let file = fs::File::open(&path)?;
        let bytes = file.metadata()?.len();
        let mut file = BufReader::new(file);
        let mut counts = vec![0; lists * 4];
        file.read_exact(&mut counts)?;
        let counts: Vec<u32> = counts.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect();
        let rows: u64 = counts.iter().map(|&count| u64::from(count)).sum();
        if bytes != (lists * 4) as u64 + rows * (8 + rotation.padded() / 8) as u64 {
            return Err(Error::format(&path, "not as long as its lists; remove it and run again"));
        }
        Ok(Self { path, counts, file })
    }

    /// Appends the next list's rows, as they lie in the part.
    fn append(&mut self, list: usize, row_bytes: usize, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        out.resize(start + self.counts[list] as usize * row_bytes, 0);
        Ok(self.file.read_exact(&mut out[start..])?)
    }
}

fn merge(
    path: &Path,
    rows: usize,
    rotation: &Rotation,
    centres: &Array2<f32>,
    parts: &mut [Part],
) -> Result<FileEntry> {
    let (values, lists) = (rotation.padded(), centres.nrows());
    let mut draft = Draft::create(path)?;
    let mut header = Vec::from(MAGIC);
    header.extend((values as u32).to_le_bytes());
    header.extend((lists as u32).to_le_bytes());
    header.extend((rows as u64).to_le_bytes());
    header.resize(HEADER_BYTES, 0);
    draft.write_all(&header)?;
    for centre in centres.outer_iter() {
        draft.write_all(&centre.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())?;
    }
    let mut start = 0u64;
    draft.write_all(&start.to_le_bytes())?;
    for list in 0..lists {
        let count: usize = parts.iter().map(|part| part.counts[list] as usize).sum();
        start += count.div_ceil(LANES) as u64;
        draft.write_all(&start.to_le_bytes())?;
    }
    let row_bytes = 8 + values / 8;
    let mut entries = Vec::new();
    for list in 0..lists {
        entries.clear();
        for part in parts.iter_mut() {
            part.append(list, row_bytes, &mut entries)?;
        }
        let mut writer = BlockWriter::new(values);
        for entry in entries.chunks_exact(row_bytes) {
            let word = |at: usize| [entry[at], entry[at + 1], entry[at + 2], entry[at + 3]];
            let fours: Vec<u8> = entry[8..].iter().flat_map(|byte| [byte & 15, byte >> 4]).collect();
            writer.push(u32::from_le_bytes(word(0)), f32::from_le_bytes(word(4)), &fours);
        }
        draft.write_all(&writer.bytes)?;
    }
    draft.publish()
}

/// Blocks of rows, in memory.
struct BlockWriter {
    values: usize,
    rows: usize,
    bytes: Vec<u8>,
}

impl BlockWriter {
    fn new(values: usize) -> Self {
        Self { values, rows: 0, bytes: Vec::new() }
    }

    fn push(&mut self, row: u32, factor: f32, fours: &[u8]) {
        let lane = self.rows % LANES;
        if lane == 0 {
            let end = self.bytes.len() + block_bytes(self.values);
            self.bytes.resize(end - LANES * 4, 0);
            self.bytes.resize(end, 0xFF); // rows that are none
        }
        let start = self.bytes.len() - block_bytes(self.values);
        let block = &mut self.bytes[start..];
        pack(fours, lane, block);
        let signs = sign_bytes(self.values);
        block[signs + lane * 4..][..4].copy_from_slice(&factor.to_le_bytes());
        block[signs + (LANES + lane) * 4..][..4].copy_from_slice(&row.to_le_bytes());
        self.rows += 1;
    }
}

/// Vectors as blocks of a list whose centre is zero.
pub(super) fn blocks<'a>(values: usize, vectors: impl Iterator<Item = (u32, &'a [f32])>) -> Vec<u8> {
    let mut writer = BlockWriter::new(values);
    for (row, vector) in vectors {
        let mut fours = Vec::new();
        let factor = encode(vector, &mut fours);
        writer.push(row, factor, &fours);
    }
    writer.bytes
}

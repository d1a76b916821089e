//! Writes and reads the examples of a configuration.

use std::io::{Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use fs_err as fs;
use half::f16;

use super::features::{Config, Example, ExampleView, features_json};
use super::info::{Info, ascii_json, dataset_info, folder, shard_name};
use super::records::{FileFormat, ShardReader, ShardWriter};
use super::shuffle::{hash_key, shard_count, shard_of};
use super::stored::{Content, Files, put_record, store};
use crate::files;
use crate::label::Nsfw;
use crate::publish::{FileEntry, publish, remove_temporary};
use crate::tfrecord::FRAME_BYTES;
use crate::{Error, Result};

/// Examples that are held, and sorted, in memory, with what says where each is.
const MEMORY_BYTES: usize = 192 << 20;
/// Roughly the size of a bucket: three of them fit, in case some are larger than others.
const BUCKET_BYTES: u64 = 64 << 20;
/// Open files are limited: above 16 GiB of examples buckets are split again before they are sorted.
const BUCKETS_MAX: u64 = 256;
/// A bucket that is split becomes so many: 2^6.
const SPLIT_BITS: u32 = 6;
/// A spilled example: hash, length, then the example itself.
const SPILL_HEAD: usize = 24;

/// Writes one configuration in the order TFDS gives it. What fits into memory is sorted there. What does not goes over
/// the disk twice: examples go to buckets by the top bits of their hash; then each bucket is sorted by itself and
/// appended to the shards. A bucket that is too large for memory takes a pass more.
#[derive(Debug)]
pub struct TfdsWriter {
    config: Config,
    folder: PathBuf,
    spill: PathBuf,
    shards: Shards,
    expected_bytes: u64,
    /// Where examples are not sorted: how large a shard gets.
    unsorted_shard_bytes: Option<u64>,
    /// Where pictures are that are read only when their place is known.
    files: Files,
    batch: Batch,
    buckets: Option<Buckets>,
    /// Bits of the hash that tell a bucket, if there will be any.
    bucket_bits: u32,
    memory_bytes: usize,
    examples: u64,
    num_bytes: u64,
    largest: u128,
}

/// Examples in memory, as they are stored, one behind the other.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    index: Vec<(u128, Range<usize>)>,
}

/// Of the index, for each example.
const INDEX_BYTES: usize = size_of::<(u128, Range<usize>)>();

impl Batch {
    /// The examples of a bucket, which goes away.
    fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path)?;
        let (mut index, mut at) = (Vec::new(), 0);
        while let Some(head) = bytes.get(at..at + SPILL_HEAD) {
            let (hash, length) = head.split_at(16);
            let length = u64::from_le_bytes(length.try_into().expect("8 bytes")) as usize; // written by this process
            index.push((
                u128::from_be_bytes(hash.try_into().expect("16 bytes")),
                at + SPILL_HEAD..at + SPILL_HEAD + length,
            ));
            at += SPILL_HEAD + length;
        }
        fs::remove_file(path)?;
        Ok(Self { bytes, index })
    }

    fn sort(&mut self) {
        self.index.sort_unstable_by_key(|(hash, _)| *hash);
    }

    fn examples(&self) -> impl Iterator<Item = (u128, &[u8])> {
        self.index.iter().map(|(hash, range)| (*hash, &self.bytes[range.clone()]))
    }
}

/// Examples on disk, apart by some bits of their hash.
#[derive(Debug)]
struct Buckets {
    files: Vec<std::io::BufWriter<fs::File>>,
    paths: Vec<PathBuf>,
    /// Bits of the hash that all of them have in common.
    skip: u32,
    /// Bits after those that tell the bucket.
    bits: u32,
}

impl Buckets {
    /// New files that start with `prefix`.
    fn create(prefix: &Path, skip: u32, bits: u32) -> Result<Self> {
        let path = |bucket| PathBuf::from(format!("{}-{bucket}", prefix.display()));
        let paths: Vec<_> = (0..1usize << bits).map(path).collect();
        let create = |path| fs::File::create(path).map(std::io::BufWriter::new);
        Ok(Self { files: paths.iter().map(create).collect::<Result<_, _>>()?, paths, skip, bits })
    }

    fn push(&mut self, hash: u128, example: &[u8]) -> Result<()> {
        // In two steps: a shift by the whole width, where no bits tell the bucket, is not allowed.
        let bucket = (hash << self.skip) >> 64 >> (64 - self.bits);
        let out = &mut self.files[bucket as usize];
        out.write_all(&hash.to_be_bytes())?;
        out.write_all(&(example.len() as u64).to_le_bytes())?;
        Ok(out.write_all(example)?)
    }

    /// The files, and how many bits of the hash all examples of one have in common.
    fn finish(self) -> Result<Vec<(PathBuf, u32)>> {
        for file in self.files {
            file.into_inner().map_err(|error| error.into_error())?;
        }
        Ok(self.paths.into_iter().map(|path| (path, self.skip + self.bits)).collect())
    }
}

/// The bucket that comes next, or parts of it where it is too large; `None` when all have been read.
fn next_batch(waiting: &mut Vec<(PathBuf, u32)>, memory_bytes: usize) -> Result<Option<Batch>> {
    while let Some((path, skip)) = waiting.pop() {
        if fs::metadata(&path)?.len() <= memory_bytes as u64 || skip + SPLIT_BITS >= u128::BITS {
            return Batch::read(&path).map(Some);
        }
        let mut parts = Buckets::create(&path, skip, SPLIT_BITS)?;
        let mut file = std::io::BufReader::with_capacity(1 << 17, fs::File::open(&path)?);
        let (mut head, mut example) = ([0; SPILL_HEAD], Vec::new());
        while file.by_ref().take(1).read(&mut head)? == 1 {
            file.read_exact(&mut head[1..])?;
            let (hash, length) = head.split_at(16);
            example.clear();
            let length = u64::from_le_bytes(length.try_into().expect("8 bytes"));
            file.by_ref().take(length).read_to_end(&mut example)?;
            parts.push(u128::from_be_bytes(hash.try_into().expect("16 bytes")), &example)?;
        }
        fs::remove_file(&path)?;
        waiting.extend(parts.finish()?.into_iter().rev());
    }
    Ok(None)
}

/// The shards of a split, one after the other. What they are called is known when all are there.
#[derive(Debug)]
struct Shards {
    /// The first is the one that readers take unasked.
    formats: Vec<FileFormat>,
    folder: PathBuf,
    /// The shard that is being written, in each format.
    open: Option<(u64, Vec<ShardWriter>)>,
    /// Examples of each shard: one that stays empty has no file, and the names count the others.
    lengths: Vec<u64>,
    files: Vec<FileEntry>,
}

impl Shards {
    /// Appends the record that `put` appends to a shard, which is that of the record before or a new one.
    fn push(&mut self, shard: u64, mut put: impl FnMut(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        if self.open.as_ref().is_none_or(|&(open, _)| open != shard) {
            self.publish()?;
            let (folder, number) = (&self.folder, self.lengths.len());
            let create =
                |&format: &FileFormat| ShardWriter::create(&folder.join(format!("{}-{number}", format.name())), format);
            self.open = Some((shard, self.formats.iter().map(create).collect::<Result<_>>()?));
            self.lengths.push(0);
        }
        *self.lengths.last_mut().expect("pushed above") += 1;
        let (_, writers) = self.open.as_mut().expect("opened above");
        writers.iter_mut().try_for_each(|writer| writer.push(&mut put))
    }

    fn publish(&mut self) -> Result<()> {
        for writer in self.open.take().into_iter().flat_map(|(_, writers)| writers) {
            self.files.push(writer.publish()?);
        }
        Ok(())
    }

    /// Gives the files the names they have in `folder`.
    fn finish(mut self, folder: &Path) -> Result<(Vec<FileEntry>, Vec<u64>)> {
        self.publish()?;
        let Self { formats, lengths, mut files, .. } = self;
        for (number, file) in files.iter_mut().enumerate() {
            let name = shard_name(formats[number % formats.len()], number / formats.len(), lengths.len());
            files::rename(self.folder.join(&file.name), folder.join(&name))?;
            file.name = name;
        }
        Ok((files, lengths))
    }
}

impl TfdsWriter {
    /// Starts a configuration below the data folder `data`, in each of the formats: readers that are not asked take the
    /// first, TFRecord if there is none. `expected_bytes` only sets the number of buckets, and of shards of unsorted
    /// examples.
    pub fn create(data: &Path, config: Config, formats: &[FileFormat], expected_bytes: u64) -> Result<Self> {
        let folder = folder(data, config);
        let unsorted = folder.join(".unsorted");
        if files::exists(&folder)? {
            files::remove_dir_all(&folder)?; // half-written: a whole one is never written again
        }
        files::create_dir_all(&unsorted)?;
        let spill = files::scratch(&unsorted)?;
        fs::create_dir_all(&spill)?;
        let count = (expected_bytes / BUCKET_BYTES + 1).clamp(1, BUCKETS_MAX).next_power_of_two();
        let formats = if formats.is_empty() { vec![FileFormat::default()] } else { formats.to_vec() };
        let shards = Shards { formats, folder: unsorted, open: None, lengths: Vec::new(), files: Vec::new() };
        Ok(Self {
            config,
            folder,
            spill,
            shards,
            expected_bytes,
            unsorted_shard_bytes: None,
            files: Files::default(),
            batch: Batch::default(),
            buckets: None,
            bucket_bits: count.trailing_zeros(),
            memory_bytes: MEMORY_BYTES,
            examples: 0,
            num_bytes: 0,
            largest: 0,
        })
    }

    /// Leaves examples in the order in which they are pushed, as TFDS does for what it calls `disable_shuffling`, and
    /// writes them as they come. So many are expected: shards get the size that TFDS's rule gives them for what is
    /// expected, and are as many as that makes of what comes.
    pub fn unsorted(mut self, expected_examples: u64) -> Self {
        let shards = shard_count(self.expected_bytes, expected_examples);
        self.unsorted_shard_bytes = Some((self.expected_bytes + FRAME_BYTES * expected_examples) / shards);
        self
    }

    /// Adds an example. The key decides where it stands and must be unique.
    pub fn push(&mut self, key: &str, example: &Example) -> Result<()> {
        let bytes = |row: &[f16]| row.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        match (&example.image, &example.embeddings) {
            (_, Some((image, text))) => {
                self.push_with(key, example, Content::Embeddings { image: &bytes(image), text: &bytes(text) })
            }
            (image, None) => self.push_with(key, example, Content::Picture(image.as_deref().unwrap_or_default())),
        }
    }

    /// Adds an example whose picture or embeddings stand elsewhere; its own are not looked at.
    pub fn push_with(&mut self, key: &str, example: &Example, content: Content<'_>) -> Result<()> {
        if let Some(shard_bytes) = self.unsorted_shard_bytes {
            return self.push_unsorted(example, content, shard_bytes);
        }
        let hash = hash_key(key);
        let start = self.batch.bytes.len();
        self.num_bytes += store(example, content, &mut self.files, &mut self.batch.bytes) as u64;
        let end = self.batch.bytes.len();
        self.batch.index.push((hash, start..end));
        self.examples += 1;
        self.largest = self.largest.max(hash);
        if end + self.batch.index.len() * INDEX_BYTES < self.memory_bytes { Ok(()) } else { self.spill() }
    }

    fn push_unsorted(&mut self, example: &Example, content: Content<'_>, shard_bytes: u64) -> Result<()> {
        let Self { files, batch, shards, .. } = self;
        // By the record's first byte, so that the last shard is never a rest of a few.
        let shard = (self.num_bytes + FRAME_BYTES * self.examples) / shard_bytes.max(1);
        batch.bytes.clear();
        self.num_bytes += store(example, content, files, &mut batch.bytes) as u64;
        self.examples += 1;
        shards.push(shard, |out| put_record(&batch.bytes, files, out))
    }

    /// Makes room in memory.
    fn spill(&mut self) -> Result<()> {
        if self.buckets.is_none() {
            self.buckets = Some(Buckets::create(&self.spill.join("bucket"), 0, self.bucket_bits)?);
        }
        let buckets = self.buckets.as_mut().expect("made above");
        self.batch.examples().try_for_each(|(hash, example)| buckets.push(hash, example))?;
        self.batch.bytes.clear();
        self.batch.index.clear();
        Ok(())
    }

    /// Sorts, writes the shards, and publishes `dataset_info.json` last.
    pub fn finish(mut self) -> Result<Vec<FileEntry>> {
        if self.buckets.is_some() {
            self.spill()?;
            self.batch = Batch::default(); // its memory is needed for the buckets
        }
        let Self { config, folder, spill, mut shards, files: mut sources, buckets, batch, memory_bytes, .. } = self;
        let mut waiting = buckets.map(Buckets::finish).transpose()?.unwrap_or_default();
        waiting.reverse();
        let count = shard_count(self.num_bytes, self.examples);
        let mut last: Option<u128> = None;
        let mut next = Some(batch);
        while let Some(mut batch) = next {
            batch.sort();
            for (hash, example) in batch.examples() {
                if last == Some(hash) {
                    let folder = folder.display();
                    return Err(Error::Invalid(format!("pack {folder}: two examples have the same key")));
                }
                last = Some(hash);
                let shard = shard_of(hash, self.largest, count);
                shards.push(shard, |out| put_record(example, &mut sources, out))?;
            }
            drop(batch);
            next = next_batch(&mut waiting, memory_bytes)?;
        }
        let data = &folder;
        let (formats, unsorted) = (shards.formats.clone(), shards.folder.clone());
        let (mut files, lengths) = shards.finish(data)?;
        files::remove_dir_all(&unsorted)?;
        if spill.exists() {
            fs::remove_dir_all(&spill)?; // elsewhere, if the dataset is in a store
        }
        remove_temporary(data)?;
        let labels: String = Nsfw::ALL.iter().map(|tag| format!("{}\n", tag.name())).collect();
        files.push(publish(&data.join("features.json"), ascii_json(&features_json(config), 4).as_bytes())?);
        files.push(publish(&data.join("nsfw.labels.txt"), labels.as_bytes())?);
        let root = data.parent().and_then(Path::parent).expect("a configuration lies two folders below its dataset");
        publish(&root.join(".config/metadata.json"), br#"{"default_config_name": "images"}"#)?;
        let mut info = dataset_info(config, &formats, self.num_bytes, &lengths);
        if self.unsorted_shard_bytes.is_some() {
            info["disableShuffling"] = true.into(); // readers then read shard after shard
        }
        let info = ascii_json(&info, 2);
        files.push(publish(&data.join("dataset_info.json"), info.as_bytes())?);
        Ok(files)
    }
}

/// Reads the examples of a configuration, shard after shard.
#[derive(Debug)]
pub struct TfdsReader {
    shards: std::vec::IntoIter<(PathBuf, u64)>,
    open: Option<(ShardReader, PathBuf, u64)>,
    format: FileFormat,
    /// Examples of each shard, as `dataset_info.json` says.
    pub shard_lengths: Vec<u64>,
}

impl TfdsReader {
    /// Opens a version folder.
    pub fn open(folder: &Path) -> Result<Self> {
        let Info { formats, shard_lengths, .. } = Info::read(folder)?;
        let format = formats[0];
        let path = |shard| folder.join(shard_name(format, shard, shard_lengths.len()));
        let shards: Vec<_> = shard_lengths.iter().enumerate().map(|(shard, &length)| (path(shard), length)).collect();
        Ok(Self { shards: shards.into_iter(), open: None, format, shard_lengths })
    }

    fn read(&mut self) -> Result<Option<Example>> {
        loop {
            if self.open.is_none() {
                let Some((path, length)) = self.shards.next() else { return Ok(None) };
                self.open = Some((ShardReader::open(&path, self.format)?, path, length));
            }
            let (reader, path, left) = self.open.as_mut().expect("opened above");
            match reader.next().transpose()? {
                Some(record) => {
                    *left = left.checked_sub(1).ok_or_else(|| Error::format(path, "more records than shardLengths"))?;
                    let view = ExampleView::read(&record).map_err(|cause| Error::format(path, cause))?;
                    return Ok(Some(view.to_example()));
                }
                None if *left > 0 => return Err(Error::format(path, format!("{left} records are missing"))),
                None => self.open = None,
            }
        }
    }
}

impl Iterator for TfdsReader {
    type Item = Result<Example>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;

    /// The bytes of the one shard of 500 examples, sorted in buckets of so many bytes, expecting so many.
    fn shard(memory_bytes: usize, expected_bytes: u64) -> Vec<u8> {
        let data = tempfile::tempdir().expect("a temporary folder");
        let mut writer = TfdsWriter::create(data.path(), Config::Images, &[], expected_bytes).expect("a folder");
        writer.memory_bytes = memory_bytes;
        for row in 0..500 {
            let example = Example {
                caption: format!("picture {row}"),
                image: Some(vec![7; 100]),
                embeddings: None,
                license: "?".into(),
                nsfw: Nsfw::Unlikely,
                original_height: 2,
                original_width: 3,
                similarity: 0.31,
                url: "http://a.com/i.jpg".into(),
            };
            writer.push(&format!("0_{row}"), &example).expect("room");
        }
        writer.finish().expect("room");
        fs::read(folder(data.path(), Config::Images).join(shard_name(FileFormat::Tfrecord, 0, 1))).expect("written")
    }

    #[test]
    fn buckets_that_are_too_large_are_split_and_give_the_same_bytes() {
        let whole = shard(usize::MAX, 0);
        assert!(whole.len() > 50_000);
        assert!(shard(1000, 0) == whole, "buckets of about three examples");
        assert!(shard(10_000, 10 * BUCKET_BYTES) == whole, "sixteen buckets");
    }
}

//! Writes and reads the examples of a configuration.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::features::{Config, Example, features_json};
use super::info::{ascii_json, dataset_info, folder, shard_name};
use super::shuffle::{hash_key, shard_count, shard_of};
use crate::label::Nsfw;
use crate::publish::{Draft, FileEntry, publish, remove_temporary};
use crate::tfrecord::{RecordReader, write_record};
use crate::{Error, Result, proto};

/// The part of the examples that is sorted in memory at a time.
const BUCKET_BYTES: u64 = 64 << 20;
/// Open files are limited; above 16 GiB of examples the buckets grow instead.
const BUCKETS_MAX: u64 = 256;

/// Writes one configuration in the order TFDS gives it, in two passes over the disk: examples go to buckets by the top
/// bits of their hash; then each bucket is sorted by itself and appended to the shards.
#[derive(Debug)]
pub struct TfdsWriter {
    config: Config,
    folder: PathBuf,
    spill: PathBuf,
    buckets: Vec<std::io::BufWriter<fs::File>>,
    bits: u32,
    examples: u64,
    num_bytes: u64,
    largest: u128,
}

impl TfdsWriter {
    /// Starts a configuration below the data folder `data`. `expected_bytes` only sets the number of buckets.
    pub fn create(data: &Path, config: Config, expected_bytes: u64) -> Result<Self> {
        let folder = folder(data, config);
        let spill = folder.join(".unsorted");
        if folder.exists() {
            fs::remove_dir_all(&folder)?; // half-written: a whole one is never written again
        }
        fs::create_dir_all(&spill)?;
        let count = (expected_bytes / BUCKET_BYTES + 1).clamp(1, BUCKETS_MAX).next_power_of_two();
        let open = |bucket| fs::File::create(bucket_path(&spill, bucket)).map(std::io::BufWriter::new);
        let buckets = (0..count as usize).map(open).collect::<Result<_, _>>()?;
        let bits = count.trailing_zeros();
        Ok(Self { config, folder, spill, buckets, bits, examples: 0, num_bytes: 0, largest: 0 })
    }

    /// Adds an example. The key decides where it stands and must be unique.
    pub fn push(&mut self, key: &str, example: &Example) -> Result<()> {
        let data = proto::encode(&example.to_features());
        let hash = hash_key(key);
        let bucket = (hash >> 64) as u64 >> 1 >> (63 - self.bits);
        let out = &mut self.buckets[bucket as usize];
        out.write_all(&hash.to_be_bytes())?;
        out.write_all(&(data.len() as u64).to_le_bytes())?;
        out.write_all(&data)?;
        self.examples += 1;
        self.num_bytes += data.len() as u64;
        self.largest = self.largest.max(hash);
        Ok(())
    }

    /// Sorts, writes the shards, and publishes `dataset_info.json` last.
    pub fn finish(mut self) -> Result<Vec<FileEntry>> {
        let count = self.buckets.len();
        for bucket in self.buckets.drain(..) {
            bucket.into_inner().map_err(|error| error.into_error())?;
        }
        let shards = shard_count(self.num_bytes, self.examples);
        // Shards that stay empty have no file, and the names count the others: lengths are needed before names.
        let mut lengths: Vec<u64> = Vec::new();
        let mut files = Vec::new();
        let mut open: Option<(u64, Draft)> = None;
        let mut last: Option<u128> = None;
        for bucket in 0..count {
            for (hash, data) in self.sorted(bucket)? {
                if last == Some(hash) {
                    let folder = self.folder.display();
                    return Err(Error::Invalid(format!("pack {folder}: two examples have the same key")));
                }
                last = Some(hash);
                let shard = shard_of(hash, self.largest, shards);
                if open.as_ref().is_none_or(|&(number, _)| number != shard) {
                    let draft = Draft::create(&self.spill.join(format!("shard-{}", lengths.len())))?;
                    if let Some((_, done)) = open.replace((shard, draft)) {
                        files.push(done.publish()?);
                    }
                    lengths.push(0);
                }
                *lengths.last_mut().expect("pushed above") += 1;
                let (_, draft) = open.as_mut().expect("opened above");
                write_record(draft, &data)?;
            }
        }
        if let Some((_, done)) = open {
            files.push(done.publish()?);
        }
        self.publish_all(&lengths, files)
    }

    /// One bucket in order of hash.
    fn sorted(&self, bucket: usize) -> Result<Vec<(u128, Vec<u8>)>> {
        let path = bucket_path(&self.spill, bucket);
        let mut file = std::io::BufReader::with_capacity(1 << 17, fs::File::open(&path)?);
        let mut examples = Vec::new();
        let mut head = [0; 24];
        while file.by_ref().take(1).read(&mut head)? == 1 {
            file.read_exact(&mut head[1..])?;
            let (hash, length) = head.split_at(16);
            let length = u64::from_le_bytes(length.try_into().expect("8 bytes"));
            let mut data = Vec::with_capacity(length as usize); // written by this process
            file.by_ref().take(length).read_to_end(&mut data)?;
            examples.push((u128::from_be_bytes(hash.try_into().expect("16 bytes")), data));
        }
        examples.sort_unstable_by_key(|&(hash, _)| hash);
        fs::remove_file(&path)?;
        Ok(examples)
    }

    fn publish_all(self, lengths: &[u64], mut files: Vec<FileEntry>) -> Result<Vec<FileEntry>> {
        let (data, config) = (&self.folder, self.config);
        for (shard, file) in files.iter_mut().enumerate() {
            let name = shard_name(shard, lengths.len());
            fs::rename(self.spill.join(&file.name), data.join(&name))?;
            file.name = name;
        }
        fs::remove_dir_all(&self.spill)?;
        remove_temporary(data)?;
        let labels: String = Nsfw::ALL.iter().map(|tag| format!("{}\n", tag.name())).collect();
        files.push(publish(&data.join("features.json"), ascii_json(&features_json(config), 4).as_bytes())?);
        files.push(publish(&data.join("nsfw.labels.txt"), labels.as_bytes())?);
        let root = data.parent().and_then(Path::parent).expect("a configuration lies two folders below its dataset");
        publish(&root.join(".config/metadata.json"), br#"{"default_config_name": "images"}"#)?;
        let info = ascii_json(&dataset_info(config, self.num_bytes, lengths), 2);
        files.push(publish(&data.join("dataset_info.json"), info.as_bytes())?);
        Ok(files)
    }
}

fn bucket_path(spill: &Path, bucket: usize) -> PathBuf {
    spill.join(format!("bucket-{bucket}"))
}

/// Reads the examples of a configuration, shard after shard.
#[derive(Debug)]
pub struct TfdsReader {
    shards: std::vec::IntoIter<(PathBuf, u64)>,
    open: Option<(RecordReader, PathBuf, u64)>,
    /// Examples of each shard, as `dataset_info.json` says.
    pub shard_lengths: Vec<u64>,
}

impl TfdsReader {
    /// Opens a version folder.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("dataset_info.json");
        let info: serde_json::Value =
            serde_json::from_slice(&fs::read(&path)?).map_err(|error| Error::format(&path, error))?;
        let lengths =
            info["splits"][0]["shardLengths"].as_array().ok_or_else(|| Error::format(&path, "no shardLengths"))?;
        let number = |value: &serde_json::Value| value.as_str()?.parse().ok();
        let shard_lengths: Vec<u64> =
            lengths.iter().map(number).collect::<Option<_>>().ok_or_else(|| Error::format(&path, "shardLengths"))?;
        let path = |shard| folder.join(shard_name(shard, shard_lengths.len()));
        let shards: Vec<_> = shard_lengths.iter().enumerate().map(|(shard, &length)| (path(shard), length)).collect();
        Ok(Self { shards: shards.into_iter(), open: None, shard_lengths })
    }

    fn read(&mut self) -> Result<Option<Example>> {
        loop {
            if self.open.is_none() {
                let Some((path, length)) = self.shards.next() else { return Ok(None) };
                self.open = Some((RecordReader::open(&path)?, path, length));
            }
            let (reader, path, left) = self.open.as_mut().expect("opened above");
            match reader.next().transpose()? {
                Some(record) => {
                    *left = left.checked_sub(1).ok_or_else(|| Error::format(path, "more records than shardLengths"))?;
                    let features =
                        proto::decode(&record).ok_or_else(|| Error::format(path, "not a tf.train.Example"))?;
                    return Example::from_features(features).map(Some).map_err(|cause| Error::format(path, cause));
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

//! Small pictures of the pairs that are shown.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use dataset::files;
use dataset::picture::{Decoder, Limits, encode_jpeg};
use dataset::samples::{Found, SampleShard};
use dataset::webdataset::tar_path;
use dataset::{Result, Run, ShardId};

use super::calibration::Calibration;
use super::samples::Sample;
use crate::download::{Form, ResizeMode};

/// Longest side, in pixels.
const SIDE: u32 = 128;
/// Of the JPEG: what is looked at is small.
const QUALITY: u8 = 80;
/// Most pixels that a small picture has.
const PIXELS_MAX: u64 = SIDE as u64 * SIDE as u64;

/// Where pictures are.
#[derive(Clone, Debug)]
pub enum Pictures {
    /// In a folder that [`dataset::samples`] reads.
    Folder(PathBuf),
    /// In a run: the tars of all pictures where it keeps them, otherwise the packages of the kept ones.
    Run(Run),
}

/// A small JPEG. It is made of pixels alone, so that nothing else of the file is in it.
#[derive(Clone, Debug)]
pub(super) struct Thumbnail {
    pub(super) jpeg: Vec<u8>,
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Calibration {
    /// Looks for the pictures of the samples. One that is not there, or cannot be decoded, stays away; a damaged shard is an
    /// error.
    pub fn add_pictures(&mut self, pictures: &Pictures) -> Result<()> {
        let samples = self.bands.iter_mut().flat_map(|band| &mut band.samples);
        let mut wanted: HashMap<String, Vec<&mut Sample>> = HashMap::new();
        for sample in samples {
            wanted.entry(sample.name.clone()).or_default().push(sample);
        }
        let ids: HashSet<ShardId> = wanted.values().flatten().map(|sample| sample.shard).collect();
        let mut decoder = Decoder::new(Limits::default());
        for shard in shards(pictures, &ids)? {
            if wanted.is_empty() {
                break;
            }
            shard.read(|found| {
                let Found::Sample(found) = found else { return Ok(()) };
                for name in [&found.row.key, &found.row.image_path] {
                    let Some(samples) = wanted.get_mut(name) else { continue };
                    // Keys are numbers: those of another folder's pictures are the same.
                    samples.retain_mut(|sample| {
                        let is_it = sample.caption.trim() == found.row.caption.trim();
                        if is_it {
                            sample.picture = thumbnail(&mut decoder, &found.picture);
                        }
                        !is_it
                    });
                    if samples.is_empty() {
                        wanted.remove(name);
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// The shards to look into, those first that have the numbers of the samples' own.
fn shards(pictures: &Pictures, ids: &HashSet<ShardId>) -> Result<Vec<SampleShard>> {
    match pictures {
        Pictures::Folder(folder) => {
            let mut shards = SampleShard::list(folder)?;
            shards.sort_by_key(|shard| !ids.contains(&shard.id));
            Ok(shards)
        }
        Pictures::Run(run) => {
            let mut ids: Vec<_> = ids.iter().copied().collect();
            ids.sort_unstable();
            let folders = [run.images(), run.packages().webdataset()];
            let mut shards = Vec::new();
            for id in ids {
                for folder in &folders {
                    if files::exists(tar_path(folder, id))? {
                        shards.push(SampleShard::at(folder, id));
                        break;
                    }
                }
            }
            Ok(shards)
        }
    }
}

fn thumbnail(decoder: &mut Decoder, bytes: &[u8]) -> Option<Thumbnail> {
    let form = Form { mode: ResizeMode::KeepRatioLargest, size: SIDE, only_if_bigger: true, pixels_max: PIXELS_MAX };
    let pixels = form.store(decoder.picture(bytes, form.needed()).ok()?, &[])?.pixels;
    let jpeg = encode_jpeg(&pixels, QUALITY).ok()?;
    Some(Thumbnail { jpeg, width: pixels.width(), height: pixels.height() })
}

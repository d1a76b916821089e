//! What can be said of the packages of a run only when all of its shards are packed: `croissant.json`, and the sizes of
//! the tars.

use std::collections::BTreeMap;

use dataset::croissant::{self, Kind, Origin, describe};
use dataset::files;
use dataset::schema::KeptRow;
use dataset::table::TableReader;
use dataset::{Counts, FileEntry, Marker, Packages, Result, list_shards};

use super::format::Format;
use super::tables::publish_sizes;

/// Describes each of the packages that are made shard by shard; one that is described already is left alone. The counts
/// are of all shards.
pub(super) fn describe_packages(packages: &Packages, formats: &[Format]) -> Result<Counts> {
    if !files::is_dir(packages.folder())? {
        return Ok(Counts::default()); // none is packed yet
    }
    let mut counts = Counts::default();
    let mut files = Vec::new();
    for id in list_shards(packages.folder(), "json")? {
        if let Some(marker) = Marker::read(&Marker::of_shard(packages.folder(), id))? {
            counts.merge(&marker.counts);
            files.extend(marker.files);
        }
    }
    Format::BY_SHARD
        .iter()
        .filter(|format| formats.contains(format))
        .try_for_each(|format| describe_package(packages, *format, &files, &counts))?;
    Ok(counts)
}

fn describe_package(packages: &Packages, format: Format, files: &[FileEntry], counts: &Counts) -> Result<()> {
    let name = format.folder();
    let marker = packages.folder().join(format!("{name}.json"));
    let below = |file: &FileEntry| {
        let below = file.name.strip_prefix(name)?.strip_prefix('/')?.to_owned();
        Some(FileEntry { name: below, ..file.clone() })
    };
    let mut files: Vec<_> = files.iter().filter_map(below).collect();
    let described = serde_json::json!({"format": format.name()});
    let inputs: Vec<_> = files.iter().map(|file| format!("{}: CRC-32C {}", file.name, file.crc32c)).collect();
    if Marker::done(&marker, &described, &inputs)?.is_some() {
        return Ok(());
    }
    let folder = packages.folder().join(name);
    let mut published = Vec::new();
    let kind = match format {
        Format::Webdataset => {
            let mut sizes = BTreeMap::new();
            for table in files.iter().filter_map(|file| file.name.strip_suffix(".parquet")) {
                let rows = TableReader::<KeptRow>::open(&folder.join(format!("{table}.parquet")))?.row_count();
                sizes.insert(format!("{table}.tar"), rows);
            }
            let sizes = publish_sizes(&folder, &sizes)?;
            files.push(sizes.clone());
            published.push(sizes);
            Kind::Webdataset
        }
        Format::Npy => Kind::Embeddings,
        _ => Kind::Release,
    };
    published.push(croissant::write(&folder, &describe(kind, Origin::Crawl, counts.kept), &files)?);
    let published = published.into_iter().map(|file| file.below(name)).collect();
    Marker::finish(&marker, &described, inputs, counts.clone(), published)?;
    Ok(())
}

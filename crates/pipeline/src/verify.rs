//! Checks every file of a run against what its markers say, and the stages against one another.

use std::path::{Path, PathBuf};

use dataset::croissant::{self, CROISSANT};
use dataset::files;
use dataset::npy::MatrixReader;
use dataset::tfds::{Config, DATASET, TfdsReader, VERSION};
use dataset::{Counts, EmbeddingFiles, Marker, Packages, Result, Run, file_crc32c, file_sha256, list_shards};
use serde::Serialize;

use crate::build::Recipe;
use crate::collect;
use crate::pack::Format;

/// What was looked at, and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Files whose content was read.
    pub files: u64,
    /// One line each, naming the file.
    pub problems: Vec<String>,
}

impl Checked {
    fn problem(&mut self, path: &Path, cause: impl std::fmt::Display) {
        self.problems.push(format!("{}: {cause}", path.display()));
    }

    /// Checks the files of a marker, and gives its counts. Files that end with `may_lack` may be gone.
    fn marker(&mut self, path: &Path, may_lack: Option<&str>) -> Option<Counts> {
        let marker = match Marker::read(path) {
            Ok(Some(marker)) => marker,
            Ok(None) => {
                self.problem(path, "missing: this part is not done");
                return None;
            }
            Err(error) => {
                self.problems.push(error.to_string());
                return None;
            }
        };
        if let Err(error) = marker.counts.check() {
            self.problem(path, error);
        }
        for file in &marker.files {
            let there = path.parent().unwrap_or(Path::new(".")).join(&file.name);
            let may_lack = may_lack.is_some_and(|ending| file.name.ends_with(ending));
            if may_lack && matches!(files::exists(&there), Ok(false)) {
                continue;
            }
            self.files += 1;
            match file_crc32c(&there) {
                Ok(hash) if hash == file.crc32c => {}
                Ok(_) => self.problem(&there, "its content is not what was written"),
                Err(error) => self.problems.push(error.to_string()),
            }
        }
        Some(marker.counts)
    }
}

/// Checks a run: every file's hash, every stage's sum, the rows that one stage gave and the next one took, the length
/// of every packed embedding, and every record of the TFDS packages.
pub fn run(run: &Run) -> Result<Checked> {
    let mut checked = Checked::default();
    // Stages that were run one by one leave no recipe, and no tar is removed.
    let keeps_images = !files::exists(run.recipe())? || Recipe::read(&run.recipe())?.keep_images;
    let may_lack = (!keeps_images).then_some(".tar");
    let pairs = run.pairs().join(collect::MARKER);
    let collected = checked.marker(&pairs, None);
    let mut totals = <[Counts; 4]>::default();
    let packages = run.packages();
    let mut folders = vec![run.images(), run.embeddings(), run.curated(), packages.folder().to_owned()];
    let described = described(&packages)?;
    if !described.is_empty() && list_shards(packages.folder(), "json")?.is_empty() {
        folders.pop(); // packed in other forms only
    }
    for id in list_shards(&run.pairs(), "parquet")? {
        let mut given = None;
        for (stage, folder) in folders.iter().enumerate() {
            let path = Marker::of_shard(folder, id);
            let Some(counts) = checked.marker(&path, may_lack.filter(|_| stage == 0)) else { break };
            if given.is_some_and(|given| given != counts.rows) {
                let given = given.unwrap_or_default();
                checked.problem(&path, format!("{} rows, but the stage before gave {given}", counts.rows));
            }
            given = Some(counts.kept);
            totals[stage].merge(&counts);
        }
        embeddings(&EmbeddingFiles::of(&run.packages().embeddings(), id), &mut checked);
    }
    if let Some(collected) = collected
        && collected.kept != totals[0].rows
    {
        checked.problem(&pairs, format!("{} pairs, but {} were downloaded", collected.kept, totals[0].rows));
    }
    for config in Config::ALL {
        let path = run.packages().tfds().join(format!("{DATASET}-{}.json", config.name()));
        // Embeddings are not packed where they have another length than the catalogue's; and whoever has asked for
        // other packages may have none of TFDS.
        if !files::exists(&path)?
            && (config == Config::Embeddings || (!described.is_empty() && !files::exists(packages.tfds())?))
        {
            continue;
        }
        if let Some(counts) = checked.marker(&path, None) {
            let folder = run.packages().tfds().join(DATASET).join(config.name()).join(VERSION);
            let found = tfds(&folder);
            checked.files += found.files;
            checked.problems.extend(found.problems);
            if counts.kept != totals[2].kept {
                checked.problem(&path, format!("{} examples, but {} rows were kept", counts.kept, totals[2].kept));
            }
        }
    }
    for path in described {
        if let Some(counts) = checked.marker(&path, None)
            && counts.kept != totals[2].kept
        {
            checked.problem(&path, format!("{} rows, but {} were kept", counts.kept, totals[2].kept));
        }
    }
    let index = run.index().join("index.json");
    if files::exists(&index)? {
        checked.marker(&index, None);
    }
    Ok(checked)
}

/// The markers of packages that are made, or described, as a whole.
fn described(packages: &Packages) -> Result<Vec<PathBuf>> {
    existing(Format::ALL.iter().map(|format| packages.folder().join(format!("{}.json", format.folder()))))
}

fn existing(paths: impl IntoIterator<Item = PathBuf>) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if files::exists(&path)? {
            found.push(path);
        }
    }
    Ok(found)
}

/// Checks a folder that is no run, if it is one that holds packages or is one itself: every file against the SHA-256 in
/// `croissant.json`, against markers where they stand, and every record of TFDS. `None` if it is nothing of the kind.
pub fn packages(folder: &Path) -> Result<Option<Checked>> {
    let mut checked = Checked::default();
    if files::exists(folder.join("dataset_info.json"))? {
        checked = tfds(folder);
    } else if !files::exists(folder.join(CROISSANT))? {
        let mut markers = described(&Packages::new(folder))?;
        markers.extend(existing(Config::ALL.map(|config| folder.join(format!("{DATASET}-{}.json", config.name()))))?);
        markers.iter().for_each(|path| drop(checked.marker(path, None)));
        return Ok((!markers.is_empty()).then_some(checked));
    }
    if files::exists(folder.join(CROISSANT))? {
        for (name, expected) in croissant::read(folder)? {
            checked.files += 1;
            let path = folder.join(name);
            match file_sha256(&path) {
                Ok(hash) if hash == expected => {}
                Ok(_) => checked.problem(&path, "its content is not what croissant.json says"),
                Err(error) => checked.problems.push(error.to_string()),
            }
        }
    }
    Ok(Some(checked))
}

/// Checks a TFDS version folder: every record's checksums, every example's features, every shard's length.
pub fn tfds(folder: &Path) -> Checked {
    let mut checked = Checked::default();
    let reader = match TfdsReader::open(folder) {
        Ok(reader) => reader,
        Err(error) => return Checked { files: 0, problems: vec![error.to_string()] },
    };
    checked.files += reader.shard_lengths.len() as u64;
    for example in reader {
        match example {
            Ok(example) if example.image.is_some() == example.embeddings.is_some() => {
                checked.problem(folder, format!("{}: neither image nor embeddings", example.url));
            }
            Ok(_) => {}
            Err(error) => {
                checked.problems.push(error.to_string());
                break; // what follows a damaged record cannot be told
            }
        }
    }
    checked
}

fn embeddings(files: &EmbeddingFiles, checked: &mut Checked) {
    for path in [&files.image, &files.text] {
        if matches!(files::exists(path), Ok(false)) {
            continue; // its marker has said so
        }
        let all = MatrixReader::open(path).and_then(|mut matrix| {
            while matrix.next_embedding()?.is_some() {}
            Ok(())
        });
        if let Err(error) = all {
            checked.problems.push(error.to_string());
        }
    }
}

//! The settings of a whole run.

use std::path::{Path, PathBuf};

use dataset::files;
use dataset::picture::StoredFormat;
use dataset::shard::Layout;
use dataset::{Error, Result, Run, publish};
use serde::{Deserialize, Serialize};

use crate::{collect, download, embed, filter};

/// What `build` reads: where the crawl is, and the settings of every stage. What is left out is LAION-400M's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// WAT or WARC archives, as [`collect::archives`] takes them; relative paths start at the folder of the recipe.
    pub archives: Vec<PathBuf>,
    /// Whether the tars of downloaded images stay after the kept ones are packed: without them a run needs room for
    /// what it keeps only.
    #[serde(default)]
    pub keep_images: bool,
    /// WAT archives to pairs.
    #[serde(default)]
    pub collect: collect::Config,
    /// Pairs to images.
    #[serde(default)]
    pub download: download::Config,
    /// Images to embeddings.
    #[serde(default)]
    pub embed: embed::Config,
    /// Embeddings to verdicts.
    #[serde(default)]
    pub filter: filter::Config,
}

impl Recipe {
    /// The published recipe, over these archives.
    pub fn laion400m(archives: Vec<PathBuf>) -> Self {
        Self {
            archives,
            keep_images: false,
            collect: collect::Config::laion400m(),
            download: download::Config::laion400m(),
            embed: embed::Config::default(),
            filter: filter::Config::laion400m(),
        }
    }

    /// Reads a recipe.
    pub fn read(path: &Path) -> Result<Self> {
        let text = files::read_to_string(path)?;
        toml::from_str::<Self>(&text).map_err(|error| Error::format(path, error))?.checked(path)
    }

    /// The recipe, unless a run cannot follow it; `path` is what an error calls it.
    pub fn checked(self, path: &Path) -> Result<Self> {
        let download = &self.download;
        let packed = (download.output_format, download.encode_format) == (Layout::Webdataset, StoredFormat::Jpg);
        if !packed || download.disable_all_reencoding {
            let cause = "the stages after [download] take webdataset shards of jpg: leave out output_format, \
                         encode_format and disable_all_reencoding";
            return Err(Error::format(path, cause));
        }
        if self.embed.images_only {
            return Err(Error::format(path, "the stages after [embed] take texts, too: leave out images_only"));
        }
        Ok(self)
    }

    /// The recipe with every setting written out.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are plain data")
    }

    /// The archives, patterns expanded and listings read, in order.
    pub fn archives(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let inputs: Vec<_> = self.archives.iter().map(|archive| files::relative_to(folder, archive)).collect();
        collect::archives(&inputs, &collect::Choice::default())
    }

    /// Puts the recipe into a run folder, or checks that the one there is the same.
    pub fn claim(&self, run: &Run) -> Result<()> {
        let path = run.recipe();
        if !files::exists(&path)? {
            publish(&path, self.to_toml().as_bytes())?;
            return Ok(());
        }
        if Self::read(&path)? == *self {
            return Ok(());
        }
        let (there, run) = (path.display(), run.folder().display());
        Err(Error::Invalid(format!("{run} was built with another recipe, see {there}; choose another run folder")))
    }
}

/// A file name with one `*`, which stands for any letters.
struct Pattern<'a>(&'a str, &'a str);

impl<'a> Pattern<'a> {
    fn new(name: &'a str) -> Option<Self> {
        name.split_once('*').map(|(start, end)| Self(start, end))
    }

    fn matches(&self, name: &str) -> bool {
        let Self(start, end) = self;
        name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
    }
}

/// The files a path means: itself, or all that fit the `*` of its last component, in order. A web server has no listing, so
/// there the star stands for itself.
pub fn expand(path: &Path) -> Result<Vec<PathBuf>> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let pattern = Pattern::new(name).filter(|_| !path.starts_with("http:") && !path.starts_with("https:"));
    let Some(pattern) = pattern else { return Ok(vec![path.into()]) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found: Vec<_> = files::list(folder)?.into_iter().map(|entry| entry.path).collect();
    found.retain(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| pattern.matches(name)));
    found.sort();
    let what = if files::is_remote(path) { "object" } else { "file" };
    if found.is_empty() { Err(Error::Invalid(format!("{}: no such {what}", path.display()))) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;

    #[test]
    fn what_a_recipe_leaves_out_is_laions() {
        let recipe: Recipe =
            toml::from_str("archives = [\"a.warc.wat.gz\"]\n[filter]\nsimilarity_min = 0.28").expect("a recipe");
        let expected = Recipe {
            filter: filter::Config { similarity_min: 0.28, ..filter::Config::laion400m() },
            ..Recipe::laion400m(vec!["a.warc.wat.gz".into()])
        };
        assert_eq!(recipe, expected);
        assert_eq!(toml::from_str::<Recipe>(&recipe.to_toml()).expect("written above"), recipe);
    }

    #[test]
    fn heads_are_tables_of_the_filter() {
        let recipe: Recipe = toml::from_str(
            "archives = []\n[filter.heads]\n\
             aesthetic = { file = \"linear.pth\", min = 5 }\npunsafe = { file = \"l14.pth\", max = 0.5 }",
        )
        .expect("a recipe");
        let names: Vec<_> = recipe.filter.heads.keys().map(String::as_str).collect();
        assert_eq!((names, recipe.filter.heads["aesthetic"].min), (vec!["aesthetic", "punsafe"], Some(5.0)));
        assert_eq!(toml::from_str::<Recipe>(&recipe.to_toml()).expect("written above"), recipe);
    }

    #[test]
    fn a_misspelt_setting_is_an_error_that_names_it() {
        let error = toml::from_str::<Recipe>("archives = []\n[filter]\nsimilarty_min = 0.28").expect_err("misspelt");
        assert!(error.to_string().contains("similarty_min"), "{error}");
    }

    #[test]
    fn a_run_folder_refuses_another_recipe() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let run = Run::new(folder.path());
        let recipe = Recipe::laion400m(vec!["a.warc.wat.gz".into()]);
        recipe.claim(&run).expect("free");
        recipe.claim(&run).expect("the same");
        let other = Recipe { filter: filter::Config { similarity_min: 0.28, ..filter::Config::laion400m() }, ..recipe };
        assert!(other.claim(&run).is_err());
    }

    #[test]
    fn a_pattern_gives_its_files_in_order() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["b.wat.gz", "a.wat.gz", "a.txt"] {
            fs::write(folder.path().join(name), "").expect("room");
        }
        let names: Vec<_> = expand(&folder.path().join("*.wat.gz"))
            .expect("two")
            .into_iter()
            .map(|p| p.file_name().map(|n| n.to_owned()))
            .collect();
        assert_eq!(names, [Some("a.wat.gz".into()), Some("b.wat.gz".into())]);
        assert!(expand(&folder.path().join("*.none")).is_err());
    }
}

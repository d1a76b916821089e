//! Models by name: what they are called, and where the Hugging Face Hub's programs keep them.

use std::path::{Path, PathBuf};

/// A model that people know by a name of its own.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// The name, as OpenAI and OpenCLIP write it.
    pub name: &'static str,
    /// Where its weights are on the Hugging Face Hub.
    pub repository: &'static str,
    /// What a download takes, in megabytes.
    pub megabytes: u32,
}

/// The models with names; LAION-400M was filtered with the first.
pub const PRESETS: [Preset; 6] = [
    Preset { name: "ViT-B-32", repository: "openai/clip-vit-base-patch32", megabytes: 605 },
    Preset { name: "ViT-B-16", repository: "openai/clip-vit-base-patch16", megabytes: 599 },
    Preset { name: "ViT-L-14", repository: "openai/clip-vit-large-patch14", megabytes: 1711 },
    Preset { name: "ViT-L-14-336", repository: "openai/clip-vit-large-patch14-336", megabytes: 1712 },
    Preset { name: "ViT-B-32-laion2b", repository: "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", megabytes: 605 },
    Preset { name: "ViT-H-14-laion2b", repository: "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", megabytes: 3944 },
];

impl Preset {
    /// The preset of that name, however its letters and signs are written: `ViT-B/32` and `vit-b-32` are one.
    pub fn named(name: &str) -> Option<&'static Self> {
        let plain = |name: &str| name.to_ascii_lowercase().replace(['/', '_', '@'], "-").replace("px", "");
        PRESETS.iter().find(|preset| plain(preset.name) == plain(name))
    }
}

/// The folder of a repository's files in the cache of `huggingface_hub` (its "Understand caching" page), in the version
/// that was fetched last as its main one.
pub fn cached(cache: &Path, repository: &str) -> Option<PathBuf> {
    let mut parts = repository.split('/');
    let (owner, name, None) = (parts.next()?, parts.next()?, parts.next()) else { return None };
    if [owner, name].iter().any(|part| part.is_empty() || part.starts_with('.')) {
        return None;
    }
    let folder = cache.join(format!("models--{owner}--{name}"));
    let commit = fs_err::read_to_string(folder.join("refs/main")).ok()?;
    let commit = commit.trim();
    if !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(folder.join("snapshots").join(commit)).filter(|folder| folder.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_is_found_however_it_is_written() {
        for name in ["ViT-B-32", "ViT-B/32", "vit_b_32"] {
            assert_eq!(Preset::named(name).map(|preset| preset.repository), Some("openai/clip-vit-base-patch32"));
        }
        assert_eq!(Preset::named("ViT-L/14@336px").map(|preset| preset.name), Some("ViT-L-14-336"));
        assert!(Preset::named("RN50").is_none());
    }

    #[test]
    fn a_repository_is_found_in_the_cache_and_nothing_outside_of_it() {
        let cache = tempfile::tempdir().expect("a folder");
        let folder = cache.path().join("models--openai--clip");
        fs_err::create_dir_all(folder.join("snapshots/c0ffee")).expect("a folder");
        fs_err::create_dir_all(folder.join("refs")).expect("a folder");
        assert_eq!(cached(cache.path(), "openai/clip"), None, "nothing was fetched");
        fs_err::write(folder.join("refs/main"), "c0ffee\n").expect("a file");
        assert_eq!(cached(cache.path(), "openai/clip"), Some(folder.join("snapshots/c0ffee")));
        fs_err::write(folder.join("refs/main"), "../..").expect("a file");
        assert_eq!(cached(cache.path(), "openai/clip"), None);
        assert_eq!(cached(cache.path(), "../clip"), None);
    }
}

//! The embedded prompts beside the embeddings: with them, other thresholds and rules need no model.

use std::io::ErrorKind;
use std::path::Path;

use dataset::texts::EmbeddedTexts;
use dataset::{Embedder, EmbeddingFiles, Error, Marker, Result, ShardId};

use super::prompts;

/// The prompts beside `embeddings`; `None` where there are none, where they lack one of ours, or where they are of another
/// model than the embeddings.
pub fn stored_prompts(embeddings: &Path) -> Result<Option<EmbeddedTexts>> {
    let Some(texts) = EmbeddedTexts::read(&EmbeddingFiles::prompts(embeddings))? else { return Ok(None) };
    let complete = prompts::texts().all(|text| texts.get(text).is_some());
    let shards = EmbeddingFiles::list(embeddings).unwrap_or_default(); // a run that was stopped has none yet
    let weights = shards.first().map(|files| weights(embeddings, files.id)).transpose()?.flatten();
    let same = weights.is_none_or(|weights| weights == texts.weights());
    Ok((complete && same).then_some(texts))
}

/// Embeds the prompts; `embedder` must be the one that made the embeddings.
pub fn embed_prompts(embedder: &dyn Embedder) -> Result<EmbeddedTexts> {
    EmbeddedTexts::embed(embedder, prompts::texts())
}

/// Leaves the prompts beside `embeddings` for the next time, unless that folder can only be read.
pub fn store_prompts(prompts: &EmbeddedTexts, embeddings: &Path) -> Result<()> {
    match prompts.publish(&EmbeddingFiles::prompts(embeddings)) {
        Err(Error::Io(error))
            if !matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) =>
        {
            Err(error.into())
        }
        Ok(_) | Err(Error::Io(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The fingerprint of the model that made a shard, where its marker tells.
fn weights(embeddings: &Path, id: ShardId) -> Result<Option<String>> {
    let marker = Marker::read(&Marker::of_shard(embeddings, id))?;
    Ok(marker.and_then(|marker| marker.config["weights"].as_str().map(str::to_owned)))
}

/// An error if the shard was made by another model than the prompts: nothing could be said of their cosines.
pub(super) fn check_weights(embeddings: &Path, id: ShardId, prompts: &str) -> Result<()> {
    match weights(embeddings, id)? {
        Some(weights) if weights != prompts => Err(Error::Invalid(format!(
            "{}: embedded with the weights {weights}, but the prompts with {prompts}; name the model of the embeddings",
            Marker::of_shard(embeddings, id).display()
        ))),
        _ => Ok(()),
    }
}

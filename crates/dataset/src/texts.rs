//! Texts and their embeddings, kept so that nobody needs the model again: a safetensors file with one float32 vector a
//! text, which is its name. The file's metadata has the fingerprint of the model under `weights`.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::files;
use crate::publish::{FileEntry, publish};
use crate::{Embedder, Embedding, Error, Result};

/// Longest file that is read: thousands of texts of the widest CLIP.
const BYTES_MAX: u64 = 64 << 20;

/// Texts that one model has embedded.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddedTexts {
    weights: String,
    texts: BTreeMap<String, Embedding>,
}

impl EmbeddedTexts {
    /// Asks `embedder`; the same text is embedded once.
    pub fn embed<'a>(embedder: &dyn Embedder, texts: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let texts: Vec<_> = texts.into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
        let embeddings = embedder.texts(&texts)?;
        let texts = texts.into_iter().map(str::to_owned).zip(embeddings).collect();
        Ok(Self { weights: embedder.fingerprint(), texts })
    }

    /// The fingerprint of the model.
    pub fn weights(&self) -> &str {
        &self.weights
    }

    /// The embedding of a text, if it is one of these.
    pub fn get(&self, text: &str) -> Option<&Embedding> {
        self.texts.get(text)
    }

    /// Reads what [`EmbeddedTexts::publish`] wrote, bit for bit; `None` where there is no file.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let bytes = match files::length(path) {
            Ok(bytes) if bytes > BYTES_MAX => {
                return Err(Error::format(path, format!("{bytes} bytes, at most {BYTES_MAX} are read")));
            }
            Ok(_) => files::read(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Self::parse(&bytes).map(Some).map_err(|cause| Error::format(path, cause))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
        let weights = header.metadata().as_ref().and_then(|metadata| metadata.get("weights"));
        let weights = weights.ok_or("its metadata names no weights")?.clone();
        let mut texts = BTreeMap::new();
        for (text, tensor) in SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?.tensors() {
            if tensor.dtype() != Dtype::F32 || tensor.shape().len() != 1 {
                return Err(format!("{text:?} is no vector of float32"));
            }
            let values = tensor.data().as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect();
            let embedding = Embedding::stored(values).map_err(|error| format!("{text:?}: {error}"))?;
            texts.insert(text, embedding);
        }
        Ok(Self { weights, texts })
    }

    /// Publishes the file; equal texts of equal weights give equal bytes.
    pub fn publish(&self, path: &Path) -> Result<FileEntry> {
        let wrong = |error: safetensors::SafeTensorError| Error::Write { path: path.into(), cause: error.to_string() };
        let values = |embedding: &Embedding| -> Vec<u8> {
            embedding.values().iter().flat_map(|value| value.to_le_bytes()).collect()
        };
        let data: Vec<_> = self.texts.iter().map(|(text, embedding)| (text, values(embedding))).collect();
        let mut tensors = Vec::with_capacity(data.len());
        for (text, values) in &data {
            tensors.push((text, TensorView::new(Dtype::F32, vec![values.len() / 4], values).map_err(wrong)?));
        }
        let metadata = HashMap::from([("weights".to_owned(), self.weights.clone())]);
        publish(path, &safetensors::serialize(tensors, Some(metadata)).map_err(wrong)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;
    use proptest::prelude::*;

    #[test]
    fn texts_come_back_bit_for_bit() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("prompts.safetensors");
        assert_eq!(EmbeddedTexts::read(&path).expect("nothing there"), None);
        let embedding = |seed: u32| {
            let values = (0..64).map(|i| ((i * 7919 + seed) % 1013) as f32 - 506.0).collect();
            Embedding::normalized(values).expect("a direction")
        };
        let texts = [("a cat", 1), ("“ein Hund”, 犬", 2), ("", 3)];
        let texts = texts.map(|(text, seed)| (text.to_owned(), embedding(seed)));
        let stored = EmbeddedTexts { weights: "0123".into(), texts: texts.into() };
        let file = stored.publish(&path).expect("room");
        assert_eq!(EmbeddedTexts::read(&path).expect("sound").as_ref(), Some(&stored));
        assert_eq!(stored.publish(&path).expect("room"), file, "the same bytes");
        let whole = fs::read(&path).expect("written");
        fs::write(&path, &whole[..whole.len() - 1]).expect("room");
        let error = EmbeddedTexts::read(&path).expect_err("cut off").to_string();
        assert!(error.contains("prompts.safetensors"), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(length in 0..200u64, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [&length.to_le_bytes()[..], &bytes].concat();
            prop_assert!(EmbeddedTexts::parse(&bytes).is_err());
        }
    }
}

//! Which prompts a picture is most like.

use dataset::texts::EmbeddedTexts;
use dataset::{Embedding, Error, Result};

use super::prompts::{Class, Prompt};

/// A list of prompts, embedded.
pub(super) struct Prompts(Vec<(Embedding, Class)>);

impl Prompts {
    /// An error if one of the texts is not embedded.
    pub(super) fn new(prompts: &[Prompt], texts: &EmbeddedTexts) -> Result<Self> {
        let embedded = prompts.iter().map(|prompt| {
            let embedding = texts.get(prompt.text);
            let lacking = || Error::Invalid(format!("the prompt {:?} is not embedded", prompt.text));
            Ok((embedding.ok_or_else(lacking)?.clone(), prompt.class))
        });
        Ok(Self(embedded.collect::<Result<_>>()?))
    }

    /// Classes of the two nearest prompts, the nearest first; of equally near ones the earlier in the list is nearer. The
    /// original takes the two largest of softmax(100 * cosine), which are the same: softmax keeps the order.
    pub(super) fn nearest(&self, image: &Embedding) -> [Class; 2] {
        let (first, rest) = self.0.split_first().expect("every list has prompts");
        let mut nearest = [(image.similarity(&first.0), first.1), (f64::NEG_INFINITY, first.1)];
        for (prompt, class) in rest {
            let similarity = image.similarity(prompt);
            if similarity > nearest[0].0 {
                nearest = [(similarity, *class), nearest[0]];
            } else if similarity > nearest[1].0 {
                nearest[1] = (similarity, *class);
            }
        }
        nearest.map(|(_, class)| class)
    }
}

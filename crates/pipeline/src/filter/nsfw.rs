//! LAION-400M's NSFW tag: which two of 36 prompts a picture is most like.
//!
//! The prompts and the rule are those of the workers of 2021 (`clip_filter.py` of crawlingathome-gpu-hcloud, see
//! `docs/recipe.md`). Their list lacks a comma: two prompts were one, every later one moved up, and the longest
//! explicit prompt fell on the safe side of the border at 19.

use dataset::{Embedder, Embedding, Nsfw, Result};

/// A prompt and whether it means something explicit.
struct Label {
    text: &'static str,
    explicit: bool,
}

const fn safe(text: &'static str) -> Label {
    Label { text, explicit: false }
}

const fn explicit(text: &'static str) -> Label {
    Label { text, explicit: true }
}

const ANIMAL: &str = "animal, bird, mammal, insect";
const FASHION: &str = "fashion, clothes";
const LONGEST: &str = "porn, sex, sperm, nipples, breats, tits, boops, penis, dick, cock, clitoris, vagina, fuck, lust, horny, \
                       sexual, lick, licking";

/// The prompts as they were meant; misspellings are the original's.
const LABELS: [Label; 36] = [
    safe("neutral"),
    safe("selfie"),
    safe("illustration, drawing"),
    safe("toys, play, kids, children"),
    safe("teddy bear, puppet"),
    safe(ANIMAL),
    safe(FASHION),
    safe("logo, commercial, ad, advertisement"),
    safe("drawing, painting"),
    safe("anime, cartoon"),
    safe("comedy, fun"),
    safe("romance, love story"),
    safe("thriller, suspense, crime story"),
    safe("action, action movie"),
    safe("horror, monster movie"),
    safe("documentary"),
    safe("news, journalism"),
    safe("entertainment"),
    safe("talk show"),
    explicit(LONGEST),
    explicit("porn, sex, sperm, nipples"),
    explicit("porn, sex, sperm, penis, dick, cock"),
    explicit("nipples, breats, tits, boops, sexy"),
    explicit("penis, dick, cock"),
    explicit("clitoris, vagina"),
    explicit("sex, fuck, lust, horny, sexual, lick, licking"),
    explicit("porn, sex, sexy"),
    explicit("sexy, hot"),
    explicit("sperm, skin"),
    explicit("lust, horny, sexual"),
    explicit("lick, licking, body"),
    explicit("anime, hentai, sexy"),
    explicit("cartoon, sexy, sex"),
    explicit("hentai"),
    explicit("anime, sexy, breasts"),
    explicit("hentai"),
];

/// The prompts as the missing comma left them.
fn labels_2021() -> Vec<Label> {
    let joined = "animal, bird, mammal, insectfashion, clothes";
    LABELS
        .iter()
        .filter(|label| label.text != FASHION)
        .map(|label| match label.text {
            ANIMAL => safe(joined),
            LONGEST => safe(LONGEST),
            text => Label { text, explicit: label.explicit },
        })
        .collect()
}

/// Both tags of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tags {
    /// By the rule as it was meant.
    pub(super) nsfw: Nsfw,
    /// As the workers of 2021 computed it.
    pub(super) nsfw_2021: Nsfw,
}

/// Prompts, embedded once.
pub(super) struct Tagger {
    meant: Vec<(Embedding, bool)>,
    written: Vec<(Embedding, bool)>,
}

impl Tagger {
    pub(super) fn new(embedder: &dyn Embedder) -> Result<Self> {
        let embed = |labels: &[Label]| -> Result<Vec<(Embedding, bool)>> {
            let texts: Vec<_> = labels.iter().map(|label| label.text).collect();
            let embeddings = embedder.texts(&texts)?;
            Ok(embeddings.into_iter().zip(labels.iter().map(|label| label.explicit)).collect())
        };
        Ok(Self { meant: embed(&LABELS)?, written: embed(&labels_2021())? })
    }

    pub(super) fn tag(&self, image: &Embedding) -> Tags {
        Tags { nsfw: tag(&self.meant, image), nsfw_2021: tag(&self.written, image) }
    }
}

/// Both of the two nearest prompts safe: UNLIKELY; both explicit: NSFW; else UNSURE.
fn tag(prompts: &[(Embedding, bool)], image: &Embedding) -> Nsfw {
    let mut nearest: Vec<(f64, bool)> =
        prompts.iter().map(|(prompt, explicit)| (image.similarity(prompt), *explicit)).collect();
    nearest.sort_by(|a, b| b.0.total_cmp(&a.0));
    match nearest[..] {
        [(_, false), (_, false), ..] => Nsfw::Unlikely,
        [(_, true), (_, true), ..] => Nsfw::Nsfw,
        _ => Nsfw::Unsure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataset::Pixels;

    /// Gives every prompt a direction of its own, and the same prompt always the same one.
    struct Axes;

    const MEANINGS: usize = 40;

    fn axis(text: &str) -> usize {
        LABELS.iter().position(|label| label.text == text).unwrap_or(MEANINGS - 1)
    }

    impl Embedder for Axes {
        fn dimensions(&self) -> usize {
            MEANINGS
        }
        fn images(&self, _: &[Pixels]) -> Result<Vec<Embedding>> {
            unreachable!("only texts are asked for")
        }
        fn texts(&self, batch: &[&str]) -> Result<Vec<Embedding>> {
            batch.iter().map(|text| near(&[(axis(text), 1.0)])).collect()
        }
        fn fingerprint(&self) -> String {
            "axes".into()
        }
    }

    fn near(weights: &[(usize, f32)]) -> Result<Embedding> {
        let mut values = vec![0.0; MEANINGS];
        weights.iter().for_each(|&(axis, weight)| values[axis] = weight);
        Embedding::normalized(values)
    }

    fn tags(first: &str, second: &str) -> Tags {
        let image = near(&[(axis(first), 1.0), (axis(second), 0.8)]).expect("a direction");
        Tagger::new(&Axes).expect("embeddable").tag(&image)
    }

    #[test]
    fn the_two_nearest_prompts_decide() {
        assert_eq!(tags("neutral", "selfie"), Tags { nsfw: Nsfw::Unlikely, nsfw_2021: Nsfw::Unlikely });
        assert_eq!(tags("neutral", "sexy, hot"), Tags { nsfw: Nsfw::Unsure, nsfw_2021: Nsfw::Unsure });
        assert_eq!(tags("hentai", "sexy, hot"), Tags { nsfw: Nsfw::Nsfw, nsfw_2021: Nsfw::Nsfw });
    }

    #[test]
    fn the_longest_explicit_prompt_counted_as_safe_in_2021() {
        assert_eq!(tags(LONGEST, "neutral"), Tags { nsfw: Nsfw::Unsure, nsfw_2021: Nsfw::Unlikely });
        assert_eq!(tags(LONGEST, "sexy, hot"), Tags { nsfw: Nsfw::Nsfw, nsfw_2021: Nsfw::Unsure });
        assert_eq!((labels_2021().len(), LABELS.len()), (35, 36));
        assert_eq!(labels_2021().iter().filter(|label| !label.explicit).count(), 19, "the border of 2021 is at 19");
    }
}

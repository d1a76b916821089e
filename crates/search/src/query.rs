//! What is looked for: words and pictures, alone and put together.

use dataset::picture::{Decoder, Limits, Needed, Squares};
use dataset::{Embedding, Error, Pixels, Result};

/// Megapixels of a picture that somebody looks for.
pub(crate) const MEGAPIXELS_MAX: u32 = 64;
/// A JPEG that is much larger than models look at is decoded at a part of its size.
const SIDE: u32 = 1024;

/// The parts of `beach - people + sunset`, each with its weight: what stands behind ` - ` is to be missing, what stands behind
/// ` + ` is to be there, too.
pub fn terms(text: &str) -> Vec<(String, f32)> {
    let mut terms: Vec<(String, f32)> = vec![(String::new(), 1.0)];
    for word in text.split_whitespace() {
        match (word, terms.last_mut()) {
            ("-", Some((before, _))) if !before.is_empty() => terms.push((String::new(), -1.0)),
            ("+", Some((before, _))) if !before.is_empty() => terms.push((String::new(), 1.0)),
            (word, Some((before, _))) => {
                if !before.is_empty() {
                    before.push(' ');
                }
                before.push_str(word);
            }
            (_, None) => {}
        }
    }
    terms.retain(|(text, _)| !text.is_empty());
    terms
}

/// One embedding out of several: the direction of their weighted sum.
///
/// # Errors
/// Of parts that cancel each other: what is left of them is no direction, but the error of rounding.
pub fn together(mut parts: Vec<(Embedding, f32)>) -> Result<Embedding> {
    if parts.len() == 1 && parts[0].1 == 1.0 {
        return Ok(parts.remove(0).0);
    }
    let mut sum = vec![0.0; parts.first().map_or(0, |(embedding, _)| embedding.values().len())];
    for (embedding, weight) in &parts {
        sum.iter_mut().zip(embedding.values()).for_each(|(sum, value)| *sum += weight * value);
    }
    if sum.iter().map(|value| value * value).sum::<f32>() < 1e-6 {
        return Err(Error::Invalid("the parts of the query cancel each other".into()));
    }
    Embedding::normalized(sum)
}

/// A picture that somebody looks for, as `embed` decodes those of the dataset.
///
/// # Errors
/// Says why it is no picture, or which limit it is over.
pub fn picture(bytes: &[u8]) -> Result<Pixels> {
    let limits = Limits { pixels_max: u64::from(MEGAPIXELS_MAX) << 20 };
    let decoded = Decoder::new(limits).without_profiles().picture(bytes, Needed::Shorter(SIDE));
    let wrong = |cause: String| Error::Invalid(format!("the picture: {cause}"));
    let pixels = decoded.map_err(|(failure, cause)| wrong(format!("{}: {cause}", failure.name())))?.pixels;
    if Squares::takes(pixels.width(), pixels.height()) {
        Ok(pixels)
    } else {
        Err(Error::Invalid("the picture is too long for its width".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_combined_by_signs_between_blanks() {
        let parts =
            |text: &str| terms(text).into_iter().map(|(text, weight)| format!("{weight} {text}")).collect::<Vec<_>>();
        assert_eq!(parts("beach - people  + red sunset"), ["1 beach", "-1 people", "1 red sunset"]);
        assert_eq!(parts("a t-shirt, size 3+"), ["1 a t-shirt, size 3+"]);
        assert_eq!(parts("a - "), ["1 a"]);
        assert_eq!(parts("- a"), ["1 - a"]);
        assert_eq!(parts("a - - b"), ["1 a", "-1 - b"]);
        assert!(parts("  ").is_empty());
    }
}

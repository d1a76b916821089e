//! Unit vectors, and whoever makes them out of pictures and words.

use half::f16;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How far from 1 the length of a unit vector may be once it has been stored as float16.
pub const UNIT_TOLERANCE: f32 = 1e-2;

/// A picture in memory: sRGB, three bytes a pixel, row by row from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Pixels {
    /// `rgb` must hold `width * height * 3` bytes, and neither side may be 0; otherwise `None`.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Option<Self> {
        let bytes = (width as usize).checked_mul(height as usize)?.checked_mul(3)?;
        (bytes > 0 && rgb.len() == bytes).then_some(Self { width, height, rgb })
    }

    /// In pixels, at least 1.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// In pixels, at least 1.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// `width * height * 3` bytes.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Gives the bytes away.
    pub fn into_rgb(self) -> Vec<u8> {
        self.rgb
    }
}

/// A vector of length 1: the inner product of two is their cosine similarity.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding(Box<[f32]>);

impl Embedding {
    /// Scales `values` to length 1. A vector that is empty, zero or not finite has no direction.
    pub fn normalized(mut values: Vec<f32>) -> Result<Self> {
        let length = values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
        if !(length.is_finite() && length > 0.0) {
            return Err(Error::NoDirection { length });
        }
        for value in &mut values {
            *value = (f64::from(*value) / length) as f32;
        }
        Ok(Self(values.into()))
    }

    /// A stored row, which must have length 1 within [`UNIT_TOLERANCE`].
    pub fn from_f16(values: &[f16]) -> Result<Self> {
        Self::stored(values.iter().map(|value| value.to_f32()).collect())
    }

    /// Values of a file, left as they are, which must have length 1 within [`UNIT_TOLERANCE`].
    pub fn stored(values: Vec<f32>) -> Result<Self> {
        let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        if (length - 1.0).abs() <= UNIT_TOLERANCE {
            Ok(Self(values.into()))
        } else {
            Err(Error::NoDirection { length: f64::from(length) })
        }
    }

    /// The values, one per dimension.
    pub fn values(&self) -> &[f32] {
        &self.0
    }

    /// The values as LAION-400M stores them.
    pub fn to_f16(&self) -> Vec<f16> {
        self.0.iter().map(|&value| f16::from_f32(value)).collect()
    }

    /// Cosine similarity, -1.0 to 1.0.
    pub fn similarity(&self, other: &Self) -> f64 {
        self.0.iter().zip(&*other.0).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    }
}

/// With how many bits a model computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32, as in the reference.
    #[default]
    Float32,
    /// 8 in the products of matrices: half of the cost on a processor, and close to the same.
    Int8,
    /// 16, for devices that compute faster with them.
    Float16,
    /// 16 with the range of 32, of which fewer bits are left for the fraction.
    Bfloat16,
}

impl Precision {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Float32, Self::Int8, Self::Float16, Self::Bfloat16];

    /// As settings have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Int8 => "int8",
            Self::Float16 => "float16",
            Self::Bfloat16 => "bfloat16",
        }
    }

    /// The fingerprint of an embedder that computes with so many bits, where this is that of one with 32.
    pub fn fingerprint(self, exact: &str) -> String {
        if self == Self::Float32 { exact.into() } else { format!("{exact}-{}", self.name()) }
    }
}

/// Whether embedders of these fingerprints have the same weights. What one embeds is looked for with the other, whatever bits they
/// compute with: an embedding is nearly the same in all of them.
pub fn same_weights(a: &str, b: &str) -> bool {
    exact(a) == exact(b)
}

/// A fingerprint without what [`Precision::fingerprint`] adds.
fn exact(fingerprint: &str) -> &str {
    let split = fingerprint.rsplit_once('-');
    let known = split.filter(|(_, name)| Precision::ALL.iter().any(|precision| precision.name() == *name));
    known.map_or(fingerprint, |(exact, _)| exact)
}

/// Whoever turns pictures and words into embeddings that share one space.
pub trait Embedder: Send + Sync {
    /// Dimensions of every embedding; 512 for ViT-B/32.
    fn dimensions(&self) -> usize;

    /// One embedding per picture, in order.
    fn images(&self, batch: &[Pixels]) -> Result<Vec<Embedding>>;

    /// One embedding per text, in order. A text is cut at the model's context length.
    fn texts(&self, batch: &[&str]) -> Result<Vec<Embedding>>;

    /// Names the weights and the precision, so that a run can refuse embeddings of another model.
    fn fingerprint(&self) -> String;

    /// Pictures that are worth giving at once.
    fn batch(&self) -> usize {
        64
    }

    /// Shards that are worth embedding at a time: more than one where devices compute while processors decode.
    fn lanes(&self) -> usize {
        1
    }
}

/// Whoever gives embeddings of pictures a score: how beautiful they are, or how surely unsafe.
pub trait Scorer: Send + Sync {
    /// One score per embedding, in order; not a number where there is none. An error where the embeddings have other
    /// dimensions than it takes.
    fn scores(&self, images: &[Embedding]) -> Result<Vec<f32>>;

    /// Names the weights, so that a changed file is noticed.
    fn fingerprint(&self) -> String;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_without_direction_is_refused() {
        assert!(Embedding::normalized(vec![0.0; 4]).is_err());
        assert!(Embedding::normalized(vec![f32::NAN, 1.0]).is_err());
        assert!(Embedding::normalized(vec![]).is_err());
        assert!(Embedding::from_f16(&[f16::from_f32(0.5); 2]).is_err());
    }

    #[test]
    fn similarity_is_the_cosine() {
        let a = Embedding::normalized(vec![3.0, 0.0]).expect("a direction");
        let b = Embedding::normalized(vec![1.0, 1.0]).expect("a direction");
        assert!((a.similarity(&b) - std::f64::consts::FRAC_1_SQRT_2).abs() < 1e-6);
    }

    #[test]
    fn bits_change_the_fingerprint_and_not_the_weights() {
        for precision in Precision::ALL {
            let (some, others) = (precision.fingerprint("abc"), precision.fingerprint("abd"));
            assert_eq!(some == "abc", precision == Precision::Float32);
            assert!(same_weights(&some, "abc") && same_weights("abc", &some) && !same_weights(&some, &others));
            assert_eq!(serde_json::json!(precision), precision.name());
        }
        assert!(!same_weights("abc-seven", "abc"));
    }

    #[test]
    fn pixels_must_fill_their_size() {
        assert!(Pixels::new(2, 2, vec![0; 12]).is_some());
        assert!(Pixels::new(2, 2, vec![0; 11]).is_none());
        assert!(Pixels::new(0, 2, vec![]).is_none());
    }
}

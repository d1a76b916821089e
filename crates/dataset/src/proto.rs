//! `tf.train.Example`: a map from names to lists of values, as protocol buffers.
//!
//! ```text
//! Example  { 1: Features { 1: map<string, Feature> } }
//! Feature  { 1: BytesList { 1: repeated bytes } | 2: FloatList { 1: packed f32 } | 3: Int64List { 1: packed varint } }
//! ```
//! Source: tensorflow/core/example/{example,feature}.proto. Nothing is copied on reading; writing needs one pass for the
//! lengths and one for the bytes.

use std::borrow::Cow;

use half::f16;
use half::slice::HalfFloatSliceExt;

/// The value of one feature. The features of the catalogue have one value each, embeddings apart.
#[derive(Clone, Debug, PartialEq)]
pub enum Feature<'a> {
    /// A string or a file.
    Bytes(&'a [u8]),
    /// Numbers with a fraction, each of them 4 bytes, little-endian.
    Floats(Cow<'a, [u8]>),
    /// Numbers that are written as [`Feature::Floats`], which have an exact value for each of them; never read.
    Halves(Cow<'a, [f16]>),
    /// A whole number.
    Int(i64),
    /// Another number of strings or whole numbers than one.
    Other,
}

impl Feature<'_> {
    /// Length of the list in it.
    fn list_len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => field_len(bytes.len()),
            Self::Floats(bytes) => field_len(bytes.len()),
            Self::Halves(values) => field_len(values.len() * 4),
            Self::Int(value) => field_len(varint_len(*value as u64)),
            Self::Other => 0,
        }
    }
}

/// Length of an entry of the map.
fn entry_len(name: &str, feature: &Feature<'_>) -> usize {
    field_len(name.len()) + field_len(field_len(feature.list_len()))
}

fn map_len(features: &[(&str, Feature<'_>)]) -> usize {
    features.iter().map(|(name, feature)| field_len(entry_len(name, feature))).sum()
}

/// How many bytes [`encode`] appends.
pub fn encoded_len(features: &[(&str, Feature<'_>)]) -> usize {
    field_len(map_len(features))
}

/// Appends the serialised `tf.train.Example`. Equal bytes need names in the same order.
pub fn encode(features: &[(&str, Feature<'_>)], out: &mut Vec<u8>) {
    let map = map_len(features);
    out.reserve(field_len(map));
    put_head(out, 1, map);
    for (name, feature) in features {
        match feature {
            Feature::Bytes(bytes) => put_value(out, name, BYTES, bytes.len(), |out| out.extend_from_slice(bytes)),
            Feature::Floats(bytes) => put_value(out, name, FLOATS, bytes.len(), |out| out.extend_from_slice(bytes)),
            Feature::Halves(values) => put_value(out, name, FLOATS, values.len() * 4, |out| put_halves(out, values)),
            Feature::Int(value) => {
                put_value(out, name, INTS, varint_len(*value as u64), |out| put_varint(out, *value as u64));
            }
            Feature::Other => {
                put_head(out, 1, entry_len(name, feature));
                put_bytes(out, 1, name.as_bytes());
                put_head(out, 2, field_len(0));
                put_head(out, BYTES, 0);
            }
        }
    }
}

/// Fields of `Feature`.
pub(crate) const BYTES: u64 = 1;
pub(crate) const FLOATS: u64 = 2;
const INTS: u64 = 3;

/// Length of a feature in the map whose only value, or packed values, take so many bytes.
pub(crate) fn value_len(name: &str, bytes: usize) -> usize {
    field_len(field_len(name.len()) + field_len(field_len(field_len(bytes))))
}

/// Appends such a feature; `put` appends exactly its so many bytes.
pub(crate) fn put_value<T>(
    out: &mut Vec<u8>,
    name: &str,
    field: u64,
    bytes: usize,
    put: impl FnOnce(&mut Vec<u8>) -> T,
) -> T {
    let list = field_len(bytes);
    put_head(out, 1, field_len(name.len()) + field_len(field_len(list)));
    put_bytes(out, 1, name.as_bytes());
    put_head(out, 2, field_len(list));
    put_head(out, field, list);
    put_head(out, 1, bytes);
    put(out)
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Length of a field with so many bytes in it; the number of a field is small.
pub(crate) fn field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// Numbers that are widened at a time: so many that the processor's own instruction does it.
const PART: usize = 256;

/// Appends float16 as float32.
fn put_halves(out: &mut Vec<u8>, values: &[f16]) {
    let mut floats = [0.0; PART];
    for part in values.chunks(PART) {
        let floats = &mut floats[..part.len()];
        part.convert_to_f32_slice(floats);
        let start = out.len();
        out.resize(start + part.len() * 4, 0);
        for (place, value) in out[start..].as_chunks_mut().0.iter_mut().zip(floats) {
            *place = value.to_le_bytes();
        }
    }
}

/// Appends float16, given as their little-endian bytes, as float32.
pub(crate) fn put_half_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut halves = [f16::ZERO; PART];
    for part in bytes.as_chunks().0.chunks(PART) {
        let halves = &mut halves[..part.len()];
        halves.iter_mut().zip(part).for_each(|(half, &bytes)| *half = f16::from_le_bytes(bytes));
        put_halves(out, halves);
    }
}

/// Appends a number, seven bits a byte.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_head(out: &mut Vec<u8>, field: u64, len: usize) {
    put_varint(out, field << 3 | 2);
    put_varint(out, len as u64);
}

/// Appends a field of bytes, a text or a message.
pub fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_head(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// Reads a serialised `tf.train.Example`, calling `each` with name and value of every feature; `None` if it is none.
/// Unknown fields are passed over.
pub fn decode<'a>(example: &'a [u8], mut each: impl FnMut(&'a [u8], Feature<'a>)) -> Option<()> {
    each_field(example, |field, map| {
        if field != 1 {
            return Some(());
        }
        each_field(map.bytes()?, |field, entry| {
            if field != 1 {
                return Some(());
            }
            let (mut name, mut feature) = (&[][..], None);
            each_field(entry.bytes()?, |field, value| {
                match field {
                    1 => name = value.bytes()?,
                    2 => feature = Some(decode_feature(value.bytes()?)?),
                    _ => {}
                }
                Some(())
            })?;
            each(name, feature?);
            Some(())
        })
    })
}

fn decode_feature(bytes: &[u8]) -> Option<Feature<'_>> {
    let mut feature = None;
    each_field(bytes, |field, list| {
        let list = list.bytes()?;
        feature = Some(match field {
            1 => {
                let (mut last, mut values) = (None, 0);
                each_field(list, |_, value| {
                    (last, values) = (Some(value.bytes()?), values + 1);
                    Some(())
                })?;
                last.filter(|_| values == 1).map_or(Feature::Other, Feature::Bytes)
            }
            2 => {
                let mut floats = Cow::Borrowed([].as_slice());
                each_field(list, |_, value| {
                    match value {
                        Value::Bytes(packed) if packed.len() % 4 == 0 && floats.is_empty() => floats = packed.into(),
                        Value::Bytes(packed) if packed.len() % 4 == 0 => floats.to_mut().extend(packed),
                        Value::Fixed32(bits) => floats.to_mut().extend(bits.to_le_bytes()),
                        _ => return None,
                    }
                    Some(())
                })?;
                Feature::Floats(floats)
            }
            3 => {
                let (mut last, mut values) = (0, 0);
                each_field(list, |_, value| {
                    match value {
                        Value::Varint(number) => (last, values) = (number as i64, values + 1),
                        Value::Bytes(mut packed) => {
                            while !packed.is_empty() {
                                (last, values) = (take_varint(&mut packed)? as i64, values + 1);
                            }
                        }
                        Value::Fixed32(_) | Value::Other => return None,
                    }
                    Some(())
                })?;
                if values == 1 { Feature::Int(last) } else { Feature::Other }
            }
            _ => return Some(()),
        });
        Some(())
    })?;
    feature
}

pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
    Other,
}

impl<'a> Value<'a> {
    fn bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

pub(crate) fn each_field<'a>(mut bytes: &'a [u8], mut each: impl FnMut(u64, Value<'a>) -> Option<()>) -> Option<()> {
    while !bytes.is_empty() {
        let tag = take_varint(&mut bytes)?;
        let value = match tag & 7 {
            0 => Value::Varint(take_varint(&mut bytes)?),
            1 => {
                bytes = bytes.get(8..)?;
                Value::Other
            }
            2 => {
                let length = usize::try_from(take_varint(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Value::Bytes(value)
            }
            5 => {
                let (value, rest) = bytes.split_first_chunk::<4>()?;
                bytes = rest;
                Value::Fixed32(u32::from_le_bytes(*value))
            }
            _ => return None,
        };
        each(tag >> 3, value)?;
    }
    Some(())
}

pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn feature() -> impl Strategy<Value = Feature<'static>> {
        let bytes = |len| prop::collection::vec(any::<u8>(), len);
        prop_oneof![
            bytes(0..300).prop_map(|bytes| Feature::Bytes(bytes.leak())),
            prop::collection::vec(any::<u32>(), 0..600)
                .prop_map(|bits| Feature::Floats(bits.into_iter().flat_map(u32::to_le_bytes).collect())),
            any::<i64>().prop_map(Feature::Int),
            Just(Feature::Other),
        ]
    }

    proptest! {
        #[test]
        fn features_come_back_as_they_were(features in prop::collection::vec((".{0,12}", feature()), 0..6)) {
            let features: Vec<_> = features.iter().map(|(name, feature)| (name.as_str(), feature.clone())).collect();
            let mut bytes = Vec::new();
            encode(&features, &mut bytes);
            prop_assert_eq!(bytes.len(), encoded_len(&features));
            let mut found = Vec::new();
            prop_assert_eq!(decode(&bytes, |name, feature| found.push((name, feature))), Some(()));
            let expected: Vec<_> = features.into_iter().map(|(name, feature)| (name.as_bytes(), feature)).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes, |_, _| {});
        }
    }

    #[test]
    fn an_empty_string_is_one_empty_value() {
        // TFDS: an empty list is a read error, one empty value is an empty text (loader specification, section 2.4).
        let mut bytes = Vec::new();
        encode(&[("license", Feature::Bytes(b""))], &mut bytes);
        assert!(bytes.windows(4).any(|window| window == [0x0a, 0x02, 0x0a, 0x00]), "{bytes:02x?}");
    }

    #[test]
    fn numbers_that_are_not_packed_are_read_too() {
        let list = |field: u8, list: &[u8]| [&[field << 3 | 2, list.len() as u8], list].concat();
        let floats = [&[1 << 3 | 5][..], &1.5f32.to_le_bytes(), &[1 << 3 | 5], &2.5f32.to_le_bytes()].concat();
        let expected: Vec<u8> = [1.5f32, 2.5].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(decode_feature(&list(2, &floats)), Some(Feature::Floats(expected.into())));
        assert_eq!(decode_feature(&list(3, &[1 << 3, 7])), Some(Feature::Int(7)));
    }
}

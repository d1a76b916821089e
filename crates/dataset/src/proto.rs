//! `tf.train.Example`: a map from names to lists of values, as protocol buffers.
//!
//! ```text
//! Example  { 1: Features { 1: map<string, Feature> } }
//! Feature  { 1: BytesList { 1: repeated bytes } | 2: FloatList { 1: packed f32 } | 3: Int64List { 1: packed varint } }
//! ```
//! Source: tensorflow/core/example/{example,feature}.proto. Keys are written sorted, so equal examples are equal bytes.

use std::collections::BTreeMap;

/// The values of one feature.
#[derive(Clone, Debug, PartialEq)]
pub enum Feature {
    /// Strings and files.
    Bytes(Vec<Vec<u8>>),
    /// Numbers with a fraction, always 32 bits.
    Floats(Vec<f32>),
    /// Whole numbers.
    Ints(Vec<i64>),
}

/// An example: features by name.
pub type Features = BTreeMap<String, Feature>;

/// The serialised `tf.train.Example`.
pub fn encode(features: &Features) -> Vec<u8> {
    let mut map = Vec::new();
    for (name, feature) in features {
        let mut list = Vec::new();
        let field = match feature {
            Feature::Bytes(values) => {
                values.iter().for_each(|value| put_bytes(&mut list, 1, value));
                1
            }
            Feature::Floats(values) => {
                let packed: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                put_bytes(&mut list, 1, &packed);
                2
            }
            Feature::Ints(values) => {
                let mut packed = Vec::new();
                values.iter().for_each(|&value| put_varint(&mut packed, value as u64));
                put_bytes(&mut list, 1, &packed);
                3
            }
        };
        let mut value = Vec::with_capacity(list.len() + 8);
        put_bytes(&mut value, field, &list);
        let mut entry = Vec::with_capacity(value.len() + name.len() + 8);
        put_bytes(&mut entry, 1, name.as_bytes());
        put_bytes(&mut entry, 2, &value);
        put_bytes(&mut map, 1, &entry);
    }
    let mut example = Vec::with_capacity(map.len() + 8);
    put_bytes(&mut example, 1, &map);
    example
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads a serialised `tf.train.Example`; `None` if it is none. Unknown fields are passed over.
pub fn decode(example: &[u8]) -> Option<Features> {
    let mut features = Features::new();
    each_field(example, |field, map| {
        if field != 1 {
            return Some(());
        }
        each_field(map.bytes()?, |field, entry| {
            if field != 1 {
                return Some(());
            }
            let (mut name, mut feature) = (String::new(), None);
            each_field(entry.bytes()?, |field, value| {
                match field {
                    1 => name = String::from_utf8(value.bytes()?.to_vec()).ok()?,
                    2 => feature = Some(decode_feature(value.bytes()?)?),
                    _ => {}
                }
                Some(())
            })?;
            features.insert(name, feature?);
            Some(())
        })
    })?;
    Some(features)
}

fn decode_feature(bytes: &[u8]) -> Option<Feature> {
    let mut feature = None;
    each_field(bytes, |field, list| {
        let list = list.bytes()?;
        feature = Some(match field {
            1 => {
                let mut values = Vec::new();
                each_field(list, |_, value| {
                    let _: () = values.push(value.bytes()?.to_vec());
                    Some(())
                })?;
                Feature::Bytes(values)
            }
            2 => {
                let mut values = Vec::new();
                each_field(list, |_, value| {
                    match value {
                        Value::Fixed32(bits) => values.push(f32::from_bits(bits)),
                        Value::Bytes(packed) => {
                            let (chunks, rest) = packed.as_chunks::<4>();
                            if !rest.is_empty() {
                                return None;
                            }
                            values.extend(chunks.iter().map(|&chunk| f32::from_le_bytes(chunk)));
                        }
                        Value::Varint(_) | Value::Other => return None,
                    }
                    Some(())
                })?;
                Feature::Floats(values)
            }
            3 => {
                let mut values = Vec::new();
                each_field(list, |_, value| {
                    match value {
                        Value::Varint(number) => values.push(number as i64),
                        Value::Bytes(mut packed) => {
                            while !packed.is_empty() {
                                values.push(take_varint(&mut packed)? as i64);
                            }
                        }
                        Value::Fixed32(_) | Value::Other => return None,
                    }
                    Some(())
                })?;
                Feature::Ints(values)
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

    fn feature() -> impl Strategy<Value = Feature> {
        prop_oneof![
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..4).prop_map(Feature::Bytes),
            prop::collection::vec(-1e30f32..1e30, 0..600).prop_map(Feature::Floats),
            prop::collection::vec(any::<i64>(), 0..4).prop_map(Feature::Ints),
        ]
    }

    proptest! {
        #[test]
        fn features_come_back_as_they_were(features in prop::collection::btree_map(".{0,12}", feature(), 0..6)) {
            prop_assert_eq!(decode(&encode(&features)), Some(features));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn an_empty_string_is_one_empty_value() {
        // TFDS: an empty list is a read error, one empty value is an empty text (loader specification, section 2.4).
        let features = Features::from([("license".to_owned(), Feature::Bytes(vec![vec![]]))]);
        let bytes = encode(&features);
        assert!(bytes.windows(4).any(|window| window == [0x0a, 0x02, 0x0a, 0x00]), "{bytes:02x?}");
    }
}

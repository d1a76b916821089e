//! Pairs that engines carry from task to task as bytes.
//!
//! ```text
//! bytes:   sections, one behind the other: so what is put behind one another is such bytes, too
//! section: number of the archive (varint) · its name · records, as a spilled file has them
//! name, records: length (varint) · bytes
//! ```

use std::collections::BTreeMap;

use arrow_array::RecordBatch;

use super::{Bucket, Collected, Entry, to_batches};
use crate::proto::{put_varint, take_varint};
use crate::{Error, Result};

/// Pairs of several archives, in the order of their uids; of equal ones that of the first archive comes first, there the first.
#[derive(Debug, Default)]
pub struct Transit {
    bucket: Bucket,
    names: BTreeMap<u32, String>,
}

impl Transit {
    /// Appends a section with what a file of sorted pairs has.
    pub fn put_section(carried: &mut Vec<u8>, archive: u32, name: &str, records: &[u8]) {
        carried.reserve(records.len() + name.len() + 32);
        put_varint(carried, archive.into());
        for part in [name.as_bytes(), records] {
            put_varint(carried, part.len() as u64);
            carried.extend_from_slice(part);
        }
    }

    /// Takes what was carried apart together.
    pub fn open(carried: &[&[u8]]) -> Result<Self> {
        let bytes = carried.iter().map(|carried| carried.len()).sum();
        let mut transit = Self { bucket: Bucket::with_capacity(bytes), names: BTreeMap::new() };
        for &(mut bytes) in carried {
            while !bytes.is_empty() {
                let (archive, name, records) =
                    section(&mut bytes).ok_or_else(|| Error::Invalid("carried pairs are damaged".into()))?;
                transit.bucket.push(archive, records)?;
                transit.names.entry(archive).or_insert_with(|| name.to_owned());
            }
        }
        transit.bucket.sort();
        Ok(transit)
    }

    /// The pairs, in their order; `spill` is the number of the archive.
    pub fn entries(&self) -> &[Entry] {
        self.bucket.entries()
    }

    /// Some of the entries, to be carried on.
    pub fn put(&self, entries: &[Entry]) -> Vec<u8> {
        let mut by_archive = BTreeMap::<u32, Vec<&Entry>>::new();
        for entry in entries {
            by_archive.entry(entry.spill).or_default().push(entry);
        }
        let mut carried = Vec::new();
        for (archive, entries) in by_archive {
            Self::put_section(&mut carried, archive, &self.names[&archive], &self.bucket.records(&entries));
        }
        carried
    }

    /// Some of the entries, with the columns of [`crate::schema::Pair`].
    pub fn rows(&self, entries: &[Entry]) -> Result<Vec<RecordBatch>> {
        let row = |entry: &Entry| {
            let pair = self.bucket.get(entry)?;
            Ok(Collected { uid: entry.uid, archive: &self.names[&entry.spill], pair })
        };
        Ok(to_batches(&entries.iter().map(row).collect::<Result<Vec<_>>>()?))
    }
}

fn section<'a>(bytes: &mut &'a [u8]) -> Option<(u32, &'a str, &'a [u8])> {
    let archive = take_varint(bytes)?.try_into().ok()?;
    let mut part = || {
        let length = take_varint(bytes)?.try_into().ok()?;
        let (part, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        Some(part)
    };
    let (name, records) = (part()?, part()?);
    Some((archive, std::str::from_utf8(name).ok()?, records))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::FromBatch;
    use crate::schema::Pair;
    use crate::spill::{PairView, SpillWriter};

    fn carried(archive: u32, ranges: u32, pairs: &[(u128, &str)]) -> Vec<Vec<u8>> {
        let mut writer = SpillWriter::default();
        for (uid, caption) in pairs {
            writer.push(uid << 120, &PairView { caption, ..PairView::default() });
        }
        let files = writer.split(ranges).0;
        let section = |file: &Vec<u8>| {
            let mut carried = Vec::new();
            Transit::put_section(&mut carried, archive, &format!("{archive}.wat.gz"), file);
            carried
        };
        files.iter().map(section).collect()
    }

    fn told(transit: &Transit) -> Vec<(u128, String, String)> {
        let rows = transit.rows(transit.entries()).expect("sound");
        let rows = Pair::from_batch(&rows[0]).expect("its columns");
        let uid = |row: &Pair| u128::from_str_radix(&row.uid, 16).expect("digits") >> 120;
        rows.into_iter().map(|row| (uid(&row), row.archive, row.caption)).collect()
    }

    #[test]
    fn of_equal_pairs_the_first_comes_first_however_they_are_carried() {
        let second = carried(2, 1, &[(9, "second"), (200, "alone")]).remove(0);
        let first = carried(1, 1, &[(9, "first"), (9, "again"), (7, "before")]).remove(0);
        let transit = Transit::open(&[&second, &first]).expect("sound");
        let expected = [(7, "1", "before"), (9, "1", "first"), (9, "2", "second"), (200, "2", "alone")];
        let expected = expected.map(|(uid, archive, caption)| (uid, format!("{archive}.wat.gz"), caption.to_owned()));
        assert_eq!(told(&transit), expected);
        let entries = transit.entries();
        let on = Transit::open(&[&transit.put(&entries[2..]), &transit.put(&entries[..2])]).expect("sound");
        assert_eq!(told(&on), expected);
    }

    #[test]
    fn ranges_are_in_order_and_have_everything() {
        let pairs: Vec<_> = (0..256).map(|uid| (uid * 167 % 256, "a caption")).collect();
        for ranges in [1, 2, 3, 7, 256] {
            let carried = carried(0, ranges, &pairs);
            assert_eq!(carried.len(), ranges as usize);
            let uids: Vec<_> =
                carried.iter().flat_map(|range| told(&Transit::open(&[range]).expect("sound"))).collect();
            assert!(uids.iter().map(|(uid, ..)| *uid).eq(0..256), "{ranges} ranges");
        }
    }

    #[test]
    fn damage_is_an_error_and_no_panic() {
        let sound = carried(3, 1, &[(1, "a caption"), (2, "another one"), (3, "a third one")]).remove(0);
        for end in 1..sound.len() {
            assert!(Transit::open(&[&sound[..end]]).is_err(), "cut off at {end}");
        }
        for place in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[place] ^= 0xFF;
            let _ = Transit::open(&[&damaged]).map(|transit| drop(transit.rows(transit.entries())));
        }
    }
}

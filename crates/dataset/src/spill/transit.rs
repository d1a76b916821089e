//! Pairs that engines carry from task to task as bytes: uids apart from the rest, so that who deduplicates needs no more than those.
//!
//! ```text
//! uids:    sections, one behind the other
//! section: number of the archive + 1, or 0 for an earlier run (varint) · its name · which of its sections this is (varint) · pairs
//!          (varint) · packed bytes of their records (varint) · a uid (16 bytes) for each pair
//! pairs:   the records of each section, packed, one section behind the other
//! name, record: length (varint) · bytes
//! ```
//!
//! An engine copies bytes so often that it pays to pack them: zstd (level 1; a build in Rust alone has Snappy) leaves less than half.

use arrow_array::RecordBatch;

use super::{Collected, Entry, put_bytes, to_batches};
use crate::proto::{put_varint, take_varint};
use crate::{Error, Result};

/// Pairs on their way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parcel<B> {
    /// Whose pairs they are, and their uids.
    pub uids: B,
    /// The rest.
    pub pairs: B,
}

impl Parcel<Vec<u8>> {
    /// The same, borrowed.
    pub fn view(&self) -> Parcel<&[u8]> {
        Parcel { uids: &self.uids, pairs: &self.pairs }
    }

    /// Bytes of both.
    pub fn bytes(&self) -> usize {
        self.uids.len() + self.pairs.len()
    }

    /// Appends a section.
    pub(super) fn put<'a>(
        &mut self,
        packer: &mut Packer,
        whose: Whose<'_>,
        pairs: impl ExactSizeIterator<Item = (u128, &'a [u8])> + Clone,
    ) {
        packer.records.clear();
        pairs.clone().for_each(|(_, content)| put_bytes(&mut packer.records, content));
        let packed = packer.pack();
        put_varint(&mut self.uids, whose.archive.map_or(0, |archive| u64::from(archive) + 1));
        put_bytes(&mut self.uids, whose.name.as_bytes());
        put_varint(&mut self.uids, whose.part.into());
        put_varint(&mut self.uids, pairs.len() as u64);
        put_varint(&mut self.uids, packed.len() as u64);
        self.uids.reserve(pairs.len() * size_of::<u128>());
        pairs.for_each(|(uid, _)| self.uids.extend_from_slice(&uid.to_be_bytes()));
        self.pairs.extend_from_slice(packed);
    }
}

/// Whose pairs a section has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Whose<'a> {
    /// Number of the archive, if they are not an earlier run's.
    pub archive: Option<u32>,
    /// Its name.
    pub name: &'a str,
    /// Which of its sections: an archive that is large has several, whatever the order in which they come.
    pub part: u32,
}

/// Packs the records of one section after the other, in memory that it keeps.
pub struct Packer {
    records: Vec<u8>,
    packed: Vec<u8>,
    #[cfg(feature = "native")]
    zstd: zstd::bulk::Compressor<'static>,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").field("records", &self.records.len()).finish_non_exhaustive()
    }
}

impl Default for Packer {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            packed: Vec::new(),
            #[cfg(feature = "native")]
            zstd: zstd::bulk::Compressor::new(1).expect("memory, and a level that there is"),
        }
    }
}

impl Packer {
    #[cfg(feature = "native")]
    fn pack(&mut self) -> &[u8] {
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(self.records.len()));
        self.zstd.compress_to_buffer(&self.records, &mut self.packed).expect("as much room as it asks for");
        &self.packed
    }

    #[cfg(not(feature = "native"))]
    fn pack(&mut self) -> &[u8] {
        self.packed.resize(snap::raw::max_compress_len(self.records.len()), 0);
        let length = snap::raw::Encoder::new().compress(&self.records, &mut self.packed);
        &self.packed[..length.expect("less than 4 GiB, as who collects sees to")]
    }
}

/// Packed records as they were. Their number of bytes is told at their front, and is no more than 4 GiB.
#[cfg(feature = "native")]
fn unpack(zstd: &mut zstd::bulk::Decompressor<'static>, packed: &[u8]) -> Option<Vec<u8>> {
    let length = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten()?;
    zstd.decompress(packed, u32::try_from(length).ok()? as usize).ok()
}

#[cfg(not(feature = "native"))]
fn unpack(snap: &mut snap::raw::Decoder, packed: &[u8]) -> Option<Vec<u8>> {
    snap.decompress_vec(packed).ok()
}

/// What a section tells.
#[derive(Clone, Copy, Debug)]
struct Section<'a> {
    whose: Whose<'a>,
    uids: &'a [[u8; size_of::<u128>()]],
    /// Bytes of the packed records.
    packed: usize,
}

impl<'a> Section<'a> {
    fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let archive = u32::try_from(take_varint(bytes)?).ok()?.checked_sub(1);
        let name = std::str::from_utf8(take_bytes(bytes)?).ok()?;
        let part = u32::try_from(take_varint(bytes)?).ok()?;
        let mut number = || usize::try_from(take_varint(bytes)?).ok();
        let (count, packed) = (number()?, number()?);
        let uids = bytes.as_chunks().0.get(..count)?;
        *bytes = &bytes[size_of_val(uids)..];
        Some(Self { whose: Whose { archive, name, part }, uids, packed })
    }

    fn all(mut uids: &'a [u8]) -> Result<Vec<Self>> {
        let mut sections = Vec::new();
        while !uids.is_empty() {
            sections.push(Self::take(&mut uids).ok_or_else(damaged)?);
        }
        Ok(sections)
    }

    fn uids(&self) -> impl ExactSizeIterator<Item = u128> + use<'a> {
        self.uids.iter().map(|&uid| u128::from_be_bytes(uid))
    }
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_varint(bytes)?.try_into().ok()?;
    let (part, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(part)
}

fn damaged() -> Error {
    Error::Invalid("carried pairs are damaged".into())
}

/// The uids of several parcels.
#[derive(Debug)]
pub struct Uids(Vec<(u128, Option<u32>)>);

impl Uids {
    /// Takes the uids of several parcels together.
    pub fn open(parcels: &[&[u8]]) -> Result<Self> {
        let sections = parcels.iter().map(|parcel| Section::all(parcel)).collect::<Result<Vec<_>>>()?.concat();
        let mut uids = Vec::with_capacity(sections.iter().map(|section| section.uids.len()).sum());
        for section in sections {
            uids.extend(section.uids().map(|uid| (uid, section.whose.archive)));
        }
        uids.sort_unstable();
        Ok(Self(uids))
    }

    /// For each uid the archives that have it, in order, of which earlier runs are the first: [`None`].
    pub fn equal(&self) -> impl Iterator<Item = impl Iterator<Item = Option<u32>>> {
        self.0.chunk_by(|a, b| a.0 == b.0).map(|equal| equal.iter().map(|(_, archive)| *archive))
    }
}

/// Pairs of several parcels, in the order of their uids; of equal ones that of an earlier run comes first, then that of the first
/// archive, there the first.
#[derive(Debug, Default)]
pub struct Transit<'a> {
    /// In the order of the archives, each with its records.
    sections: Vec<(Section<'a>, Vec<u8>)>,
    /// `spill` is the place among the sections.
    entries: Vec<Entry>,
}

impl<'a> Transit<'a> {
    /// Takes parcels together.
    pub fn open(parcels: &[Parcel<&'a [u8]>]) -> Result<Self> {
        #[cfg(feature = "native")]
        let mut unpacker = zstd::bulk::Decompressor::new()?;
        #[cfg(not(feature = "native"))]
        let mut unpacker = snap::raw::Decoder::new();
        let mut sections = Vec::new();
        for &Parcel { uids, mut pairs } in parcels {
            for section in Section::all(uids)? {
                let (packed, rest) = pairs.split_at_checked(section.packed).ok_or_else(damaged)?;
                sections.push((section, unpack(&mut unpacker, packed).ok_or_else(damaged)?));
                pairs = rest;
            }
            if !pairs.is_empty() {
                return Err(damaged());
            }
        }
        sections.sort_by_key(|(section, _)| (section.whose.archive, section.whose.part));
        let mut entries = Vec::with_capacity(sections.iter().map(|(section, _)| section.uids.len()).sum());
        for (spill, (section, records)) in (0..).zip(&sections) {
            let mut rest = &**records;
            for uid in section.uids() {
                let content = take_bytes(&mut rest).ok_or_else(damaged)?;
                let end = (records.len() - rest.len()) as u32;
                entries.push(Entry { uid, spill, start: end - content.len() as u32, end });
            }
            if !rest.is_empty() {
                return Err(damaged());
            }
        }
        entries.sort_unstable();
        Ok(Self { sections, entries })
    }

    /// The pairs, in their order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whose the pair is, if not an earlier run's.
    pub fn archive(&self, entry: &Entry) -> Option<u32> {
        self.sections[entry.spill as usize].0.whose.archive
    }

    /// Leaves of equal pairs the first, unless an earlier run has it.
    pub fn deduplicate(&mut self) {
        self.entries.dedup_by_key(|entry| entry.uid);
        self.entries.retain(|first| self.sections[first.spill as usize].0.whose.archive.is_some());
    }

    /// Some of the entries, to be carried on.
    pub fn put(&self, entries: &[Entry]) -> Parcel<Vec<u8>> {
        let mut of_sections = vec![Vec::new(); self.sections.len()];
        for entry in entries {
            of_sections[entry.spill as usize].push(entry);
        }
        let (mut parcel, mut packer) = (Parcel::default(), Packer::default());
        for ((section, records), entries) in self.sections.iter().zip(of_sections).filter(|(_, of)| !of.is_empty()) {
            let pairs = entries.iter().map(|entry| (entry.uid, &records[entry.start as usize..entry.end as usize]));
            parcel.put(&mut packer, section.whose, pairs);
        }
        parcel
    }

    /// Some of the entries, with the columns of [`crate::schema::Pair`].
    pub fn rows(&self, entries: &[Entry]) -> Result<Vec<RecordBatch>> {
        let mut rows = Vec::with_capacity(entries.len());
        for entry in entries {
            let (section, records) = &self.sections[entry.spill as usize];
            rows.push(Collected { uid: entry.uid, archive: section.whose.name, pair: entry.view(records)? });
        }
        Ok(to_batches(&rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::FromBatch;
    use crate::schema::Pair;
    use crate::spill::{PairView, SpillWriter};

    fn carried(archive: Option<u32>, ranges: usize, pairs: &[(u128, &str)]) -> Vec<Parcel<Vec<u8>>> {
        let (mut writer, mut packer) = (SpillWriter::default(), Packer::default());
        let mut parcels = vec![Parcel::default(); ranges];
        let name = archive.map(|archive| format!("{archive}.wat.gz")).unwrap_or_default();
        // A part at a time, as an archive that is large comes.
        for (part, pairs) in (0..).zip(pairs.chunks(150)) {
            for (uid, caption) in pairs {
                writer.push(uid << 120, &PairView { caption, ..PairView::default() });
            }
            writer.put(&mut packer, Whose { archive, name: &name, part }, &mut parcels);
        }
        parcels
    }

    fn told(transit: &Transit<'_>, entries: &[Entry]) -> Vec<(u128, String, String)> {
        let rows = transit.rows(entries).expect("sound");
        let rows = Pair::from_batch(&rows[0]).expect("its columns");
        let uid = |row: &Pair| u128::from_str_radix(&row.uid, 16).expect("digits") >> 120;
        rows.into_iter().map(|row| (uid(&row), row.archive, row.caption)).collect()
    }

    #[test]
    fn of_equal_pairs_the_first_comes_first_however_they_are_carried() {
        let second = carried(Some(1), 1, &[(9, "second"), (200, "alone"), (8, "second")]).remove(0);
        let first = carried(Some(0), 1, &[(9, "first"), (9, "again"), (7, "before")]).remove(0);
        let earlier = carried(None, 1, &[(8, ""), (3, "")]).remove(0);
        let mut transit = Transit::open(&[second.view(), earlier.view(), first.view()]).expect("sound");
        let expected = |rows: &[(u128, &str, &str)]| -> Vec<_> {
            rows.iter().map(|&(uid, archive, caption)| (uid, archive.to_owned(), caption.to_owned())).collect()
        };
        let all = [
            (3, "", ""),
            (7, "0.wat.gz", "before"),
            (8, "", ""),
            (8, "1.wat.gz", "second"),
            (9, "0.wat.gz", "first"),
            (9, "1.wat.gz", "second"),
            (200, "1.wat.gz", "alone"),
        ];
        assert_eq!(told(&transit, transit.entries()), expected(&all));
        transit.deduplicate();
        let unique = transit.entries();
        let stay = expected(&[all[1], all[4], all[6]]);
        assert_eq!(told(&transit, unique), stay);
        let (front, back) = (transit.put(&unique[..2]), transit.put(&unique[2..]));
        let on = Transit::open(&[back.view(), front.view()]).expect("sound");
        assert_eq!(told(&on, on.entries()), stay);
        let uids = Uids::open(&[&second.uids, &earlier.uids, &first.uids]).expect("sound");
        let equal: Vec<Vec<_>> = uids.equal().map(Iterator::collect).collect();
        assert_eq!(equal, [vec![None], vec![Some(0)], vec![None, Some(1)], vec![Some(0), Some(1)], vec![Some(1)]]);
    }

    #[test]
    fn parts_of_an_archive_are_in_its_order_however_they_come() {
        let parts = [(0, "first"), (1, "again")].map(|(part, caption)| {
            let (mut writer, mut parcels) = (SpillWriter::default(), [Parcel::default()]);
            writer.push(9 << 120, &PairView { caption, ..PairView::default() });
            writer.put(&mut Packer::default(), Whose { archive: Some(0), name: "0.wat.gz", part }, &mut parcels);
            parcels
        });
        for [first, second] in [[0, 1], [1, 0]] {
            let mut transit = Transit::open(&[parts[first][0].view(), parts[second][0].view()]).expect("sound");
            transit.deduplicate();
            assert_eq!(told(&transit, transit.entries()), [(9, "0.wat.gz".into(), "first".into())]);
        }
    }

    #[test]
    fn ranges_are_in_order_and_have_everything() {
        let pairs: Vec<_> = (0..256).map(|uid| (uid * 167 % 256, "a caption")).collect();
        for ranges in [1, 2, 3, 7, 256] {
            let told = |parcel: &Parcel<Vec<u8>>| {
                let transit = Transit::open(&[parcel.view()]).expect("sound");
                told(&transit, transit.entries())
            };
            let uids: Vec<_> = carried(Some(0), ranges, &pairs).iter().flat_map(told).collect();
            assert!(uids.iter().map(|(uid, ..)| *uid).eq(0..256), "{ranges} ranges");
        }
    }

    #[test]
    fn damage_is_an_error_and_no_panic() {
        let sound = carried(Some(2), 1, &[(1, "a caption"), (2, "another one"), (3, "a third one")]).remove(0);
        let Parcel { uids, pairs } = sound.view();
        for end in 1..uids.len() {
            assert!(Transit::open(&[Parcel { uids: &uids[..end], pairs }]).is_err(), "cut off at {end}");
            assert!(Uids::open(&[&uids[..end]]).is_err(), "cut off at {end}");
        }
        for end in 0..pairs.len() {
            assert!(Transit::open(&[Parcel { uids, pairs: &pairs[..end] }]).is_err(), "cut off at {end}");
        }
        assert!(Transit::open(&[Parcel { uids: &[], pairs }]).is_err());
        for place in 0..uids.len() + pairs.len() {
            let mut damaged = sound.clone();
            *damaged.uids.iter_mut().chain(&mut damaged.pairs).nth(place).expect("a byte") ^= 0xFF;
            let _ = Uids::open(&[&damaged.uids]).map(|uids| uids.equal().count());
            let _ = Transit::open(&[damaged.view()]).map(|transit| drop(transit.rows(transit.entries())));
        }
    }
}

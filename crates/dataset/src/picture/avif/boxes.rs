//! The boxes of an AVIF file: what it shows, and where that lies (ISO/IEC 14496-12, 23008-12; AV1 Image File Format 1.1).

use std::borrow::Cow;
use std::collections::HashMap;

use super::reader::Bytes;

/// Items, and pieces in which they lie. Files have one piece for each item, and a grid 65,536 items at most.
const ITEMS_MAX: usize = 1 << 17;
/// Properties of an item. Real ones have about six.
const PROPERTIES_MAX: usize = 255;

/// The main table of a file, taken apart; nothing is copied.
pub(super) struct Boxes<'a> {
    pub(super) file: &'a [u8],
    /// Bytes inside the table itself, where small items lie.
    inside: &'a [u8],
    /// The item that is shown.
    pub(super) primary: u32,
    kinds: HashMap<u32, [u8; 4]>,
    pieces: HashMap<u32, Vec<Piece>>,
    references: Vec<Reference>,
    properties: Vec<([u8; 4], &'a [u8])>,
    /// By item: whether it must be understood, and its number from 1.
    associations: HashMap<u32, Vec<(bool, u16)>>,
}

struct Piece {
    inside: bool,
    offset: u64,
    /// 0: up to the end.
    length: u64,
}

struct Reference {
    kind: [u8; 4],
    from: u32,
    to: Vec<u32>,
}

/// Whether the bytes start as an AVIF file does: its first box names the brand, for a picture or for a sequence of them.
pub(in super::super) fn is_avif(bytes: &[u8]) -> bool {
    let Some((kind, brands)) = Bytes(bytes.get(..bytes.len().min(1024)).unwrap_or_default()).first_box() else {
        return false;
    };
    // The second four bytes are a version.
    let mut brands = brands.as_chunks().0.iter().enumerate().filter(|(at, _)| *at != 1);
    &kind == b"ftyp" && brands.any(|(_, brand)| matches!(brand, b"avif" | b"avis"))
}

impl<'a> Boxes<'a> {
    /// `None` if they are cut off, or of a kind that nobody writes.
    pub(super) fn read(file: &'a [u8]) -> Option<Self> {
        let mut meta = Bytes(Bytes(file).find(b"meta")?);
        meta.version()?;
        let mut boxes = Self {
            file,
            inside: meta.find(b"idat").unwrap_or_default(),
            primary: 0,
            kinds: HashMap::new(),
            pieces: HashMap::new(),
            references: Vec::new(),
            properties: Vec::new(),
            associations: HashMap::new(),
        };
        let mut first = Bytes(meta.find(b"pitm")?);
        boxes.primary = match first.version()? {
            0 => first.number(2)? as u32,
            _ => first.number(4)? as u32,
        };
        boxes.read_kinds(Bytes(meta.find(b"iinf")?))?;
        boxes.read_pieces(Bytes(meta.find(b"iloc")?))?;
        boxes.read_references(Bytes(meta.find(b"iref").unwrap_or(&[0; 4])))?;
        let mut properties = Bytes(meta.find(b"iprp")?);
        let mut list = Bytes(properties.find(b"ipco")?);
        boxes.properties.extend(std::iter::from_fn(|| list.next_box()));
        while let Some((kind, content)) = properties.next_box() {
            if &kind == b"ipma" {
                boxes.read_associations(Bytes(content))?;
            }
        }
        Some(boxes)
    }

    fn read_kinds(&mut self, mut list: Bytes<'a>) -> Option<()> {
        let bytes = if list.version()? == 0 { 2 } else { 4 };
        list.number(bytes)?;
        while let Some((kind, content)) = list.next_box() {
            let mut entry = Bytes(content);
            let bytes = match entry.version()? {
                2 => 2,
                3 => 4,
                _ => continue,
            };
            if &kind == b"infe" {
                let item = entry.number(bytes)? as u32;
                entry.number(2)?; // encryption
                self.kinds.insert(item, *entry.take(4)?.first_chunk()?);
            }
        }
        Some(())
    }

    fn read_pieces(&mut self, mut list: Bytes<'a>) -> Option<()> {
        let version = list.version()?;
        let sizes = list.number(2)?;
        let [offset, length, base, index] = [12, 8, 4, 0].map(|shift| (sizes >> shift & 15) as usize);
        let id = if version < 2 { 2 } else { 4 };
        let mut left = ITEMS_MAX;
        for _ in 0..list.number(id)? {
            let item = list.number(id)? as u32;
            let method = if version > 0 { list.number(2)? & 15 } else { 0 };
            list.number(2)?; // other files
            let start = list.number(base)?;
            let count = list.number(2)? as usize;
            left = left.checked_sub(count + 1)?;
            let mut pieces = Vec::with_capacity(count.min(16));
            for _ in 0..count {
                if version > 0 {
                    list.number(index)?;
                }
                let offset = start.checked_add(list.number(offset)?)?;
                pieces.push(Piece { inside: method == 1, offset, length: list.number(length)? });
            }
            if method < 2 {
                self.pieces.insert(item, pieces);
            }
        }
        Some(())
    }

    fn read_references(&mut self, mut list: Bytes<'a>) -> Option<()> {
        let id = if list.version()? == 0 { 2 } else { 4 };
        while let Some((kind, content)) = list.next_box() {
            let mut content = Bytes(content);
            let from = content.number(id)? as u32;
            let to = (0..content.number(2)?).map(|_| content.number(id).map(|item| item as u32));
            self.references.push(Reference { kind, from, to: to.collect::<Option<_>>()? });
        }
        Some(())
    }

    fn read_associations(&mut self, mut list: Bytes<'a>) -> Option<()> {
        let flags = *list.0.get(3)?;
        let id = if list.version()? == 0 { 2 } else { 4 };
        let bytes = if flags & 1 == 1 { 2 } else { 1 };
        for _ in 0..list.number(4)? {
            let item = list.number(id)? as u32;
            let properties = self.associations.entry(item).or_default();
            for _ in 0..list.number(1)? {
                let value = list.number(bytes)?;
                let must = 1 << (bytes * 8 - 1);
                properties.push((value & must != 0, (value & (must - 1)) as u16));
            }
            if properties.len() > PROPERTIES_MAX || self.associations.len() > ITEMS_MAX {
                return None;
            }
        }
        Some(())
    }

    /// What an item is: `av01`, `grid`, `Exif` …
    pub(super) fn kind(&self, item: u32) -> Option<&[u8; 4]> {
        self.kinds.get(&item)
    }

    /// The first property of this kind that the item has.
    pub(super) fn property(&self, item: u32, kind: &[u8; 4]) -> Option<&'a [u8]> {
        self.properties(item).find_map(|(_, found, content)| (found == *kind).then_some(content))
    }

    /// Of each property whether it must be understood, its kind and its content.
    pub(super) fn properties(&self, item: u32) -> impl Iterator<Item = (bool, [u8; 4], &'a [u8])> {
        let of_item = self.associations.get(&item).into_iter().flatten();
        of_item.filter_map(|&(must, number)| {
            let (kind, content) = *self.properties.get(usize::from(number.checked_sub(1)?))?;
            Some((must, kind, content))
        })
    }

    /// Width and height that the item says it has.
    pub(super) fn size(&self, item: u32) -> Option<(u32, u32)> {
        let mut size = Bytes(self.property(item, b"ispe")?);
        size.version()?;
        Some((size.number(4)? as u32, size.number(4)? as u32))
    }

    /// The items that this one refers to.
    pub(super) fn referred(&self, from: u32, kind: &[u8; 4]) -> &[u32] {
        let found = self.references.iter().find(|reference| reference.from == from && reference.kind == *kind);
        found.map_or(&[], |reference| &reference.to)
    }

    /// The items that refer to this one.
    pub(super) fn referring<'b>(&'b self, to: u32, kind: &'b [u8; 4]) -> impl Iterator<Item = u32> + 'b {
        let found = self.references.iter().filter(move |one| one.kind == *kind && one.to.contains(&to));
        found.map(|reference| reference.from)
    }

    /// The bytes of an item, which are no more than the file has.
    pub(super) fn content(&self, item: u32) -> Option<Cow<'a, [u8]>> {
        let pieces = self.pieces.get(&item)?;
        let slice = |piece: &Piece| -> Option<&'a [u8]> {
            let all = if piece.inside { self.inside } else { self.file };
            let rest = all.get(usize::try_from(piece.offset).ok()?..)?;
            if piece.length == 0 { Some(rest) } else { rest.get(..usize::try_from(piece.length).ok()?) }
        };
        if let [piece] = &pieces[..] {
            return slice(piece).map(Cow::Borrowed);
        }
        let mut content = Vec::new();
        for piece in pieces {
            content.extend_from_slice(slice(piece)?);
            if content.len() > self.file.len() {
                return None;
            }
        }
        Some(Cow::Owned(content))
    }
}

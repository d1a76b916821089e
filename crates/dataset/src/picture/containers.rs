//! What stands around the pixels in a JPEG, PNG or WebP file, part by part; nothing is copied.

/// Bytes of a JPEG that are no segment: the data of a scan, restart markers, filling.
pub(super) const JPEG_DATA: u8 = 0;
/// Start of image.
pub(super) const JPEG_START: u8 = 0xD8;
/// Start of a scan: pixels follow.
pub(super) const JPEG_SCAN: u8 = 0xDA;
/// End of image.
pub(super) const JPEG_END: u8 = 0xD9;

/// The segments of a JPEG with their kind, marker and length included, and what stands between them, up to the end marker
/// (ITU-T T.81, annex B). Ends early where a segment is cut off.
pub(super) struct JpegParts<'a>(&'a [u8]);

impl<'a> JpegParts<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for JpegParts<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let marker = match memchr::memchr_iter(0xFF, self.0).find(|&at| is_marker(self.0.get(at + 1))) {
            Some(0) => self.0[1],
            found => {
                let (data, rest) = self.0.split_at(found.unwrap_or(self.0.len()));
                self.0 = rest;
                return (!data.is_empty()).then_some((JPEG_DATA, data));
            }
        };
        let length = match marker {
            JPEG_START | JPEG_END => 2,
            _ => 2 + usize::from(u16::from_be_bytes(*self.0.get(2..4)?.first_chunk()?)).max(2),
        };
        let (part, rest) = self.0.split_at_checked(length)?;
        self.0 = if marker == JPEG_END { &[] } else { rest };
        Some((marker, part))
    }
}

/// Not 0 (a byte 0xFF of the data), 0xFF (filling), nor a restart marker, which stands in the data.
fn is_marker(kind: Option<&u8>) -> bool {
    kind.is_some_and(|kind| !matches!(kind, 0x00 | 0x01 | 0xD0..=0xD7 | 0xFF))
}

/// What follows the marker and the length of a segment.
pub(super) fn jpeg_content(part: &[u8]) -> &[u8] {
    part.get(4..).unwrap_or_default()
}

/// Whether a JPEG has four components: ink.
pub(super) fn is_ink(jpeg: &[u8]) -> bool {
    // The frame's header: bits, height, width, and how many components.
    let frame = |(kind, part): (u8, &[u8])| {
        let is_frame = matches!(kind, 0xC0..=0xCF) && !matches!(kind, 0xC4 | 0xC8 | 0xCC);
        is_frame.then(|| jpeg_content(part).get(5) == Some(&4))
    };
    JpegParts::new(jpeg).take_while(|(kind, _)| *kind != JPEG_SCAN).find_map(frame) == Some(true)
}

/// The first bytes of a PNG.
pub(super) const PNG_START: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The chunks of a PNG with their kind, length and checksum included, up to the last one, `IEND`.
pub(super) fn png_chunks(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut rest = bytes.strip_prefix(PNG_START).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        let kind = *rest.get(4..8)?.first_chunk()?;
        let (chunk, after) = rest.split_at_checked(length.checked_add(12)?)?;
        rest = if &kind == b"IEND" { &[] } else { after };
        Some((kind, chunk))
    })
}

/// The chunks of a WebP with their kind, header and padding included (RIFF; each is padded to an even length).
pub(super) fn webp_chunks(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let size = bytes.get(4..8).and_then(|size| size.first_chunk()).map_or(0, |&size| u32::from_le_bytes(size));
    let end = bytes.len().min((size as usize).saturating_add(8));
    let mut rest = bytes.get(12..end).unwrap_or_default();
    std::iter::from_fn(move || {
        let kind = *rest.first_chunk()?;
        let length = u32::from_le_bytes(*rest.get(4..8)?.first_chunk()?) as usize;
        let (chunk, after) = rest.split_at_checked(length.checked_add(8 + length % 2)?)?;
        rest = after;
        Some((kind, chunk))
    })
}

/// Whether the file goes on after its first picture, as an animated PNG or WebP does.
pub(super) fn is_animated(bytes: &[u8]) -> bool {
    const ANIMATION: u8 = 0x02; // of the flags in the chunk VP8X
    png_chunks(bytes).take_while(|(kind, _)| kind != b"IDAT").any(|(kind, _)| &kind == b"acTL")
        || webp_chunks(bytes).next().is_some_and(|(kind, chunk)| &kind == b"VP8X" && flags(chunk) & ANIMATION != 0)
}

/// The flags of a WebP's chunk `VP8X`.
fn flags(chunk: &[u8]) -> u8 {
    chunk.get(8).copied().unwrap_or(0)
}

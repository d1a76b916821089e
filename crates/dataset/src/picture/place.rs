//! Files as they came, but for what may say where a picture was taken.

use super::Format;
use super::containers::{JPEG_END, JPEG_START, JpegParts, PNG_START, jpeg_content, png_chunks, webp_chunks};

/// The file of a picture without the places where positions are kept: EXIF and XMP, and whatever stands behind the
/// picture, as some cameras put films there. The rest is the same, byte for byte, and no pixel changes. `None` for what is
/// none of JPEG, PNG and WebP, or cut off.
///
/// Of a JPEG's application segments only those stay that pixels depend on: JFIF's, Adobe's and profiles. The others may
/// hold a place in forms that only their makers know.
pub fn without_place(bytes: &[u8]) -> Option<Vec<u8>> {
    match Format::of(bytes)? {
        Format::Jpeg => jpeg(bytes),
        Format::Png => png(bytes),
        Format::WebP => webp(bytes),
        _ => None,
    }
}

fn jpeg(bytes: &[u8]) -> Option<Vec<u8>> {
    let stays = |kind: u8, part: &[u8]| match kind {
        0xE0 => true,
        0xE2 => jpeg_content(part).starts_with(b"ICC_PROFILE\0"),
        0xEE => jpeg_content(part).starts_with(b"Adobe"),
        0xE1..=0xEF => false,
        _ => true,
    };
    let mut kept = Vec::with_capacity(bytes.len());
    let mut last = None;
    for (kind, part) in JpegParts::new(bytes) {
        // Two pictures in one file, one after the other, are none that can be told apart.
        if (kind == JPEG_START) != last.is_none() {
            return None;
        }
        if stays(kind, part) {
            kept.extend_from_slice(part);
        }
        last = Some(kind);
    }
    (last == Some(JPEG_END)).then_some(kept)
}

fn png(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut kept = PNG_START.to_vec();
    let mut last = None;
    for (kind, chunk) in png_chunks(bytes) {
        let content = &chunk[8..];
        // ImageMagick and ExifTool keep whole EXIF and IPTC blocks as texts, and ImageMagick single fields, too.
        let keyword = [&b"XML:com.adobe.xmp"[..], b"Raw profile type", b"exif:", b"xmp"];
        let goes = match &kind {
            b"eXIf" | b"zxIf" => true,
            b"tEXt" | b"zTXt" | b"iTXt" => keyword.iter().any(|keyword| content.starts_with(keyword)),
            _ => false,
        };
        if !goes {
            kept.extend_from_slice(chunk);
        }
        last = Some(kind);
    }
    (last.as_ref() == Some(b"IEND")).then_some(kept)
}

fn webp(bytes: &[u8]) -> Option<Vec<u8>> {
    /// Of the chunk `VP8X`: there is EXIF, there is XMP.
    const FLAGS: u8 = 0x08 | 0x04;
    let (mut kept, mut read) = (bytes.get(..12)?.to_vec(), 12);
    for (kind, chunk) in webp_chunks(bytes) {
        read += chunk.len();
        if matches!(&kind, b"EXIF" | b"XMP ") {
            continue;
        }
        kept.extend_from_slice(chunk);
        if &kind == b"VP8X" {
            let at = kept.len() - chunk.len() + 8;
            *kept.get_mut(at)? &= !FLAGS;
        }
    }
    let declared = u32::from_le_bytes(*bytes.get(4..8)?.first_chunk()?) as usize;
    let size = u32::try_from(kept.len() - 8).ok()?;
    kept[4..8].copy_from_slice(&size.to_le_bytes());
    (read == declared.checked_add(8)?).then_some(kept)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Pixels;
    use crate::picture::{Limits, StoredFormat, decode, encode};

    const PLACE: &[u8] = b"52 deg 30' N, 13 deg 22' E";

    fn plain(format: StoredFormat) -> Vec<u8> {
        let rgb = (0..30 * 20 * 3).map(|at| (at % 251) as u8).collect();
        encode(&Pixels::new(30, 20, rgb).expect("full size"), format, *format.qualities().end()).expect("encodable")
    }

    fn segment(kind: u8, content: &[u8]) -> Vec<u8> {
        [&[0xFF, kind], &(content.len() as u16 + 2).to_be_bytes()[..], content].concat()
    }

    /// The checksum is none: nobody looks at that of a chunk that may be missing.
    fn chunk(kind: &[u8], content: &[u8]) -> Vec<u8> {
        let content = [content, PLACE].concat();
        [&(content.len() as u32).to_be_bytes()[..], kind, &content, &[0; 4]].concat()
    }

    /// Each format's file, once with the place of the picture in every hole, once without.
    fn cases() -> Vec<(Vec<u8>, Vec<u8>)> {
        let jpeg = plain(StoredFormat::Jpg);
        let segments =
            [(0xE1, &b"Exif\0\0"[..]), (0xE1, b"http://ns.adobe.com/xap/1.0/\0"), (0xED, b"Photoshop 3.0\0")];
        let holes = segments.map(|(kind, content)| segment(kind, &[content, PLACE].concat())).concat();
        let kept = segment(0xE2, b"ICC_PROFILE\0\x01\x01profile");
        let jpegs = (
            [&jpeg[..2], &kept, &holes, &jpeg[2..], b"\xFF\xD8", PLACE].concat(),
            [&jpeg[..2], &kept, &jpeg[2..]].concat(),
        );
        let png = plain(StoredFormat::Png);
        let (head, rest) = png.split_at(8 + 25);
        let chunks: [(&[u8], &[u8]); 5] = [
            (b"eXIf", b"MM\0\x2a"),
            (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0"),
            (b"zTXt", b"Raw profile type exif\0\0"),
            (b"tEXt", b"exif:GPSLatitude\0"),
            (b"zxIf", b"MM\0\x2a"),
        ];
        let holes = chunks.map(|(kind, content)| chunk(kind, content)).concat();
        let kept = b"\0\0\0\x0etEXtCopyright\0None\0\0\0\0";
        let pngs = ([head, kept, &holes, rest, PLACE].concat(), [head, kept, rest].concat());
        let webp = plain(StoredFormat::Webp);
        let extended = |flags: u8, more: &[u8]| {
            let header = [&b"VP8X\x0a\0\0\0"[..], &[flags, 0, 0, 0, 29, 0, 0, 19, 0, 0]].concat();
            let body = [&b"WEBP"[..], &header, &webp[12..], more].concat();
            [&b"RIFF"[..], &(body.len() as u32).to_le_bytes(), &body].concat()
        };
        let hole = |kind: &[u8]| [kind, &(PLACE.len() as u32).to_le_bytes(), PLACE].concat();
        let webps =
            ([extended(0x0C, &[hole(b"EXIF"), hole(b"XMP ")].concat()), PLACE.to_vec()].concat(), extended(0, &[]));
        vec![jpegs, pngs, webps]
    }

    #[test]
    fn the_place_goes_and_every_other_byte_stays() {
        for (with, without) in cases() {
            assert!(memchr::memmem::find(&with, PLACE).is_some(), "it was there");
            let found = without_place(&with).expect("whole");
            assert_eq!(found, without);
            assert_eq!(without_place(&found), Some(found.clone()), "nothing is left to go");
            let pixels = |bytes: &[u8]| decode(bytes, Limits::default()).expect("decodable").pixels;
            assert_eq!(pixels(&found), pixels(&with));
        }
    }

    #[test]
    fn what_is_cut_off_or_of_another_format_is_not_stored_as_it_is() {
        for (with, _) in cases() {
            assert_eq!(without_place(&with[..with.len() / 2]), None);
        }
        assert_eq!(without_place(b"GIF89a"), None);
        assert_eq!(without_place(b""), None);
    }

    proptest! {
        #[test]
        fn no_change_of_a_file_is_a_panic_or_makes_it_longer(
            (mut bytes, _) in prop::sample::select(cases()),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut: prop::sample::Index,
        ) {
            for (place, value) in changes {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            if let Some(found) = without_place(&bytes) {
                prop_assert!(found.len() <= bytes.len());
            }
        }
    }
}

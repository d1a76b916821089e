//! What an encoded picture says of itself in its first bytes.

use std::io::Cursor;

use image::{ImageFormat, ImageReader};

/// The ending of its file name: that of its format, `jpg` where the format is none that packages hold.
pub fn ending(bytes: &[u8]) -> &'static str {
    match image::guess_format(bytes) {
        Ok(ImageFormat::Png) => "png",
        Ok(ImageFormat::Bmp) => "bmp",
        Ok(ImageFormat::WebP) => "webp",
        _ => "jpg",
    }
}

/// Width and height in pixels, as its header has them; nothing is decoded.
pub fn dimensions(bytes: &[u8]) -> Option<(i32, i32)> {
    let format = image::guess_format(bytes).ok()?;
    let (width, height) = ImageReader::with_format(Cursor::new(bytes), format).into_dimensions().ok()?;
    Some((width.try_into().ok()?, height.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_header_tells_format_and_size() {
        let pixels = crate::Pixels::new(3, 2, vec![9; 18]).expect("of one size");
        let jpeg = crate::picture::encode_jpeg(&pixels, 90).expect("pixels");
        assert_eq!((ending(&jpeg), dimensions(&jpeg)), ("jpg", Some((3, 2))));
        assert_eq!((ending(b"\x89PNG\r\n\x1a\n"), dimensions(b"\x89PNG\r\n\x1a\n")), ("png", None));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(head in 0..3usize, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let heads: [&[u8]; 3] = [b"", b"\xFF\xD8\xFF\xE0", b"\x89PNG\r\n\x1a\n"];
            let bytes = [heads[head], &bytes].concat();
            let _ = (ending(&bytes), dimensions(&bytes));
        }
    }
}

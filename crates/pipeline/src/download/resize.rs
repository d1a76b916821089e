//! The stored form of an image: LAION-400M's 256 x 256 pixels with a white border, or another of img2dataset's.

use dataset::Pixels;
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use serde::{Deserialize, Serialize};

/// How a picture is brought to its stored size, by img2dataset's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeMode {
    /// It stays as it is.
    No,
    /// The shorter side becomes the size.
    KeepRatio,
    /// The longer side becomes the size.
    KeepRatioLargest,
    /// The shorter side becomes the size, and the square in the middle is kept.
    CenterCrop,
    /// The longer side becomes the size, and the picture stands in the middle of a white square.
    #[default]
    Border,
}

/// The stored form of a picture; `None` if it would have more pixels than `pixels_max`. With `only_if_bigger` one that is
/// not larger stays as it is, without a border, too. Source: img2dataset's `resizer.py` over albumentations' `SmallestMaxSize`,
/// `LongestMaxSize`, `CenterCrop` and `PadIfNeeded`, whose halves round to even numbers.
pub(super) fn resize(
    pixels: Pixels,
    mode: ResizeMode,
    size: u32,
    only_if_bigger: bool,
    pixels_max: u64,
) -> Option<Pixels> {
    let (width, height) = (pixels.width(), pixels.height());
    let side = match mode {
        ResizeMode::No => return Some(pixels),
        ResizeMode::KeepRatio | ResizeMode::CenterCrop => width.min(height),
        ResizeMode::KeepRatioLargest | ResizeMode::Border => width.max(height),
    };
    if only_if_bigger && side <= size {
        return Some(pixels);
    }
    let scale = f64::from(size) / f64::from(side);
    let scaled = |side: u32| (f64::from(side) * scale).round_ties_even().max(1.0);
    let (width, height) = (scaled(width), scaled(height));
    if width * height > pixels_max as f64 {
        return None;
    }
    let (width, height) = (width as u32, height as u32);
    // img2dataset shrinks with OpenCV's area averaging and enlarges with Lanczos.
    let filter = if side > size { FilterType::Box } else { FilterType::Lanczos3 };
    let scaled = scale_to(&pixels, width, height, filter, PixelType::U8x3)?;
    match mode {
        ResizeMode::CenterCrop => {
            let (left, top) = ((width - size) as usize / 2, (height - size) as usize / 2);
            let lines = scaled.chunks_exact(width as usize * 3).skip(top).take(size as usize);
            let square = lines.flat_map(|line| &line[left * 3..][..size as usize * 3]).copied().collect();
            Pixels::new(size, size, square)
        }
        ResizeMode::Border => {
            let (left, top) = ((size - width) / 2, (size - height) / 2);
            let mut square = vec![255; size as usize * size as usize * 3];
            for (row, line) in scaled.chunks_exact(width as usize * 3).enumerate() {
                let at = ((top as usize + row) * size as usize + left as usize) * 3;
                square[at..at + line.len()].copy_from_slice(line);
            }
            Pixels::new(size, size, square)
        }
        _ => Pixels::new(width, height, scaled),
    }
}

/// A perceptual hash in 16 hexadecimal digits: the signs of the 8 x 8 lowest frequencies of the 32 x 32 grey picture
/// about their median (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions").
pub(super) fn perceptual_hash(pixels: &Pixels) -> Option<String> {
    let small = scale_to(pixels, SIDE as u32, SIDE as u32, FilterType::Bilinear, PixelType::U8x3)?;
    let grey: Vec<f32> = small
        .chunks_exact(3)
        .map(|rgb| 0.299 * f32::from(rgb[0]) + 0.587 * f32::from(rgb[1]) + 0.114 * f32::from(rgb[2]))
        .collect();
    let wave = |position: usize, frequency: usize| {
        (std::f32::consts::PI / SIDE as f32 * (position as f32 + 0.5) * frequency as f32).cos()
    };
    let coefficients: Vec<f32> = (0..64)
        .map(|i| {
            let (u, v) = (i % 8, i / 8);
            (0..SIDE * SIDE).map(|at| grey[at] * wave(at % SIDE, u) * wave(at / SIDE, v)).sum()
        })
        .collect();
    let mut sorted = coefficients[1..].to_vec(); // the first is the mean brightness
    sorted.sort_by(f32::total_cmp);
    let median = sorted[sorted.len() / 2];
    let bits = coefficients.iter().fold(0u64, |bits, &coefficient| bits << 1 | u64::from(coefficient > median));
    Some(format!("{bits:016x}"))
}

const SIDE: usize = 32;

fn scale_to(pixels: &Pixels, width: u32, height: u32, filter: FilterType, format: PixelType) -> Option<Vec<u8>> {
    let source = ImageRef::new(pixels.width(), pixels.height(), pixels.rgb(), format).ok()?;
    let mut scaled = Image::new(width, height, format);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
    Resizer::new().resize(&source, &mut scaled, &options).ok()?;
    Some(scaled.into_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(width: u32, height: u32) -> Pixels {
        Pixels::new(width, height, [200, 30, 60].repeat((width * height) as usize)).expect("full size")
    }

    fn size(width: u32, height: u32, mode: ResizeMode, only_if_bigger: bool) -> (u32, u32) {
        let stored = resize(plain(width, height), mode, 256, only_if_bigger, 1 << 26).expect("a picture");
        (stored.width(), stored.height())
    }

    #[test]
    fn every_mode_gives_the_size_of_img2dataset() {
        use ResizeMode::*;
        let cases = [
            ((634, 355), [(634, 355), (457, 256), (256, 143), (256, 256), (256, 256)]),
            ((20, 40), [(20, 40), (256, 512), (128, 256), (256, 256), (256, 256)]),
            // 257 / 2 and 259 / 2 go to the even number.
            ((512, 257), [(512, 257), (510, 256), (256, 128), (256, 256), (256, 256)]),
            ((512, 259), [(512, 259), (506, 256), (256, 130), (256, 256), (256, 256)]),
        ];
        for ((width, height), expected) in cases {
            let sizes =
                [No, KeepRatio, KeepRatioLargest, CenterCrop, Border].map(|mode| size(width, height, mode, false));
            assert_eq!(sizes, expected, "{width} x {height}");
        }
        for mode in [No, KeepRatio, KeepRatioLargest, CenterCrop, Border] {
            assert_eq!(size(200, 100, mode, true), (200, 100), "{mode:?}");
        }
        assert_eq!(size(300, 100, KeepRatio, true), (300, 100), "its shorter side is not larger");
        assert_eq!(size(300, 100, Border, true), (256, 256));
    }

    #[test]
    fn a_wide_picture_stands_between_two_white_bars() {
        let square = resize(plain(634, 355), ResizeMode::Border, 256, false, 1 << 26).expect("a picture");
        let row = |y: u32| &square.rgb()[(y * 256 * 3) as usize..][..3];
        let inside = (0..256).filter(|&y| row(y) == [200, 30, 60]).count();
        assert_eq!((inside, row(0), row(255)), (143, &[255; 3][..], &[255; 3][..]));
    }

    #[test]
    fn the_middle_is_kept_by_a_crop() {
        // Three bars, of which the middle one is as wide as the picture is high.
        let bars = (0..8).flat_map(|_| (0..24).flat_map(|x| [(x / 8) as u8 * 100; 3])).collect();
        let square = resize(Pixels::new(24, 8, bars).expect("full size"), ResizeMode::CenterCrop, 8, false, 1 << 26);
        let square = square.expect("a picture");
        assert_eq!((square.width(), square.height()), (8, 8));
        assert!(square.rgb().iter().all(|&byte| byte == 100));
    }

    #[test]
    fn a_thread_and_a_dot_are_no_panic_and_no_wall() {
        for (width, height) in [(1, 1), (1, 5000), (5000, 1)] {
            assert!(resize(plain(width, height), ResizeMode::Border, 256, false, 1 << 26).is_some());
            assert!(perceptual_hash(&plain(width, height)).is_some());
        }
        assert!(resize(plain(1, 5000), ResizeMode::KeepRatio, 256, false, 1 << 26).is_none(), "256 x 1,280,000");
    }

    #[test]
    fn the_perceptual_hash_survives_another_size_but_not_another_picture() {
        let drawn = |width: u32, height: u32, flip: bool| {
            let rgb = (0..height)
                .flat_map(|y| {
                    (0..width).flat_map(move |x| {
                        let (u, v) = (x as f32 / width as f32, y as f32 / height as f32);
                        let u = if flip { 1.0 - u } else { u };
                        [(255.0 * u * v) as u8, (200.0 * u) as u8, if u > 0.6 && v < 0.4 { 255 } else { 0 }]
                    })
                })
                .collect();
            let pixels = Pixels::new(width, height, rgb).expect("full size");
            u64::from_str_radix(&perceptual_hash(&pixels).expect("a hash"), 16).expect("hexadecimal")
        };
        let distance = |a: u64, b: u64| (a ^ b).count_ones();
        assert!(distance(drawn(300, 200, false), drawn(90, 60, false)) <= 6);
        assert!(distance(drawn(300, 200, false), drawn(300, 200, true)) > 12);
    }
}

//! The stored form of an image: LAION-400M's 256 x 256 pixels with a white border.

use dataset::Pixels;
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

/// Scales the larger side to `size` and centres the picture on a white square of that side: img2dataset's `border`.
pub(super) fn border(pixels: &Pixels, size: u32) -> Option<Pixels> {
    let larger = u64::from(pixels.width().max(pixels.height()));
    let scale = |side: u32| ((u64::from(side) * u64::from(size) * 2 + larger) / (larger * 2)).max(1) as u32;
    let (width, height) = (scale(pixels.width()), scale(pixels.height()));
    // img2dataset shrinks with OpenCV's area averaging and enlarges with Lanczos.
    let filter = if larger > u64::from(size) { FilterType::Box } else { FilterType::Lanczos3 };
    let scaled = resize(pixels, width, height, filter, PixelType::U8x3)?;
    let (left, top) = ((size - width) / 2, (size - height) / 2);
    let mut square = vec![255; (size * size * 3) as usize];
    for (row, line) in scaled.chunks_exact((width * 3) as usize).enumerate() {
        let at = (((top + row as u32) * size + left) * 3) as usize;
        square[at..at + line.len()].copy_from_slice(line);
    }
    Pixels::new(size, size, square)
}

/// A perceptual hash in 16 hexadecimal digits: the signs of the 8 x 8 lowest frequencies of the 32 x 32 grey picture
/// about their median (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions").
pub(super) fn perceptual_hash(pixels: &Pixels) -> Option<String> {
    let small = resize(pixels, SIDE as u32, SIDE as u32, FilterType::Bilinear, PixelType::U8x3)?;
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

fn resize(pixels: &Pixels, width: u32, height: u32, filter: FilterType, format: PixelType) -> Option<Vec<u8>> {
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

    #[test]
    fn a_wide_picture_stands_between_two_white_bars() {
        // 634 x 355 becomes 256 x 143, as img2dataset makes it.
        let square = border(&plain(634, 355), 256).expect("a picture");
        assert_eq!((square.width(), square.height()), (256, 256));
        let row = |y: u32| &square.rgb()[(y * 256 * 3) as usize..][..3];
        let inside = (0..256).filter(|&y| row(y) == [200, 30, 60]).count();
        assert_eq!((inside, row(0), row(255)), (143, &[255; 3][..], &[255; 3][..]));
    }

    #[test]
    fn a_thread_and_a_dot_are_no_panic() {
        for (width, height) in [(1, 1), (1, 5000), (5000, 1)] {
            assert!(border(&plain(width, height), 256).is_some());
            assert!(perceptual_hash(&plain(width, height)).is_some());
        }
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

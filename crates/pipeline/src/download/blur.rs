//! Parts of a picture made unrecognizable, as img2dataset's `blurrer.py` does with faces.

use dataset::Pixels;
use image::imageops::fast_blur;
use image::{GrayImage, RgbImage};

/// By how much of its longer side a box is enlarged on each side, and how wide the blur is.
const SHARE: f32 = 0.1;

/// Blurs what lies in the boxes `[left, top, right, bottom]`, from 0 to 1 of the picture's width and height. Each is
/// enlarged by a tenth of its longer side first, and fades into what is around it. The blur is a Gaussian whose deviation
/// is a tenth of the longest side of all boxes; it is made of three means, so that a large one costs no more than a small
/// one. A box reaching over the edge ends there; one that is empty, inverted or not a number blurs nothing.
///
/// The rule is that of Yang et al. 2021, "A Study of Face Obfuscation in ImageNet", which img2dataset follows. Its own blur
/// has about half the deviation of its rule, since albumentations takes it from the size of the filter instead.
pub(super) fn blur(pixels: Pixels, boxes: &[[f32; 4]]) -> Pixels {
    let (width, height) = (pixels.width(), pixels.height());
    let mut mask = GrayImage::new(width, height);
    let mut longest: f32 = 0.0;
    for &[left, top, right, bottom] in boxes {
        let on = |share: f32, side: u32| (share.clamp(0.0, 1.0) * side as f32).floor();
        let (left, right) = (on(left, width), on(right, width));
        let (top, bottom) = (on(top, height), on(bottom, height));
        // Also false where one of them is not a number.
        if !(left < right && top < bottom) {
            continue;
        }
        let side = (right - left).max(bottom - top);
        longest = longest.max(side);
        let more = SHARE * side;
        let span = |from: f32, to: f32, end: u32| (from - more).max(0.0) as u32..((to + more) as u32).min(end);
        for y in span(top, bottom, height) {
            for x in span(left, right, width) {
                mask.put_pixel(x, y, image::Luma([255]));
            }
        }
    }
    if longest == 0.0 {
        return pixels;
    }
    let sigma = (SHARE * longest).max(1.0);
    let Some(sharp) = RgbImage::from_raw(width, height, pixels.rgb().to_vec()) else { return pixels };
    let (blurred, mask) = (fast_blur(&sharp, sigma), fast_blur(&mask, sigma));
    let mut rgb = pixels.into_rgb();
    let each = rgb.as_chunks_mut::<3>().0.iter_mut().zip(blurred.as_raw().as_chunks::<3>().0).zip(mask.as_raw());
    for ((sharp, blurred), &share) in each {
        let share = u32::from(share);
        let mix = |a: u8, b: u8| ((u32::from(a) * (255 - share) + u32::from(b) * share + 127) / 255) as u8;
        sharp.iter_mut().zip(blurred).for_each(|(sharp, blurred)| *sharp = mix(*sharp, *blurred));
    }
    Pixels::new(width, height, rgb).expect("of the same size")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Black and white columns, each of two pixels.
    fn stripes(width: u32, height: u32) -> Pixels {
        let rgb = (0..height).flat_map(|_| (0..width).flat_map(|x| [(x / 2 % 2) as u8 * 255; 3])).collect();
        Pixels::new(width, height, rgb).expect("full size")
    }

    fn at(pixels: &Pixels, x: u32, y: u32) -> u8 {
        pixels.rgb()[((y * pixels.width() + x) * 3) as usize]
    }

    #[test]
    fn what_is_in_the_box_is_grey_and_the_rest_as_it_was() {
        let before = stripes(200, 100);
        let after = blur(before.clone(), &[[0.25, 0.2, 0.5, 0.8]]); // 60 pixels high: enlarged by 6, faded over 12
        for x in 55..95 {
            assert!((90..165).contains(&at(&after, x, 50)), "{x}: {}", at(&after, x, 50));
        }
        for (x, y) in [(0, 0), (1, 99), (10, 50), (150, 50), (199, 99)] {
            assert_eq!(at(&after, x, y), at(&before, x, y), "{x} {y}");
        }
    }

    #[test]
    fn boxes_that_are_none_change_nothing_and_large_ones_end_at_the_edge() {
        let before = stripes(40, 30);
        let none = [[0.5, 0.5, 0.5, 0.9], [0.9, 0.1, 0.2, 0.9], [f32::NAN, 0.0, 1.0, 1.0], [2.0, 2.0, 3.0, 3.0]];
        assert_eq!(blur(before.clone(), &none), before);
        assert_eq!(blur(before.clone(), &[]), before);
        let whole = blur(before.clone(), &[[0.0, 0.0, 1.0, 1.0]]);
        assert_eq!(blur(before, &[[-5.0, f32::NEG_INFINITY, 7.0, f32::INFINITY]]), whole);
    }

    proptest! {
        #[test]
        fn no_box_is_a_panic(
            width in 1..70u32,
            height in 1..70u32,
            boxes in prop::collection::vec(prop::array::uniform4(prop_oneof![-0.5..1.5f32, any::<f32>()]), 0..4),
        ) {
            let blurred = blur(stripes(width, height), &boxes);
            prop_assert_eq!((blurred.width(), blurred.height()), (width, height));
        }
    }
}

//! Pictures to other sizes. A crate of its own, since the filters are compiled where they are called, once for each form of
//! processor, and nothing else takes the compiler as long.

#![forbid(unsafe_code)]

mod pil;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8x3, U8x4};
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

pub use pil::{Window, bicubic, portable_bicubic};

/// By what pixels are weighed. Where a picture becomes smaller, a filter grows with what a pixel stands for, as PIL's do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Linearly.
    Bilinear,
    /// By cubics with a = -0.5: PIL's `BICUBIC`.
    Bicubic,
    /// By a Lanczos filter of 8 x 8 pixels: OpenCV's `INTER_LANCZOS4`.
    Lanczos4,
}

impl Filter {
    fn options(self) -> Option<ResizeOptions> {
        fn sinc(x: f64) -> f64 {
            let x = x * std::f64::consts::PI;
            if x == 0.0 { 1.0 } else { x.sin() / x }
        }
        let lanczos = |x: f64| if x.abs() < 4.0 { sinc(x) * sinc(x / 4.0) } else { 0.0 };
        let filter = match self {
            Self::Bilinear => FilterType::Bilinear,
            Self::Bicubic => FilterType::CatmullRom,
            Self::Lanczos4 => FilterType::Custom(fast_image_resize::Filter::new("Lanczos4", lanczos, 4.0).ok()?),
        };
        Some(ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false))
    }
}

/// Scales `width * height * 3` bytes; `None` if there are not so many, or no pixels.
pub fn rgb(pixels: &[u8], width: u32, height: u32, wanted: (u32, u32), filter: Filter) -> Option<Vec<u8>> {
    let source = TypedImageRef::<U8x3>::from_buffer(width, height, pixels).ok()?;
    let mut scaled = vec![0; wanted.0 as usize * wanted.1 as usize * 3];
    let mut target = TypedImage::<U8x3>::from_buffer(wanted.0, wanted.1, &mut scaled).ok()?;
    Resizer::new().resize_typed(&source, &mut target, &filter.options()?).ok()?;
    Some(scaled)
}

/// Scales pixels of four bytes, the last of which means nothing: twice as fast as those of three. Keeps what one picture
/// after the other would have to set up.
#[derive(Debug, Default)]
pub struct Rgbx(Resizer);

impl Rgbx {
    /// Fills `scaled`, `wanted.0 * wanted.1 * 4` bytes, from `width * height * 4`. The error says why it cannot.
    pub fn fill(
        &mut self,
        pixels: &[u8],
        width: u32,
        height: u32,
        wanted: (u32, u32),
        filter: Filter,
        scaled: &mut [u8],
    ) -> Result<(), String> {
        let source = TypedImageRef::<U8x4>::from_buffer(width, height, pixels).map_err(|error| error.to_string())?;
        let mut target =
            TypedImage::<U8x4>::from_buffer(wanted.0, wanted.1, scaled).map_err(|error| error.to_string())?;
        let options = filter.options().ok_or("no such filter")?;
        self.0.resize_typed(&source, &mut target, &options).map_err(|error| error.to_string())
    }
}

/// Every pixel is the mean of the area that it covers, parts of pixels counted as parts: OpenCV's `INTER_AREA`, which
/// the filters above, whole pixels all, come near only where a picture is shrunk a lot. `extent` says how many of the
/// pixels of three bytes count, with parts, across and down.
pub fn area(pixels: &[u8], width: u32, height: u32, extent: (f64, f64), wanted: (u32, u32)) -> Option<Vec<u8>> {
    let line = width as usize * 3;
    if pixels.is_empty() || pixels.len() != line * height as usize || wanted.0 == 0 || wanted.1 == 0 {
        return None;
    }
    let (columns, rows) = (Covered::new(width, extent.0, wanted.0), Covered::new(height, extent.1, wanted.1));
    Some(pulp::Arch::new().dispatch(Average { pixels, line, rows, columns }))
}

/// What [`area`] does, compiled for processors with wide registers, too, which halves its cost.
struct Average<'a> {
    pixels: &'a [u8],
    /// Bytes.
    line: usize,
    rows: Covered,
    columns: Covered,
}

/// 2^23: a small number that is added to it is rounded, and in its lowest bits.
const WHOLE: f32 = 8_388_608.0;

impl pulp::WithSimd for Average<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Vec<u8> {
        let Self { pixels, line, rows, columns } = self;
        // One more than the line has, so that each pixel of it can be read as four numbers, which are added at once.
        let mut sums = vec![0.0; line + 1];
        let mut means = vec![[0; 4]; columns.firsts.len()];
        let mut rgb = vec![0; rows.firsts.len() * means.len() * 3];
        for (rgb, (first, weights)) in rgb.chunks_exact_mut(means.len() * 3).zip(rows.each()) {
            add_lines(&pixels[first * line..], weights, &mut sums[..line]);
            for (mean, (first, weights)) in means.iter_mut().zip(columns.each()) {
                let mut sum = [0.0; 4];
                for (weight, pixel) in weights.iter().zip(sums[first * 3..].windows(4).step_by(3)) {
                    sum.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += weight * value);
                }
                *mean = sum.map(|sum| (sum + WHOLE).to_bits());
            }
            for (rgb, mean) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(&means) {
                *rgb = [mean[0] as u8, mean[1] as u8, mean[2] as u8];
            }
        }
        rgb
    }
}

/// Weighs as many lines as there are weights, and adds them up.
#[inline(always)]
fn add_lines(pixels: &[u8], weights: &[f32], sums: &mut [f32]) {
    const LANES: usize = 16; // as many as stay in registers
    let line = sums.len();
    let (chunks, rest) = sums.as_chunks_mut::<LANES>();
    for (chunk, sums) in chunks.iter_mut().enumerate() {
        let mut sum = [0.0; LANES];
        for (at, weight) in weights.iter().enumerate() {
            let values = &pixels[at * line + chunk * LANES..][..LANES];
            sum.iter_mut().zip(values).for_each(|(sum, &value)| *sum += weight * f32::from(value));
        }
        *sums = sum;
    }
    for (at, sum) in (line - rest.len()..).zip(rest) {
        *sum = weights.iter().enumerate().map(|(row, weight)| weight * f32::from(pixels[row * line + at])).sum();
    }
}

/// Which pixels of a line each of fewer pixels covers, and how much of itself each is.
struct Covered {
    firsts: Vec<usize>,
    /// `count` for each; some are 0, for a loop that turns as often each time is foreseen by the processor.
    weights: Vec<f32>,
    count: usize,
}

impl Covered {
    fn new(from: u32, extent: f64, to: u32) -> Self {
        let scale = extent / f64::from(to);
        let covered = |pixel: u32| {
            let start = f64::from(pixel) * scale;
            (start, (start + scale).min(extent))
        };
        let pixels = |(start, end): (f64, f64)| (end.ceil() as u32).min(from).saturating_sub(start as u32);
        let count = (0..to).map(covered).map(pixels).max().unwrap_or(0);
        let firsts = (0..to).map(|pixel| (covered(pixel).0 as u32).min(from - count));
        let weights = (0..to).map(covered).zip(firsts.clone()).flat_map(|((start, end), first)| {
            (first..first + count).map(move |at| {
                let part = end.min(f64::from(at) + 1.0) - start.max(f64::from(at));
                (part.max(0.0) / (end - start)) as f32
            })
        });
        Self { weights: weights.collect(), firsts: firsts.map(|first| first as usize).collect(), count: count as usize }
    }

    #[inline(always)]
    fn each(&self) -> impl Iterator<Item = (usize, &[f32])> {
        self.firsts.iter().copied().zip(self.weights.chunks_exact(self.count))
    }
}

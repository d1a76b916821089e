//! Pictures to other sizes. A crate of its own, since the filters are compiled where they are called, once for each form of
//! processor, and nothing else takes the compiler as long.

#![forbid(unsafe_code)]

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8x3, U8x4};
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

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
    if line == 0 || pixels.len() != line * height as usize {
        return None;
    }
    let (columns, rows) = (Covered::new(width, extent.0, wanted.0), Covered::new(height, extent.1, wanted.1));
    let mut sums = vec![0.0; line];
    let mut rgb = Vec::with_capacity(wanted.0 as usize * wanted.1 as usize * 3);
    for row in rows.each() {
        sums.fill(0.0);
        for &(at, weight) in row {
            let line = &pixels[at * line..][..line];
            sums.iter_mut().zip(line).for_each(|(sum, &value)| *sum += weight * f32::from(value));
        }
        let sums = sums.as_chunks::<3>().0;
        for column in columns.each() {
            let mut means = [0.5; 3]; // rounds
            for &(at, weight) in column {
                means.iter_mut().zip(sums[at]).for_each(|(mean, sum)| *mean += weight * sum);
            }
            rgb.extend(means.map(|mean| mean as u8));
        }
    }
    Some(rgb)
}

/// Which pixels of a line each of fewer pixels covers, and how much of itself each is.
struct Covered {
    parts: Vec<(usize, f32)>,
    ends: Vec<usize>,
}

impl Covered {
    fn new(from: u32, extent: f64, to: u32) -> Self {
        let scale = extent / f64::from(to);
        let mut covered = Self { parts: Vec::new(), ends: Vec::with_capacity(to as usize) };
        for pixel in 0..to {
            let (start, end) = (f64::from(pixel) * scale, (f64::from(pixel) * scale + scale).min(extent));
            for at in start as u32..(end.ceil() as u32).min(from) {
                let part = end.min(f64::from(at) + 1.0) - start.max(f64::from(at));
                covered.parts.push((at as usize, (part / (end - start)) as f32));
            }
            covered.ends.push(covered.parts.len());
        }
        covered
    }

    fn each(&self) -> impl Iterator<Item = &[(usize, f32)]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.parts[start..end])
    }
}

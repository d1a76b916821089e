//! Colours as they are in the file to sRGB, without transparency.

use moxcms::{ColorProfile, DataColorSpace, Layout, ParsingOptions, Transform8BitExecutor, TransformOptions};
use std::sync::Arc;

/// Bytes of a profile. Those of printing presses have 0.5 to 2 MB; a longer one is passed over.
pub(super) const PROFILE_BYTES_MAX: usize = 4 << 20;

/// Pixels that are brought to sRGB at once.
const CHUNK: usize = 4096;

/// A profile that moves no colour further than this is taken for sRGB: the pictures stay as they are.
const SAME: u8 = 2;

/// Brings pixels of `channels` bytes, three of colour and perhaps one of opacity, to sRGB. Whether anything was done: a
/// profile that is broken, of other colours or sRGB itself changes nothing.
pub(super) fn to_srgb(profile: &[u8], pixels: &mut [u8], channels: usize) -> bool {
    let Some(profile) = read(profile) else { return false };
    match profile.color_space {
        DataColorSpace::Rgb => {
            let Some(transform) = transform(&profile, Layout::Rgb) else { return false };
            if is_identity(&*transform) {
                return false;
            }
            let (mut from, mut to) = (Vec::new(), vec![0; CHUNK * 3]);
            pixels.chunks_mut(CHUNK * channels).all(|chunk| {
                from.clear();
                from.extend(chunk.chunks_exact(channels).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]));
                let to = &mut to[..from.len()];
                let done = transform.transform(&from, to).is_ok();
                let pairs = chunk.chunks_exact_mut(channels).zip(to.as_chunks::<3>().0);
                pairs.for_each(|(pixel, rgb)| pixel[..3].copy_from_slice(rgb));
                done
            })
        }
        DataColorSpace::Gray => {
            // Grey pictures have their grey three times.
            let Some(transform) = transform(&profile, Layout::Gray) else { return false };
            let greys: [u8; 256] = std::array::from_fn(|grey| grey as u8);
            let mut colours = [0; 256 * 3];
            if transform.transform(&greys, &mut colours).is_err() {
                return false;
            }
            let colours = colours.as_chunks::<3>().0;
            if colours.iter().zip(greys).all(|(rgb, grey)| rgb.iter().all(|value| value.abs_diff(grey) <= SAME)) {
                return false;
            }
            pixels.chunks_exact_mut(channels).for_each(|pixel| {
                let grey = usize::from(pixel[0]);
                pixel[..3].copy_from_slice(&colours[grey]);
            });
            true
        }
        _ => false,
    }
}

/// Ink, four bytes a pixel, to RGB: by its profile, or else the plain formula that browsers and PIL use. `inverted`: 255
/// is no ink, as Adobe's programs write it.
pub(super) fn cmyk_to_rgb(mut cmyk: Vec<u8>, inverted: bool, profile: Option<&[u8]>) -> Vec<u8> {
    if inverted {
        cmyk.iter_mut().for_each(|ink| *ink = 255 - *ink);
    }
    let mut rgb = vec![0; cmyk.len() / 4 * 3];
    let profile = profile.and_then(read).filter(|profile| profile.color_space == DataColorSpace::Cmyk);
    // moxcms has no name of its own for four inks: they go by the layout of four bytes.
    if let Some(transform) = profile.and_then(|profile| transform(&profile, Layout::Rgba)) {
        let mut chunks = cmyk.chunks(CHUNK * 4).zip(rgb.chunks_mut(CHUNK * 3));
        if chunks.all(|(from, to)| transform.transform(from, to).is_ok()) {
            return rgb;
        }
    }
    for (&[cyan, magenta, yellow, black], rgb) in cmyk.as_chunks().0.iter().zip(rgb.as_chunks_mut().0) {
        *rgb = [cyan, magenta, yellow].map(|ink: u8| part(255 - ink, 255 - black));
    }
    rgb
}

/// Lays pixels with opacity on white; also whether any was not opaque.
pub(super) fn on_white(rgba: &[u8]) -> (Vec<u8>, bool) {
    let mut seen_through = false;
    let mut rgb = Vec::with_capacity(rgba.len() / 4 * 3);
    for &[red, green, blue, alpha] in rgba.as_chunks().0 {
        seen_through |= alpha != 255;
        let white = 255 - alpha;
        rgb.extend([red, green, blue].map(|value| part(value, alpha) + white));
    }
    (rgb, seen_through)
}

/// `value * share / 255`, rounded.
fn part(value: u8, share: u8) -> u8 {
    ((u32::from(value) * u32::from(share) + 127) / 255) as u8
}

fn read(profile: &[u8]) -> Option<ColorProfile> {
    let options = ParsingOptions { max_profile_size: PROFILE_BYTES_MAX, ..ParsingOptions::default() };
    ColorProfile::new_from_slice_with_options(profile, options).ok()
}

fn transform(profile: &ColorProfile, layout: Layout) -> Option<Arc<Transform8BitExecutor>> {
    let (srgb, options) = (ColorProfile::new_srgb(), TransformOptions::default());
    profile.create_transform_8bit(layout, &srgb, Layout::Rgb, options).ok()
}

/// Tried on 9 x 9 x 9 colours.
fn is_identity(transform: &Transform8BitExecutor) -> bool {
    let step = |index: usize| (index * 255 / 8) as u8;
    let colours: Vec<u8> = (0..729).flat_map(|at| [step(at / 81), step(at / 9 % 9), step(at % 9)]).collect();
    let mut moved = vec![0; colours.len()];
    transform.transform(&colours, &mut moved).is_ok()
        && colours.iter().zip(&moved).all(|(from, to)| from.abs_diff(*to) <= SAME)
}

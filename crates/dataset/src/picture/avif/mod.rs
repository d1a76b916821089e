//! AVIF: one coded picture, or a grid of them, with the opacity beside it.

mod boxes;
mod colours;
mod frame;
mod reader;
mod stream;

use image::metadata::Orientation;

use self::boxes::Boxes;
use self::colours::{Coding, Planes};
use self::reader::Bytes;
use super::Limits;
use super::decoder::{Result, damaged};
use super::general::Raster;

pub(super) use self::boxes::is_avif;

/// Properties that are understood, or that change nothing that is read: how many bits there are is in the data itself, and
/// a part that is cut out is not cut out by PIL either.
const KNOWN: [&[u8; 4]; 14] = [
    b"ispe", b"pixi", b"av1C", b"colr", b"irot", b"imir", b"clap", b"auxC", b"pasp", b"a1lx", b"clli", b"mdcv",
    b"cclv", b"amve",
];

/// Names of the kind of an item that is opacity (AV1 Image File Format, 4.1; the other is HEIF's).
const OPACITY: [&[u8]; 2] = [b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0", b"urn:mpeg:hevc:2015:auxid:1\0"];

/// EXIF's numbers of orientations by the quarters that `irot` turns against the clock, then neither mirrored by `imir`, nor
/// top to bottom, nor left to right.
const TURNS: [[u8; 3]; 4] = [[1, 4, 2], [8, 5, 7], [3, 2, 4], [6, 7, 5]];

/// The picture that the file shows; of a sequence the one that stands for it.
pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<Raster> {
    let boxes = Boxes::read(bytes).ok_or_else(|| damaged("the boxes of an AVIF make no sense"))?;
    let item = boxes.primary;
    let (width, height) = size(&boxes, item, limits)?;
    let opacity = boxes.referring(item, b"auxl").find(|&item| is_opacity(&boxes, item));
    let mut canvas = Canvas::new(width, height, if opacity.is_some() { 4 } else { 3 });
    let coding = coding(&boxes, item);
    draw(&boxes, item, limits, |planes, says, left, top| {
        planes.colours(coding.unwrap_or(says), |row, colours| {
            canvas.put(left, top + row, colours, |pixel, colour| pixel[..3].copy_from_slice(colour));
        })
    })?;
    if let Some(opacity) = opacity {
        if boxes.size(opacity) != Some((width, height)) {
            return Err(damaged("an opacity of another size"));
        }
        draw(&boxes, opacity, limits, |planes, says, left, top| {
            planes.greys(says.full, |row, greys| canvas.put(left, top + row, greys, |pixel, &grey| pixel[3] = grey));
            Some(())
        })?;
        if boxes.referred(item, b"prem").contains(&opacity) {
            canvas.pixels.as_chunks_mut().0.iter_mut().for_each(unmultiply);
        }
    }
    Ok(Raster {
        pixels: canvas.pixels,
        channels: canvas.channels,
        width,
        height,
        original: (width, height),
        divisor: 1,
        exact: false, // nothing stores AVIF files as they are
        orientation: orientation(&boxes, item),
        exif: exif(&boxes),
        profile: colour_box(&boxes, item, b"prof").or_else(|| colour_box(&boxes, item, b"rICC")).map(<[u8]>::to_vec),
    })
}

/// The pixels of the whole picture.
struct Canvas {
    pixels: Vec<u8>,
    channels: usize,
    width: usize,
}

impl Canvas {
    fn new(width: u32, height: u32, channels: usize) -> Self {
        let (width, height) = (width as usize, height as usize);
        Self { pixels: vec![0; width * height * channels], channels, width }
    }

    /// Puts a row of a part at its place; what is outside is left out.
    fn put<T>(&mut self, left: usize, row: usize, values: &[T], each: impl Fn(&mut [u8], &T)) {
        let start = row * self.width * self.channels;
        let Some(line) = self.pixels.get_mut(start..start + self.width * self.channels) else { return };
        line.chunks_exact_mut(self.channels).skip(left).zip(values).for_each(|(pixel, value)| each(pixel, value));
    }
}

/// Decodes an item, or each of the items of a grid, and calls `each` with its planes, how the data says they are coded,
/// and where it begins from the left and from the top. `None` from it: a coding that is not known.
fn draw(
    boxes: &Boxes<'_>,
    item: u32,
    limits: Limits,
    mut each: impl FnMut(&Planes, Coding, usize, usize) -> Option<()>,
) -> Result<()> {
    // Items of a grid could all be the same long one.
    let mut bytes_left = boxes.file.len();
    let mut one = |item: u32, left: u32, top: u32| {
        let (width, height) = size(boxes, item, limits)?;
        let content = boxes.content(item).ok_or_else(|| damaged("an item of an AVIF that is cut off"))?;
        let left_then = bytes_left.checked_sub(content.len());
        bytes_left = left_then.ok_or_else(|| damaged("items of an AVIF that are longer than it is"))?;
        let (planes, says) = frame::decode(&content, width, height, limits)?;
        let drawn = each(&planes, says, left as usize, top as usize);
        drawn.ok_or_else(|| damaged(format!("colours coded by matrix {} of H.273", says.matrix)))
    };
    match boxes.kind(item) {
        Some(b"av01") => one(item, 0, 0),
        Some(b"grid") => {
            let (columns, parts) =
                grid(boxes, item, limits).unwrap_or_else(|| Err(damaged("a grid that makes no sense")))?;
            let (width, height) = size(boxes, parts[0], limits)?;
            let places = (0..).map(|at| (at % columns * width, at / columns * height));
            parts.iter().zip(places).try_for_each(|(&part, (left, top))| one(part, left, top))
        }
        kind => {
            Err(damaged(format!("an item of an AVIF that is {:?}", kind.map(|kind| kind.escape_ascii().to_string()))))
        }
    }
}

/// Width and height that each item of a grid has at least (ISO/IEC 23000-22, 7.3.11.4.2).
const PART_MIN: u32 = 64;

/// How many columns a grid has, and its items, row by row (ISO/IEC 23008-12, 6.6.2.3). They are of one size, and none lies
/// outside of the whole.
fn grid<'b>(boxes: &'b Boxes<'_>, item: u32, limits: Limits) -> Option<Result<(u32, &'b [u32])>> {
    let content = boxes.content(item)?;
    let mut content = Bytes(&content);
    let bytes = if content.number(2)? & 1 == 1 { 4 } else { 2 }; // the version, then the flags
    let (rows, columns) = (content.number(1)? as u32 + 1, content.number(1)? as u32 + 1);
    let whole = (content.number(bytes)? as u32, content.number(bytes)? as u32);
    let parts = boxes.referred(item, b"dimg");
    let (width, height) = boxes.size(*parts.first()?)?;
    let same = parts.iter().all(|&part| boxes.size(part) == Some((width, height)) && part != item);
    let (wide, high) = (width.checked_mul(columns)?, height.checked_mul(rows)?);
    if width.min(height) < PART_MIN
        || !same
        || parts.len() != (rows * columns) as usize
        || boxes.size(item) != Some(whole)
    {
        return None;
    }
    if wide < whole.0 || high < whole.1 || wide - width >= whole.0 || high - height >= whole.1 {
        return None;
    }
    Some(limits.check(wide, high).map(|()| (columns, parts)))
}

/// Width and height of an item of which everything that matters is known.
fn size(boxes: &Boxes<'_>, item: u32, limits: Limits) -> Result<(u32, u32)> {
    for (must, kind, content) in boxes.properties(item) {
        let known = match &kind {
            b"a1op" => content == [0],          // the first of several sets of layers
            b"lsel" => content == [0xFF, 0xFF], // all layers
            kind => !must || KNOWN.contains(&kind),
        };
        if !known {
            return Err(damaged(format!("an AVIF with the property {}", kind.escape_ascii())));
        }
    }
    match boxes.size(item) {
        Some((width, height)) if width > 0 && height > 0 => limits.check(width, height).map(|()| (width, height)),
        _ => Err(damaged("an item of an AVIF without a size")),
    }
}

fn is_opacity(boxes: &Boxes<'_>, item: u32) -> bool {
    let name = boxes.property(item, b"auxC").and_then(|content| content.get(4..));
    name.is_some_and(|name| OPACITY.iter().any(|known| name.starts_with(known)))
}

/// What an item says of its colours in this form.
fn colour_box<'a>(boxes: &Boxes<'a>, item: u32, form: &[u8; 4]) -> Option<&'a [u8]> {
    let mut found = boxes.properties(item).filter(|(_, kind, _)| kind == b"colr");
    found.find_map(|(_, _, content)| content.strip_prefix(form))
}

/// How the colours are coded, where the item says so.
fn coding(boxes: &Boxes<'_>, item: u32) -> Option<Coding> {
    let mut content = Bytes(colour_box(boxes, item, b"nclx")?);
    content.take(4)?; // primaries and curve
    Some(Coding { matrix: content.number(2)? as u16, full: content.number(1)? & 0x80 != 0 })
}

fn orientation(boxes: &Boxes<'_>, item: u32) -> Orientation {
    let value = |kind| boxes.property(item, kind).and_then(|content| content.first()).copied();
    let turned = value(b"irot").map_or(0, |angle| angle & 3);
    let mirrored = value(b"imir").map_or(0, |axis| 1 + (axis & 1));
    Orientation::from_exif(TURNS[usize::from(turned)][usize::from(mirrored)]).unwrap_or(Orientation::NoTransforms)
}

fn exif(boxes: &Boxes<'_>) -> Option<Vec<u8>> {
    let item = boxes.referring(boxes.primary, b"cdsc").find(|&item| boxes.kind(item) == Some(b"Exif"))?;
    let content = boxes.content(item)?;
    let mut rest = Bytes(&content);
    let start = rest.number(4)? as usize;
    rest.0.get(start..).map(<[u8]>::to_vec)
}

/// Takes the opacity out of colours that were multiplied by it.
fn unmultiply(pixel: &mut [u8; 4]) {
    let [colours @ .., opacity] = pixel;
    let opacity = u16::from(*opacity);
    for value in colours.iter_mut().filter(|_| opacity > 0) {
        *value = ((u16::from(*value) * 255 + opacity / 2) / opacity).min(255) as u8;
    }
}

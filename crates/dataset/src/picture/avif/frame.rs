//! One coded picture to its planes, by libaom.

use aom_decode::color::{ChromaSampling, Range};
use aom_decode::{Config, Decoder, RowsIter, RowsIters};

use super::colours::{Chroma, Coding, Planes};
use super::stream::Stream;
use super::{Limits, Result, damaged};

/// The planes of an item of this size, and how its data says they are coded.
pub(super) fn decode(content: &[u8], width: u32, height: u32, limits: Limits) -> Result<(Planes, Coding)> {
    let stream = Stream::read(content).ok_or_else(|| damaged("no picture of AV1, or one that is cut off"))?;
    limits.check(stream.width, stream.height.saturating_mul(stream.frames))?;
    let mut decoder = Decoder::new(&Config { threads: 1 }).map_err(damaged)?;
    let frame = decoder.decode_frame(&stream.bytes).map_err(damaged)?;
    let matrix = frame.matrix_coefficients().map_or(2, |matrix| matrix as u16);
    let coding = Coding { matrix, full: frame.range() == Range::Full };
    let planes = match frame.rows_iter().map_err(damaged)? {
        RowsIters::Mono8(luma) => planes(8, luma, None, u16::from),
        RowsIters::Mono16(luma, depth) => planes(depth as u32, luma, None, u16::from_ne_bytes),
        RowsIters::YuvPlanes8 { y, u, v, chroma_sampling } => planes(8, y, Some((u, v, chroma_sampling)), u16::from),
        RowsIters::YuvPlanes16 { y, u, v, chroma_sampling, depth } => {
            planes(depth as u32, y, Some((u, v, chroma_sampling)), u16::from_ne_bytes)
        }
    };
    match planes {
        planes if (planes.width, planes.height) == (width as usize, height as usize) => Ok((planes, coding)),
        _ => Err(damaged("a picture of another size than its box says")),
    }
}

type Pair<'a, T> = (RowsIter<'a, T>, RowsIter<'a, T>, ChromaSampling);

fn planes<T: Copy>(bits: u32, luma: RowsIter<'_, T>, chroma: Option<Pair<'_, T>>, to: fn(T) -> u16) -> Planes {
    let all = |rows: RowsIter<'_, T>| {
        let mut all = Vec::with_capacity(rows.width() * rows.height());
        rows.for_each(|row| all.extend(row.iter().map(|&value| to(value))));
        all
    };
    let (width, height) = (luma.width(), luma.height());
    let chroma = chroma.map(|(blue, red, sampling)| Chroma {
        width: blue.width(),
        blue: all(blue),
        red: all(red),
        half_width: sampling != ChromaSampling::Cs444,
        half_height: sampling == ChromaSampling::Cs420,
    });
    Planes { width, height, bits, luma: all(luma), chroma }
}

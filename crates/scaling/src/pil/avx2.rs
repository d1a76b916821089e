//! The same two passes for processors with AVX2, which multiplies sixteen numbers of 16 bits and adds them in pairs.
//!
//! A weight has 24 bits with its sign, so it is taken apart: into a multiple of 2048 and a rest below, both of which fit.

use std::arch::x86_64::{__m128i, __m256i};
use std::ops::Range;

use pulp::x86::V3;

use super::{HALF, PRECISION, Weights, byte};

const SHIFT: i32 = 11;

pub(super) struct Passes<'a> {
    pub(super) simd: V3,
    pub(super) passes: super::Passes<'a>,
}

impl pulp::NullaryFnOnce for Passes<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn call(self) -> Vec<u8> {
        let super::Passes { rgb, line, columns, rows, down_first } = self.passes;
        if down_first {
            return across(self.simd, &down(self.simd, rgb, line, &rows, 0), line, &columns);
        }
        let (first, last) = rows.span();
        let narrow = across(self.simd, &rgb[first * line..last * line], line, &columns);
        down(self.simd, &narrow, columns.firsts.len() * 3, &rows, first)
    }
}

/// Lines of `line` bytes to shorter ones: what is side by side is put below each other and back, for which sixteen lines
/// are as many numbers at once.
#[inline(always)]
fn across(simd: V3, rgb: &[u8], line: usize, columns: &Weights) -> Vec<u8> {
    let (first, last) = columns.span();
    let lines = rgb.len() / line;
    let turned = turned(simd, rgb, line, first * 3..last * 3);
    let narrow = down(simd, &turned, 3 * lines, columns, first);
    self::turned(simd, &narrow, lines, 0..lines)
}

/// What stands in `columns` of the lines of bytes, column after column.
#[inline(always)]
fn turned(simd: V3, bytes: &[u8], line: usize, columns: Range<usize>) -> Vec<u8> {
    const SIDE: usize = 16;
    let lines = bytes.len() / line;
    let mut out = vec![0; columns.len() * lines];
    let whole = (lines / SIDE * SIDE, columns.len() / SIDE * SIDE);
    for top in (0..whole.0).step_by(SIDE) {
        for left in (0..whole.1).step_by(SIDE) {
            let mut block: [__m128i; SIDE] = [simd.sse2._mm_setzero_si128(); SIDE];
            for (row, number) in block.iter_mut().zip(top..) {
                if let Some(&part) = bytes[number * line + columns.start + left..].first_chunk::<SIDE>() {
                    *row = pulp::cast(part);
                }
            }
            // Each round doubles how many bytes of a column are together (Eklundh, 1972).
            for _ in 0..4 {
                let mut shuffled = block;
                for at in 0..SIDE / 2 {
                    shuffled[2 * at] = simd.sse2._mm_unpacklo_epi8(block[at], block[at + SIDE / 2]);
                    shuffled[2 * at + 1] = simd.sse2._mm_unpackhi_epi8(block[at], block[at + SIDE / 2]);
                }
                block = shuffled;
            }
            for (row, number) in block.iter().zip(left..) {
                let row: [u8; SIDE] = pulp::cast(*row);
                out[number * lines + top..][..SIDE].copy_from_slice(&row);
            }
        }
    }
    for number in 0..lines {
        let from = if number < whole.0 { whole.1 } else { 0 };
        let pixels = &bytes[number * line..][columns.clone()];
        for (column, &byte) in pixels.iter().enumerate().skip(from) {
            out[column * lines + number] = byte;
        }
    }
    out
}

/// Lines of `line` bytes, the first of which is line `skipped` of the picture, to fewer lines.
#[inline(always)]
fn down(simd: V3, rgb: &[u8], line: usize, rows: &Weights, skipped: usize) -> Vec<u8> {
    let (avx, avx2) = (simd.avx, simd.avx2);
    let half = avx._mm256_set1_epi32(HALF);
    // What is behind the last weight that counts is 0, and its line may not be there.
    let last = rgb.len() / line - 1;
    let mut scaled = vec![0; rows.firsts.len() * line];
    // Of two lines each where they begin, and the upper and the lower parts of their weights.
    let mut pairs: Vec<([usize; 2], [__m256i; 2])> = Vec::with_capacity(rows.count.div_ceil(2));
    for (out, (first, weights)) in scaled.chunks_exact_mut(line).zip(rows.each()) {
        pairs.clear();
        for (number, two) in weights.chunks(2).enumerate() {
            let two = [two[0], two.get(1).copied().unwrap_or(0)];
            let starts = [0, 1].map(|second| (first - skipped + 2 * number + second).min(last) * line);
            let [upper, lower]: [__m128i; 2] = [pulp::cast(parts(two, high)), pulp::cast(parts(two, low))];
            pairs.push((starts, [avx2._mm256_broadcastsi128_si256(upper), avx2._mm256_broadcastsi128_si256(lower)]));
        }
        let (wide, rest) = out.as_chunks_mut::<16>();
        for (at, out) in wide.iter_mut().enumerate() {
            let mut sums = [half; 2];
            let mut uppers = [avx._mm256_setzero_si256(); 2];
            for ([first, second], [high, low]) in &pairs {
                let (Some(&first), Some(&second)) =
                    (rgb[first + 16 * at..].first_chunk::<16>(), rgb[second + 16 * at..].first_chunk::<16>())
                else {
                    continue;
                };
                let (first, second): (__m128i, __m128i) = (pulp::cast(first), pulp::cast(second));
                let near = avx2._mm256_cvtepu8_epi16(simd.sse2._mm_unpacklo_epi8(first, second));
                let far = avx2._mm256_cvtepu8_epi16(simd.sse2._mm_unpackhi_epi8(first, second));
                uppers[0] = avx2._mm256_add_epi32(uppers[0], avx2._mm256_madd_epi16(near, *high));
                uppers[1] = avx2._mm256_add_epi32(uppers[1], avx2._mm256_madd_epi16(far, *high));
                sums[0] = avx2._mm256_add_epi32(sums[0], avx2._mm256_madd_epi16(near, *low));
                sums[1] = avx2._mm256_add_epi32(sums[1], avx2._mm256_madd_epi16(far, *low));
            }
            let near = avx2._mm256_add_epi32(sums[0], avx2._mm256_slli_epi32::<SHIFT>(uppers[0]));
            let far = avx2._mm256_add_epi32(sums[1], avx2._mm256_slli_epi32::<SHIFT>(uppers[1]));
            let near = avx2._mm256_srai_epi32::<{ PRECISION as i32 }>(near);
            let far = avx2._mm256_srai_epi32::<{ PRECISION as i32 }>(far);
            // Packing takes turns between the halves of its registers.
            let words = avx2._mm256_permute4x64_epi64::<0b11_01_10_00>(avx2._mm256_packs_epi32(near, far));
            let [words, more]: [__m128i; 2] = pulp::cast(words);
            *out = pulp::cast(simd.sse2._mm_packus_epi16(words, more));
        }
        let start = line - rest.len();
        for (at, out) in rest.iter_mut().enumerate() {
            let mut sum = HALF;
            for (weight, pixels) in weights.iter().zip(rgb.chunks_exact(line).skip(first - skipped)) {
                sum += weight * i32::from(pixels[start + at]);
            }
            *out = byte(sum);
        }
    }
    scaled
}

fn high(weight: i32) -> i16 {
    (weight >> SHIFT) as i16
}

fn low(weight: i32) -> i16 {
    (weight & ((1 << SHIFT) - 1)) as i16
}

/// The parts of two weights, four times.
fn parts([first, second]: [i32; 2], part: fn(i32) -> i16) -> [i16; 8] {
    let (first, second) = (part(first), part(second));
    [first, second, first, second, first, second, first, second]
}

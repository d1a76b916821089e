//! Rows as one bit a value, and the products of a query with 32 of them at once.
//!
//! What is left of a rotated row when the centre of its list is taken away is kept as the signs of its values and one factor,
//! chosen so that the estimated product of a row with itself is right: then the product with any vector is right on average
//! (RaBitQ, Gao and Long 2024, arXiv 2405.12497). Signs of four values at a time name one of sixteen sums of a query's
//! values, which a processor looks up for 32 rows in one instruction (fast scan, André, Kermarrec and Le Scouarnec 2015).
//!
//! ```text
//! block of 32 rows: for every four values 16 bytes, byte i of which has row i in the low and row i + 16 in the high four bits
//!                   32 x f32le factor     32 x u32le row
//! ```

/// Rows of a block.
pub(crate) const LANES: usize = 32;

/// By how much an estimate is off, as a standard deviation in units of the factor, for a query of length one: a normally
/// distributed vector has 0.8 of its length along its signs, and what is lost of it is 0.6 of that.
const DEVIATION: f32 = 0.6;

/// Bytes of the signs of a block of rows with so many values.
pub(crate) fn sign_bytes(values: usize) -> usize {
    values / 4 * 16
}

/// Bytes of a block.
pub(crate) fn block_bytes(values: usize) -> usize {
    sign_bytes(values) + LANES * 8
}

/// Signs of a row, four values in the low half of each byte, and its factor.
pub(crate) fn encode(rest: &[f32], signs: &mut Vec<u8>) -> f32 {
    let (mut square, mut length) = (0.0f32, 0.0f32);
    for value in rest {
        square += value * value;
        length += value.abs();
    }
    signs.extend(
        rest.chunks_exact(4)
            .map(|four| four.iter().enumerate().fold(0, |bits, (at, value)| bits | u8::from(*value >= 0.0) << at)),
    );
    if length > 0.0 { square / length } else { 0.0 }
}

/// Puts the signs of a row into a block.
pub(crate) fn pack(signs: &[u8], lane: usize, block: &mut [u8]) {
    let shift = if lane < LANES / 2 { 0 } else { 4 };
    for (at, bits) in signs.iter().enumerate() {
        block[at * 16 + lane % 16] |= bits << shift;
    }
}

/// A rotated query.
#[derive(Debug)]
pub(crate) struct Query {
    /// For every four values the sums that their signs can make, from zero up, in units.
    table: Vec<u8>,
    unit: f32,
    /// What zero stands for.
    least: f32,
    /// By how much an estimate may be off, in units of the factor.
    slack: f32,
}

/// Blocks that are fetched ahead of a scan: processors do so by themselves, but not beyond a page of 4096 bytes.
pub(crate) const AHEAD: usize = 8;

/// What a scan found in one list.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    /// Estimated products of all rows, 32 a block.
    pub(crate) estimates: Vec<f32>,
    /// A bit for every row that may be above the bar.
    pub(crate) above: Vec<u32>,
}

impl Query {
    /// The query, and how many standard deviations an estimate may be off.
    pub(crate) fn new(rotated: &[f32], deviations: f32) -> Self {
        let fours = rotated.as_chunks::<4>().0;
        let range = |four: &[f32; 4]| four.iter().map(|value| value.abs()).sum::<f32>();
        let widest = fours.iter().map(range).fold(f32::MIN_POSITIVE, f32::max);
        let unit = 2.0 * widest / 255.0;
        let mut table = Vec::with_capacity(fours.len() * 16);
        for four in fours {
            let least = -range(four);
            table.extend((0..16).map(|bits| {
                let sum: f32 = (0..4).map(|at| if bits >> at & 1 == 1 { four[at] } else { -four[at] }).sum();
                ((sum - least) / unit).round() as u8
            }));
        }
        let length = rotated.iter().map(|value| value * value).sum::<f32>().sqrt();
        let least = -fours.iter().map(range).sum::<f32>();
        Self { table, unit, least, slack: DEVIATION * deviations * length }
    }

    /// By how much a row with this factor may be above its estimate.
    pub(crate) fn slack(&self, factor: f32) -> f32 {
        factor * self.slack
    }

    /// Estimates the products with blocks of rows, to which that with their centre is added, and finds those that may be
    /// above `bar`.
    pub(crate) fn scan(&self, blocks: &[u8], centre: f32, bar: f32, out: &mut Scanned) {
        let count = blocks.len() / block_bytes(self.table.len() / 4);
        out.estimates.clear();
        out.estimates.resize(count * LANES, 0.0);
        out.above.clear();
        out.above.resize(count, 0);
        // Sums of 256 looked-up values fit in 16 bits: longer vectors take the slower way.
        #[cfg(target_arch = "x86_64")]
        if self.table.len() <= 16 * 256
            && let Some(simd) = pulp::x86::V3::try_new()
        {
            return simd.vectorize(avx2::Scan { simd, query: self, blocks, centre, bar, out });
        }
        self.scan_portably(blocks, centre, bar, out);
    }

    fn scan_portably(&self, blocks: &[u8], centre: f32, bar: f32, out: &mut Scanned) {
        let signs = self.table.len();
        for (at, block) in blocks.chunks_exact(block_bytes(signs / 4)).enumerate() {
            let mut sums = [0u32; LANES];
            for (codes, table) in block[..signs].as_chunks::<16>().0.iter().zip(self.table.as_chunks::<16>().0) {
                for lane in 0..16 {
                    sums[lane] += u32::from(table[usize::from(codes[lane] & 15)]);
                    sums[lane + 16] += u32::from(table[usize::from(codes[lane] >> 4)]);
                }
            }
            for (lane, factor) in factors(&block[signs..]).enumerate() {
                let estimate = centre + factor * (sums[lane] as f32 * self.unit + self.least);
                out.estimates[at * LANES + lane] = estimate;
                out.above[at] |= u32::from(estimate + factor * self.slack > bar) << lane;
            }
        }
    }
}

/// Factors of a block, from what follows its signs.
pub(crate) fn factors(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0[..LANES].iter().map(|&bytes| f32::from_le_bytes(bytes))
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{__m128i, __m256i};

    use pulp::x86::V3;

    use super::{AHEAD, LANES, Query, Scanned, block_bytes};
    use crate::map::fetch;

    pub(super) struct Scan<'a> {
        pub(super) simd: V3,
        pub(super) query: &'a Query,
        pub(super) blocks: &'a [u8],
        pub(super) centre: f32,
        pub(super) bar: f32,
        pub(super) out: &'a mut Scanned,
    }

    impl pulp::NullaryFnOnce for Scan<'_> {
        type Output = ();

        // Plain loops, since closures would not be compiled for the same instructions.
        #[inline(always)]
        fn call(self) {
            let (avx, avx2) = (self.simd.avx, self.simd.avx2);
            let signs = self.query.table.len();
            let table = self.query.table.as_chunks::<32>().0;
            let low = avx._mm256_set1_epi8(15);
            let zero = avx._mm256_setzero_si256();
            let unit = avx._mm256_set1_ps(self.query.unit);
            let least = avx._mm256_set1_ps(self.query.least);
            let slack = avx._mm256_set1_ps(self.query.slack);
            let centre = avx._mm256_set1_ps(self.centre);
            let bar = avx._mm256_set1_ps(self.bar);
            let results = self.out.estimates.as_chunks_mut::<LANES>().0.iter_mut().zip(&mut self.out.above);
            let bytes = block_bytes(signs / 4);
            for (at, (estimates, above)) in results.enumerate() {
                let block = &self.blocks[at * bytes..][..bytes];
                if let Some(ahead) = self.blocks.get((at + AHEAD) * bytes..(at + AHEAD + 1) * bytes) {
                    fetch(ahead);
                }
                let codes = block[..signs].as_chunks::<32>().0;
                let factors = block[signs..].as_chunks::<32>().0;
                // Bytes are added in pairs, as numbers of 16 bits; what the odd ones carry into the even ones is taken
                // away afterwards.
                let (mut pairs_low, mut odd_low, mut pairs_high, mut odd_high) = (zero, zero, zero, zero);
                for (codes, table) in codes.iter().zip(table) {
                    let codes: __m256i = pulp::cast(*codes);
                    let table: __m256i = pulp::cast(*table);
                    let first = avx2._mm256_shuffle_epi8(table, avx2._mm256_and_si256(codes, low));
                    let codes = avx2._mm256_and_si256(avx2._mm256_srli_epi16::<4>(codes), low);
                    let second = avx2._mm256_shuffle_epi8(table, codes);
                    pairs_low = avx2._mm256_add_epi16(pairs_low, first);
                    odd_low = avx2._mm256_add_epi16(odd_low, avx2._mm256_srli_epi16::<8>(first));
                    pairs_high = avx2._mm256_add_epi16(pairs_high, second);
                    odd_high = avx2._mm256_add_epi16(odd_high, avx2._mm256_srli_epi16::<8>(second));
                }
                let mut bits = 0;
                for (half, (pairs, odd)) in [(pairs_low, odd_low), (pairs_high, odd_high)].into_iter().enumerate() {
                    let even = avx2._mm256_sub_epi16(pairs, avx2._mm256_slli_epi16::<8>(odd));
                    let first = avx2._mm256_unpacklo_epi16(even, odd);
                    let second = avx2._mm256_unpackhi_epi16(even, odd);
                    // The two halves of a register hold the sums of every other four values.
                    let all = avx2._mm256_add_epi16(
                        avx2._mm256_permute2x128_si256::<0x20>(first, second),
                        avx2._mm256_permute2x128_si256::<0x31>(first, second),
                    );
                    let sums: [__m128i; 2] = pulp::cast(all);
                    for (quarter, sums) in sums.into_iter().enumerate() {
                        let at = 2 * half + quarter;
                        let sums = avx._mm256_cvtepi32_ps(avx2._mm256_cvtepu16_epi32(sums));
                        let product = avx._mm256_add_ps(avx._mm256_mul_ps(sums, unit), least);
                        let factor = pulp::cast(factors[at]);
                        let estimate = avx._mm256_add_ps(centre, avx._mm256_mul_ps(factor, product));
                        let most = avx._mm256_add_ps(estimate, avx._mm256_mul_ps(factor, slack));
                        const GREATER: i32 = 0x1E; // _CMP_GT_OQ
                        let greater = avx._mm256_movemask_ps(avx._mm256_cmp_ps::<GREATER>(most, bar));
                        bits |= (greater as u32) << (8 * at);
                        let values: [f32; 8] = pulp::cast(estimate);
                        estimates[8 * at..8 * at + 8].copy_from_slice(&values);
                    }
                }
                *above = bits;
            }
        }
    }
}

/// The product of two vectors, in 32 sums, which the compiler keeps in registers.
pub(crate) fn product(a: &[f32], b: &[f32]) -> f32 {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let mut sums = [0.0f32; 32];
            let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<32>(), b.as_chunks::<32>());
            for (a, b) in a.iter().zip(b) {
                for lane in 0..32 {
                    sums[lane] += a[lane] * b[lane];
                }
            }
            sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
        },
    )
}

/// The same of float16 values, as they lie in a file; infinite ones and those that are no numbers stay so.
pub(crate) fn half_product(halves: &[u8], b: &[f32]) -> f32 {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let mut sums = [0.0f32; 32];
            let halves = halves.as_chunks::<2>().0;
            let ((a, a_rest), (b, b_rest)) = (halves.as_chunks::<32>(), b.as_chunks::<32>());
            for (a, b) in a.iter().zip(b) {
                for lane in 0..32 {
                    sums[lane] += widened(a[lane]) * b[lane];
                }
            }
            sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(&a, b)| widened(a) * b).sum::<f32>()
        },
    )
}

/// A float16 as float32, without a branch: the compiler makes eight at once of it.
#[inline(always)]
fn widened(half: [u8; 2]) -> f32 {
    let half = u32::from(u16::from_le_bytes(half));
    // Its exponent counts from 15, that of float32 from 127.
    let size = f32::from_bits((half & 0x7FFF) << 13) * f32::from_bits((127 + 127 - 15) << 23);
    let infinite = if half & 0x7C00 == 0x7C00 { 0x7F80_0000 } else { 0 };
    f32::from_bits(size.to_bits() | (half & 0x8000) << 16 | infinite)
}

#[cfg(test)]
mod tests {
    use super::super::rotation::random;
    use super::*;

    fn vector(seed: &mut u64, values: usize) -> Vec<f32> {
        (0..values).map(|_| (0..4).map(|_| (random(seed) >> 40) as f32 / (1 << 24) as f32 - 0.5).sum()).collect()
    }

    fn block(rows: &[Vec<f32>], values: usize) -> Vec<u8> {
        let mut block = vec![0; block_bytes(values)];
        for (lane, row) in rows.iter().enumerate() {
            let mut signs = Vec::new();
            let factor = encode(row, &mut signs);
            pack(&signs, lane, &mut block);
            block[sign_bytes(values) + lane * 4..][..4].copy_from_slice(&factor.to_le_bytes());
        }
        block
    }

    #[test]
    fn float16_becomes_float32_whatever_it_is() {
        for bits in 0..=u16::MAX {
            let (ours, expected) = (widened(bits.to_le_bytes()), half::f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == expected.to_bits() || ours.is_nan() && expected.is_nan(), "{bits:#06x}");
        }
    }

    #[test]
    fn estimates_are_right_on_average_and_as_far_off_as_is_said() {
        let mut seed = 7;
        for values in [8, 64, 512, 768, 1024, 1280] {
            let (mut off, mut square, mut count) = (0.0f64, 0.0f64, 0);
            for _ in 0..40 {
                let rows: Vec<Vec<f32>> = (0..LANES).map(|_| vector(&mut seed, values)).collect();
                let blocks = block(&rows, values);
                let wanted = vector(&mut seed, values);
                let query = Query::new(&wanted, 1.0);
                let mut found = Scanned::default();
                query.scan(&blocks, 0.5, f32::INFINITY, &mut found);
                assert_eq!(found.above, [0]);
                let factors = factors(&blocks[sign_bytes(values)..]);
                for ((row, estimate), factor) in rows.iter().zip(&found.estimates).zip(factors) {
                    let deviations = f64::from((estimate - 0.5 - product(row, &wanted)) / query.slack(factor));
                    (off, square, count) = (off + deviations, square + deviations * deviations, count + 1);
                }
            }
            let (mean, deviation) = (off / f64::from(count), (square / f64::from(count)).sqrt());
            assert!(mean.abs() < 0.1, "{values} values: {mean}");
            assert!((0.8..1.2).contains(&deviation), "{values} values: {deviation}");
        }
    }

    #[test]
    fn both_ways_to_scan_find_the_same() {
        let mut seed = 8;
        for values in [8, 24, 512, 1024] {
            let rows: Vec<Vec<f32>> = (0..LANES - 3).map(|_| vector(&mut seed, values)).collect();
            let blocks = [block(&rows, values), block(&rows[5..], values)].concat();
            let query = Query::new(&vector(&mut seed, values), 2.0);
            let (mut found, mut portably) = (Scanned::default(), Scanned::default());
            query.scan(&blocks, 0.1, 0.2, &mut found);
            portably.estimates.resize(2 * LANES, 0.0);
            portably.above.resize(2, 0);
            query.scan_portably(&blocks, 0.1, 0.2, &mut portably);
            assert!(found.above[0] != 0 && found.above[0] != u32::MAX, "{:x?}", found.above);
            assert_eq!(found.above, portably.above);
            for (a, b) in found.estimates.iter().zip(&portably.estimates) {
                assert!((a - b).abs() <= 1e-5 * a.abs().max(1.0), "{a} {b}");
            }
        }
    }
}

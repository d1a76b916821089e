//! Rows in lists, so that a search looks at the lists nearest to its query alone: an inverted file.
//!
//! ```text
//! "L4LISTS1"  u32le values of a row, padded  u32le lists  u64le rows     then zeros to 64
//! lists x values x f32le        centres, rotated
//! (lists + 1) x u64le           the block each list starts with
//! blocks of 32 rows             see codes.rs; a list's last block may have fewer rows, the numbers of the others are u32::MAX
//! ```
//! Signs and factors of the blocks tell which rows may be among the best; only of these the float16 values are looked at.

mod clusters;
mod codes;
mod rotation;
mod write;

use std::path::Path;

use dataset::{Error, Result};
use memmap2::Mmap;

use crate::hits::Best;
use crate::map::fetch;
use codes::{AHEAD, LANES, Query, Scanned, block_bytes, product, sign_bytes};
use rotation::Rotation;

pub(crate) use codes::half_product;
pub(crate) use rotation::drawn;
pub(crate) use write::write;

const MAGIC: &[u8; 8] = b"L4LISTS1";
const HEADER_BYTES: usize = 64;
/// How sure a search is that no row it leaves out is among the best, in standard deviations of what signs lose.
const DEVIATIONS: f32 = 2.0;
/// Results that the number of lists to look at was found for.
pub(crate) const DEPTH: usize = 10;
/// Lists whose products are taken for the order, in any case: estimates of few would leave out some of the nearest.
const CHECKED_LEAST: usize = 64;
/// Rows that are fetched at once, for they are far apart in memory, and one after the other each would be waited for.
const FETCHED: usize = 8;
/// By which power of the results wanted the lists to look at grow.
const GROWTH: f32 = 0.5;

/// Lists in a mapped file.
#[derive(Debug)]
pub(crate) struct Lists {
    map: Mmap,
    rotation: Rotation,
    centres: Vec<f32>,
    /// The centres themselves as codes: a list whose centre is zero.
    coded: Vec<u8>,
    starts: Vec<u64>,
    blocks: usize,
    rows: usize,
    probes: usize,
}

/// What a search does with a row.
pub(crate) trait Rows {
    /// Whether a row may be found.
    fn admits(&self, row: usize) -> bool;
    /// The product with the query.
    fn product(&self, row: usize) -> f32;
    /// Fetches a row whose product is wanted soon.
    fn fetch(&self, row: usize);
}

/// The estimate of a row, its number, and its factor.
type Found = (f32, usize, f32);

impl Lists {
    /// Checks the parts of a file of so many rows with so many values, of which a search looks at `probes` lists.
    pub(crate) fn parse(path: &Path, map: Mmap, rows: usize, dimensions: usize, probes: usize) -> Result<Self> {
        let wrong = |cause: &str| Error::format(path, cause);
        let header = map.get(..HEADER_BYTES).ok_or_else(|| wrong("cut off"))?;
        if &header[..8] != MAGIC {
            return Err(wrong("not a file of lists"));
        }
        let number =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize;
        let (values, lists) = (number(8), number(12));
        let rotation = Rotation::new(dimensions);
        if values != rotation.padded() || number(16) | number(20) << 32 != rows {
            return Err(wrong(&format!("not of {rows} rows with {dimensions} values")));
        }
        let end_of_centres = lists.checked_mul(values * 4).map(|bytes| HEADER_BYTES + bytes);
        let parts = end_of_centres.and_then(|centres| {
            let starts = centres.checked_add((lists + 1) * 8)?;
            Some((map.get(HEADER_BYTES..centres)?, map.get(centres..starts)?, starts))
        });
        let (centres, starts, blocks) = parts.ok_or_else(|| wrong("cut off in its centres"))?;
        let centres: Vec<f32> = centres.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let starts: Vec<u64> = starts.as_chunks().0.iter().map(|&bytes| u64::from_le_bytes(bytes)).collect();
        let whole = (map.len() - blocks) / block_bytes(values);
        if lists == 0 || starts[0] != 0 || !starts.is_sorted() || starts[lists] != whole as u64 {
            return Err(wrong("its lists do not fill it"));
        }
        let coded = write::blocks(values, (0u32..).zip(centres.chunks_exact(values)));
        Ok(Self { map, rotation, centres, coded, starts, blocks, rows, probes: probes.clamp(1, lists) })
    }

    /// Looks for the rows with the largest products. `probes` are the lists to look at, where it is not for the file to say.
    pub(crate) fn search(&self, query: &[f32], probes: Option<usize>, rows: &impl Rows, best: &mut Best) {
        let turned = self.rotation.turn(query);
        let coded = Query::new(&turned, DEVIATIONS);
        let mut scanned = Scanned::default();
        let expected = probes.unwrap_or_else(|| self.probes_for(best.wanted() as f32));
        let mut ranking = self.ranking(&turned, &coded, expected, &mut scanned);
        let (mut asked, mut admitted) = (1.0f32, 1.0f32);
        let mut found: Vec<Found> = Vec::new();
        let mut looked_at = 0;
        while let Some((list, centre)) = ranking.next(self, &turned) {
            // Of rows of which few are admitted one has to look as deep as for many.
            let wanted = probes.unwrap_or_else(|| self.probes_for(best.wanted() as f32 * asked / admitted));
            if looked_at >= wanted && best.is_full() {
                break;
            }
            looked_at += 1;
            let blocks = self.blocks_of(list);
            if let Some(&(_, next)) = ranking.order.get(ranking.at) {
                // Lists are far apart.
                let next = self.blocks_of(next as usize);
                fetch(&next[..next.len().min(AHEAD * block_bytes(turned.len()))]);
            }
            coded.scan(blocks, centre, best.bar(), &mut scanned);
            found.clear();
            let (bytes, signs) = (block_bytes(turned.len()), sign_bytes(turned.len()));
            for (at, &above) in scanned.above.iter().enumerate() {
                let mut above = above;
                while above != 0 {
                    let lane = above.trailing_zeros() as usize;
                    above &= above - 1;
                    let block = &blocks[at * bytes + signs..][..LANES * 8];
                    let word = |at: usize| [block[at], block[at + 1], block[at + 2], block[at + 3]];
                    let row = u32::from_le_bytes(word(LANES * 4 + lane * 4)) as usize;
                    // The last block of a list has places without rows, and damage may name any.
                    if row < self.rows {
                        let factor = f32::from_le_bytes(word(lane * 4));
                        found.push((scanned.estimates[at * LANES + lane], row, factor));
                    }
                }
            }
            // Best first, so that the bar soon is where it will stay.
            found.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            for some in found.chunks(FETCHED) {
                let is_below = |&(estimate, _, factor): &Found, bar: f32| estimate + coded.slack(factor) <= bar;
                let bar = best.bar();
                some.iter().filter(|found| !is_below(found, bar)).for_each(|&(_, row, _)| rows.fetch(row));
                for found in some {
                    if is_below(found, best.bar()) {
                        continue;
                    }
                    let row = found.1;
                    asked += 1.0;
                    if rows.admits(row) {
                        admitted += 1.0;
                        best.push(row, rows.product(row));
                    }
                }
            }
        }
    }

    /// Lists to look at for so many results.
    fn probes_for(&self, results: f32) -> usize {
        let deeper = (results / DEPTH as f32).max(1.0).powf(GROWTH);
        (self.probes as f32 * deeper) as usize
    }

    fn centre(&self, list: usize) -> &[f32] {
        let values = self.rotation.padded();
        &self.centres[list * values..][..values]
    }

    fn blocks_of(&self, list: usize) -> &[u8] {
        let bytes = block_bytes(self.rotation.padded());
        let (start, end) = (self.starts[list] as usize, self.starts[list + 1] as usize);
        &self.map[self.blocks + start * bytes..self.blocks + end * bytes]
    }

    /// How many lists there are.
    pub(crate) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Puts the lists in order of their centres' products: by estimates, of which twice as many are checked as are needed.
    fn ranking(&self, turned: &[f32], coded: &Query, probes: usize, scanned: &mut Scanned) -> Ranking {
        coded.scan(&self.coded, 0.0, f32::INFINITY, scanned);
        let mut order: Vec<(f32, u32)> = scanned.estimates[..self.len()].iter().copied().zip(0..).collect();
        let checked = (2 * probes + CHECKED_LEAST).min(order.len());
        if checked < order.len() {
            order.select_nth_unstable_by(checked, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        }
        for (score, list) in &mut order[..checked] {
            *score = product(self.centre(*list as usize), turned);
        }
        order[..checked].sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        Ranking { order, checked, at: 0 }
    }
}

/// Lists in order.
struct Ranking {
    order: Vec<(f32, u32)>,
    /// So many have their products, the others estimates, and are in no order.
    checked: usize,
    at: usize,
}

impl Ranking {
    /// The next list and the product with its centre.
    fn next(&mut self, lists: &Lists, turned: &[f32]) -> Option<(usize, f32)> {
        if self.at == self.checked {
            self.order[self.checked..].sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        }
        let &(score, list) = self.order.get(self.at)?;
        let list = list as usize;
        self.at += 1;
        Some((list, if self.at <= self.checked { score } else { product(lists.centre(list), turned) }))
    }
}

/// The number of lists for so many rows: as many lists as each has rows. With more of them a search would look at fewer rows,
/// but to build them costs the product of both.
pub(crate) fn lists_for(rows: usize) -> usize {
    (rows as f64).sqrt().round().max(1.0) as usize
}

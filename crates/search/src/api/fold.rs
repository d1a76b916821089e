//! Near-duplicates among results: clip-retrieval's rule, by which an inner product above 0.94 makes two the same.

use dataset::Embedding;

/// Two pictures are nearly the same above it (`clip_back.py`, `get_non_uniques`).
const SAME: f32 = 0.94;
/// Values that are added up at once, so that they can be in one register.
const LANES: usize = 16;

/// For every result, best first, the first result that it is nearly the same as, by itself or through others that are
/// nearly the same as both; itself where there is none. These are clip-retrieval's connected components.
pub(crate) fn groups(embeddings: &[Embedding]) -> Vec<usize> {
    let mut first: Vec<usize> = (0..embeddings.len()).collect();
    for this in 0..embeddings.len() {
        for before in 0..this {
            // What is in the same group already need not be compared.
            let (a, b) = (root(&mut first, before), root(&mut first, this));
            if a != b && same(&embeddings[before], &embeddings[this]) {
                first[a.max(b)] = a.min(b);
            }
        }
    }
    (0..embeddings.len()).map(|this| root(&mut first, this)).collect()
}

fn root(first: &mut [usize], mut this: usize) -> usize {
    while first[this] != this {
        first[this] = first[first[this]];
        this = first[this];
    }
    this
}

/// Leaves out what is nearly the same as a better result, itself left out or not. Whether a result stays follows from the
/// better ones alone, so that pages of results fit together however many results are looked at.
#[derive(Debug, Default)]
pub(super) struct Folding {
    came: usize,
    /// Those that stay: the place of each among those that came, and how many worse ones it stands for.
    kept: Vec<(usize, usize)>,
    stay: Vec<Embedding>,
    /// Those that are left out, each with the place in `kept` that it belongs to.
    left_out: Vec<(Embedding, usize)>,
}

impl Folding {
    /// The next result.
    pub(super) fn push(&mut self, embedding: Embedding) {
        // Most duplicates are of one that stays: these are looked at first.
        let of_kept = self.stay.iter().position(|seen| same(seen, &embedding));
        let of_others = || self.left_out.iter().find(|(seen, _)| same(seen, &embedding)).map(|(_, kept)| *kept);
        match of_kept.or_else(of_others) {
            Some(kept) => {
                self.kept[kept].1 += 1;
                self.left_out.push((embedding, kept));
            }
            None => {
                self.kept.push((self.came, 0));
                self.stay.push(embedding);
            }
        }
        self.came += 1;
    }

    /// Places of the results that stay, and how many worse ones each stands for.
    pub(super) fn kept(&self) -> &[(usize, usize)] {
        &self.kept
    }
}

fn same(a: &Embedding, b: &Embedding) -> bool {
    let (mut a, mut b) = (a.values().chunks_exact(LANES), b.values().chunks_exact(LANES));
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.by_ref().zip(b.by_ref()) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest > SAME
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unit vectors in a plane, by their angle in degrees; 0.94 is the cosine of 19.9.
    fn at(degrees: &[f32]) -> Vec<Embedding> {
        let vector = |degrees: &f32| {
            let mut values = vec![0.0; 20];
            (values[0], values[19]) = (degrees.to_radians().cos(), degrees.to_radians().sin());
            Embedding::normalized(values).expect("a direction")
        };
        degrees.iter().map(vector).collect()
    }

    #[test]
    fn groups_are_connected_components() {
        assert_eq!(groups(&at(&[0.0, 90.0, 15.0, 100.0, 180.0])), [0, 1, 0, 1, 4]);
        // 0 and 30 are joined by 15, which came last.
        assert_eq!(groups(&at(&[0.0, 30.0, 60.0, 15.0])), [0, 0, 2, 0]);
        assert!(groups(&[]).is_empty());
    }

    #[test]
    fn whether_a_result_stays_follows_from_the_better_ones() {
        let embeddings = at(&[0.0, 90.0, 15.0, 30.0, 180.0, 15.0]);
        for count in 0..=embeddings.len() {
            let mut folding = Folding::default();
            embeddings[..count].iter().cloned().for_each(|embedding| folding.push(embedding));
            let places: Vec<_> = folding.kept().iter().map(|(place, _)| *place).collect();
            let expected: Vec<_> = [0, 1, 4].into_iter().filter(|&place| place < count).collect();
            assert_eq!(places, expected, "of {count}");
        }
        let mut folding = Folding::default();
        embeddings.into_iter().for_each(|embedding| folding.push(embedding));
        assert_eq!(folding.kept(), [(0, 3), (1, 0), (4, 0)]);
    }
}

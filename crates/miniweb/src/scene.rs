//! Scenes: what a picture of the miniature web shows, and what people write about it.

use crate::random::Random;

/// A colour with its English name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Color {
    Red,
    Green,
    Blue,
    Yellow,
    Orange,
    Purple,
    Pink,
    Brown,
    Black,
    White,
    Gray,
}

impl Color {
    /// Every colour.
    pub const ALL: [Self; 11] = [
        Self::Red,
        Self::Green,
        Self::Blue,
        Self::Yellow,
        Self::Orange,
        Self::Purple,
        Self::Pink,
        Self::Brown,
        Self::Black,
        Self::White,
        Self::Gray,
    ];

    /// Its English name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Green => "green",
            Self::Blue => "blue",
            Self::Yellow => "yellow",
            Self::Orange => "orange",
            Self::Purple => "purple",
            Self::Pink => "pink",
            Self::Brown => "brown",
            Self::Black => "black",
            Self::White => "white",
            Self::Gray => "gray",
        }
    }

    /// Its sRGB value.
    pub fn rgb(self) -> [f32; 3] {
        match self {
            Self::Red => [214.0, 32.0, 38.0],
            Self::Green => [34.0, 150.0, 60.0],
            Self::Blue => [36.0, 84.0, 208.0],
            Self::Yellow => [246.0, 220.0, 44.0],
            Self::Orange => [246.0, 140.0, 26.0],
            Self::Purple => [124.0, 48.0, 168.0],
            Self::Pink => [248.0, 150.0, 190.0],
            Self::Brown => [124.0, 78.0, 42.0],
            Self::Black => [22.0, 22.0, 24.0],
            Self::White => [244.0, 244.0, 242.0],
            Self::Gray => [138.0, 140.0, 142.0],
        }
    }
}

/// An outline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Shape {
    Circle,
    Square,
    Triangle,
    Star,
    Heart,
    Ring,
    Cross,
    Diamond,
    Moon,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 9] = [
        Self::Circle,
        Self::Square,
        Self::Triangle,
        Self::Star,
        Self::Heart,
        Self::Ring,
        Self::Cross,
        Self::Diamond,
        Self::Moon,
    ];

    /// Its English noun, for one or for several.
    pub fn noun(self, count: usize) -> &'static str {
        match (self, count == 1) {
            (Self::Circle, true) => "circle",
            (Self::Circle, false) => "circles",
            (Self::Square, true) => "square",
            (Self::Square, false) => "squares",
            (Self::Triangle, true) => "triangle",
            (Self::Triangle, false) => "triangles",
            (Self::Star, true) => "star",
            (Self::Star, false) => "stars",
            (Self::Heart, true) => "heart",
            (Self::Heart, false) => "hearts",
            (Self::Ring, true) => "ring",
            (Self::Ring, false) => "rings",
            (Self::Cross, true) => "cross",
            (Self::Cross, false) => "crosses",
            (Self::Diamond, true) => "diamond",
            (Self::Diamond, false) => "diamonds",
            (Self::Moon, true) => "moon",
            (Self::Moon, false) => "moons",
        }
    }
}

/// What fills a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Texture {
    Plain,
    Striped,
    Spotted,
}

/// What lies behind the shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backdrop {
    /// One colour.
    Plain(Color),
    /// From the first at the top to the second at the bottom.
    Gradient(Color, Color),
    /// Diagonal stripes of both.
    Stripes(Color, Color),
    /// A chessboard of both.
    Checks(Color, Color),
}

/// Where a lone group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Place {
    Middle,
    Left,
    Right,
    Top,
    Bottom,
}

/// How the second group of two stands to the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Relation {
    Above,
    Below,
    LeftOf,
    RightOf,
}

impl Relation {
    fn words(self) -> &'static str {
        match self {
            Self::Above => "above",
            Self::Below => "below",
            Self::LeftOf => "to the left of",
            Self::RightOf => "to the right of",
        }
    }
}

/// Some equal shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// 1 to 4.
    pub count: usize,
    /// Large, not small.
    pub large: bool,
    /// What fills them.
    pub texture: Texture,
    /// Their colour.
    pub color: Color,
    /// Their outline.
    pub shape: Shape,
}

/// Everything a picture shows. Two scenes of the same seed are equal.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Behind everything.
    pub backdrop: Backdrop,
    /// The only group, or the first of two.
    pub first: Group,
    /// Where the lone group stands.
    pub place: Place,
    /// The second group: the first stands so to it.
    pub second: Option<(Relation, Group)>,
    /// Picks the jitter and the noise.
    pub seed: u64,
}

impl Scene {
    /// The `index`-th scene of the world `seed`.
    pub fn new(seed: u64, index: u64) -> Self {
        let mut random = Random::of(seed, index);
        let base = random.pick(&Color::ALL);
        let other = loop {
            let other = random.pick(&Color::ALL);
            if other != base {
                break other;
            }
        };
        let backdrop = match random.below(6) {
            0 => Backdrop::Gradient(base, other),
            1 => Backdrop::Stripes(base, other),
            2 => Backdrop::Checks(base, other),
            _ => Backdrop::Plain(base),
        };
        let mut taken = match backdrop {
            Backdrop::Plain(color) => vec![color],
            _ => vec![base, other],
        };
        let two = random.chance(0.35);
        let first = group(&mut random, &mut taken, if two { 2 } else { 4 });
        let place = random.pick(&[Place::Middle, Place::Left, Place::Right, Place::Top, Place::Bottom]);
        let second = two.then(|| {
            let relation = random.pick(&[Relation::Above, Relation::Below, Relation::LeftOf, Relation::RightOf]);
            (relation, group(&mut random, &mut taken, 2))
        });
        Self { backdrop, first, place, second, seed: random.bits() }
    }

    /// What somebody who describes this picture might write under it, in English.
    pub fn caption(&self, random: &mut Random) -> String {
        let subject = match &self.second {
            Some((relation, second)) => format!("{} {} {}", phrase(&self.first), relation.words(), phrase(second)),
            None if random.chance(0.5) => {
                let place = match self.place {
                    Place::Middle => "in the middle",
                    Place::Left => "on the left side",
                    Place::Right => "on the right side",
                    Place::Top => "at the top",
                    Place::Bottom => "at the bottom",
                };
                format!("{} {place}", phrase(&self.first))
            }
            None => phrase(&self.first),
        };
        let backdrop = match self.backdrop {
            Backdrop::Plain(color) => format!("{} {} background", article(color), color.name()),
            Backdrop::Gradient(from, to) => {
                format!("a background fading from {} to {}", from.name(), to.name())
            }
            Backdrop::Stripes(one, other) => {
                format!("a background with {} and {} stripes", one.name(), other.name())
            }
            Backdrop::Checks(one, other) => {
                format!("{} {} and {} checkered background", article(one), one.name(), other.name())
            }
        };
        let start =
            random.pick(&["", "", "", "A picture of ", "Drawing of ", "This image shows ", "Illustration with "]);
        let end = random.pick(&["", "", "", "", ", free to download", " - stock image", " for your wall"]);
        let text = match random.below(10) {
            0 => format!("{start}{subject}{end}"),
            1 => format!("{start}{backdrop} and {subject}{end}"),
            2 => format!("{start}{subject} with {backdrop}{end}"),
            _ => format!("{start}{subject} on {backdrop}{end}"),
        };
        let mut letters = text.chars();
        match letters.next() {
            Some(letter) if random.chance(0.5) => letter.to_uppercase().chain(letters).collect(),
            _ => text,
        }
    }

    /// What the picture shows in as few words as somebody types into a search box: `two red circles`.
    pub fn gist(&self) -> String {
        let group = |group: &Group| {
            let count = [article(group.color), "two", "three", "four"][group.count - 1];
            format!("{count} {} {}", group.color.name(), group.shape.noun(group.count))
        };
        match &self.second {
            Some((relation, second)) => format!("{} {} {}", group(&self.first), relation.words(), group(second)),
            None => group(&self.first),
        }
    }
}

fn group(random: &mut Random, taken: &mut Vec<Color>, most: usize) -> Group {
    let color = loop {
        let color = random.pick(&Color::ALL);
        if !taken.contains(&color) {
            break color;
        }
    };
    taken.push(color);
    let count = if random.chance(0.5) { 1 } else { 1 + random.below(most) };
    let texture = random.pick(&[Texture::Plain, Texture::Plain, Texture::Plain, Texture::Striped, Texture::Spotted]);
    Group { count, large: random.chance(0.6), texture, color, shape: random.pick(&Shape::ALL) }
}

fn article(color: Color) -> &'static str {
    if color == Color::Orange { "an" } else { "a" }
}

fn phrase(group: &Group) -> String {
    let count = ["a", "two", "three", "four"][group.count - 1];
    let size = if group.large { "large" } else { "small" };
    let texture = match group.texture {
        Texture::Plain => "",
        Texture::Striped => "striped ",
        Texture::Spotted => "spotted ",
    };
    format!("{count} {size} {texture}{} {}", group.color.name(), group.shape.noun(group.count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_and_its_caption_depend_on_nothing_but_the_seed() {
        let scene = Scene::new(7, 3);
        assert_eq!(scene, Scene::new(7, 3));
        assert_ne!(scene, Scene::new(7, 4));
        assert_eq!(scene.caption(&mut Random::new(1)), scene.caption(&mut Random::new(1)));
    }

    #[test]
    fn the_gist_names_what_is_shown() {
        for index in 0..100 {
            let scene = Scene::new(2, index);
            assert!(scene.gist().contains(scene.first.shape.noun(scene.first.count)), "{scene:?}");
            assert!(scene.gist().contains(scene.first.color.name()), "{scene:?}");
        }
    }

    #[test]
    fn a_shape_never_vanishes_into_its_background() {
        for index in 0..1000 {
            let scene = Scene::new(1, index);
            let behind = match scene.backdrop {
                Backdrop::Plain(color) => vec![color],
                Backdrop::Gradient(a, b) | Backdrop::Stripes(a, b) | Backdrop::Checks(a, b) => vec![a, b],
            };
            assert!(!behind.contains(&scene.first.color), "{scene:?}");
        }
    }
}

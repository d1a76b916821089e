//! Draws a scene at any size.

use crate::random::Random;
use crate::scene::{Backdrop, Group, Place, Relation, Scene, Shape, Texture};

/// The picture of `scene`: `width * height` pixels, row by row, three bytes of sRGB each.
pub fn draw(scene: &Scene, width: u32, height: u32) -> Vec<u8> {
    let mut random = Random::new(scene.seed);
    let mut rgb = backdrop(scene, width, height, &mut random);
    for thing in things(scene, width as f32, height as f32, &mut random) {
        paint(&mut rgb, width, height, &thing);
    }
    let strength = random.between(2.0, 9.0);
    let mut noise = Random::new(random.bits());
    rgb.chunks_mut(4)
        .flat_map(|values| {
            // Four small numbers out of one draw: noise is most of the cost otherwise.
            let bits = noise.bits();
            values.iter().enumerate().map(move |(i, value)| {
                let unit = ((bits >> (16 * i)) & 0xFFFF) as f32 / 65536.0 - 0.5;
                (value + 2.0 * strength * unit).clamp(0.0, 255.0) as u8
            })
        })
        .collect()
}

/// One shape to paint; lengths in pixels.
struct Thing {
    x: f32,
    y: f32,
    radius: f32,
    turn: f32,
    group: Group,
}

fn backdrop(scene: &Scene, width: u32, height: u32, random: &mut Random) -> Vec<f32> {
    let side = width.min(height) as f32;
    let period = side * random.between(0.12, 0.2);
    let mut rgb = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            let color = match scene.backdrop {
                Backdrop::Plain(color) => color.rgb(),
                Backdrop::Gradient(from, to) => {
                    let (from, to) = (from.rgb(), to.rgb());
                    let share = y as f32 / height as f32;
                    std::array::from_fn(|i| from[i] + (to[i] - from[i]) * share)
                }
                Backdrop::Stripes(one, other) => {
                    let even = (((x + y) as f32 / period) as u32).is_multiple_of(2);
                    if even { one.rgb() } else { other.rgb() }
                }
                Backdrop::Checks(one, other) => {
                    let even = ((x as f32 / period) as u32 + (y as f32 / period) as u32).is_multiple_of(2);
                    if even { one.rgb() } else { other.rgb() }
                }
            };
            rgb.extend_from_slice(&color);
        }
    }
    rgb
}

/// Places every shape. All stay inside the centred square, so that a centre crop loses none.
fn things(scene: &Scene, width: f32, height: f32, random: &mut Random) -> Vec<Thing> {
    let side = width.min(height);
    let (left, top) = ((width - side) / 2.0, (height - side) / 2.0);
    // Regions are x, y, width, height as shares of the square.
    let half = |relation: Relation, first: bool| match (relation, first) {
        (Relation::Above, true) | (Relation::Below, false) => [0.05, 0.03, 0.9, 0.46],
        (Relation::Above, false) | (Relation::Below, true) => [0.05, 0.51, 0.9, 0.46],
        (Relation::LeftOf, true) | (Relation::RightOf, false) => [0.03, 0.05, 0.46, 0.9],
        (Relation::LeftOf, false) | (Relation::RightOf, true) => [0.51, 0.05, 0.46, 0.9],
    };
    let mut regions = Vec::new();
    match &scene.second {
        Some((relation, second)) => {
            regions.push((half(*relation, true), scene.first));
            regions.push((half(*relation, false), *second));
        }
        None => {
            let region = match scene.place {
                Place::Middle => [0.15, 0.15, 0.7, 0.7],
                Place::Left => [0.03, 0.1, 0.5, 0.8],
                Place::Right => [0.47, 0.1, 0.5, 0.8],
                Place::Top => [0.1, 0.03, 0.8, 0.5],
                Place::Bottom => [0.1, 0.47, 0.8, 0.5],
            };
            regions.push((region, scene.first));
        }
    }
    let mut things = Vec::new();
    for ([x, y, wide, high], group) in regions {
        let (columns, rows) = match (group.count, wide >= high) {
            (1, _) => (1, 1),
            (4, _) => (2, 2),
            (n, true) => (n, 1),
            (n, false) => (1, n),
        };
        let (cell_wide, cell_high) = (wide / columns as f32, high / rows as f32);
        let room = cell_wide.min(cell_high) / 2.0;
        let radius = if group.large { (room * 0.9).min(0.26) } else { (room * 0.55).min(0.11) };
        let radius = radius * random.between(0.9, 1.0);
        for i in 0..group.count {
            let (column, row) = (i % columns, i / columns);
            let slack = (room - radius).max(0.0) * 0.6;
            let x = x + (column as f32 + 0.5) * cell_wide + random.between(-slack, slack);
            let y = y + (row as f32 + 0.5) * cell_high + random.between(-slack, slack);
            things.push(Thing {
                x: left + x * side,
                y: top + y * side,
                radius: radius * side,
                turn: random.between(-0.25, 0.25),
                group,
            });
        }
    }
    things
}

fn paint(rgb: &mut [f32], width: u32, height: u32, thing: &Thing) {
    let (sin, cos) = thing.turn.sin_cos();
    let reach = thing.radius * 1.3 + 1.0;
    let columns = (thing.x - reach).max(0.0) as u32..((thing.x + reach).max(0.0) as u32).min(width);
    let rows = (thing.y - reach).max(0.0) as u32..((thing.y + reach).max(0.0) as u32).min(height);
    let full = thing.group.color.rgb();
    // A dark colour takes light marks, a light one dark marks, so that a pattern is always seen.
    let light = full.iter().sum::<f32>() < 240.0;
    let mark: [f32; 3] = full.map(|value| if light { value + (255.0 - value) * 0.55 } else { value * 0.45 });
    for py in rows {
        for px in columns.clone() {
            let mut cover = 0.0;
            let mut color = [0.0; 3];
            // Four samples a pixel smooth the edges.
            for (ox, oy) in [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)] {
                let dx = (px as f32 + ox - thing.x) / thing.radius;
                let dy = (py as f32 + oy - thing.y) / thing.radius;
                let (x, y) = (dx * cos + dy * sin, dy * cos - dx * sin);
                if !inside(thing.group.shape, x, y) {
                    continue;
                }
                cover += 0.25;
                let marked = match thing.group.texture {
                    Texture::Plain => false,
                    Texture::Striped => ((x + 4.0) * 3.0) as i32 % 2 == 0,
                    Texture::Spotted => {
                        let (u, v) = ((x * 2.5).fract().abs() - 0.5, (y * 2.5).fract().abs() - 0.5);
                        u * u + v * v < 0.07
                    }
                };
                let sample = if marked { mark } else { full };
                for i in 0..3 {
                    color[i] += 0.25 * sample[i];
                }
            }
            if cover > 0.0 {
                let at = ((py * width + px) * 3) as usize;
                for i in 0..3 {
                    rgb[at + i] = rgb[at + i] * (1.0 - cover) + color[i];
                }
            }
        }
    }
}

/// Whether a point lies in the shape; the shape fills the circle of radius 1 about the origin, y points down.
fn inside(shape: Shape, x: f32, y: f32) -> bool {
    let square = x * x + y * y;
    match shape {
        Shape::Circle => square < 1.0,
        Shape::Square => x.abs().max(y.abs()) < 0.82,
        Shape::Triangle => y < 0.7 && y > -1.0 + (x.abs() * 1.75),
        Shape::Star => {
            let angle = (x.atan2(-y) * 5.0 / std::f32::consts::TAU).rem_euclid(1.0);
            let share = (angle - 0.5).abs() * 2.0; // 1 at a tip, 0 in a notch
            square.sqrt() < 0.42 + 0.66 * share * share * share.sqrt()
        }
        Shape::Heart => {
            let (x, y) = (x * 1.2, -y * 1.2 + 0.1);
            let a = x * x + y * y - 1.0;
            a * a * a - x * x * y * y * y < 0.0
        }
        Shape::Ring => square < 1.0 && square > 0.32,
        Shape::Cross => x.abs().max(y.abs()) < 0.95 && x.abs().min(y.abs()) < 0.3,
        Shape::Diamond => x.abs() * 1.35 + y.abs() < 1.05,
        Shape::Moon => {
            let (dx, dy) = (x - 0.45, y + 0.1);
            square < 1.0 && dx * dx + dy * dy > 0.62
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::Color;

    #[test]
    fn the_middle_of_a_large_circle_has_its_colour() {
        let scene = Scene {
            backdrop: Backdrop::Plain(Color::White),
            first: Group { count: 1, large: true, texture: Texture::Plain, color: Color::Red, shape: Shape::Circle },
            place: Place::Middle,
            second: None,
            seed: 1,
        };
        let rgb = draw(&scene, 90, 60);
        assert_eq!(rgb.len(), 90 * 60 * 3);
        let middle = &rgb[(30 * 90 + 45) * 3..][..3];
        assert!(middle[0] > 180 && middle[1] < 80 && middle[2] < 80, "{middle:?}");
        assert!(rgb[..3].iter().all(|&value| value > 220), "{:?}", &rgb[..3]);
    }
}

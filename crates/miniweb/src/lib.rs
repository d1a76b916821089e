//! A miniature web that fits in the program: drawn scenes with captions, pages that show them, the crawl of those
//! pages in Common Crawl's own format, and a loopback server that serves it all, its faults included. Everything
//! follows from a seed, and the truth of every row is known, so a whole dataset builder can be measured on it.
//!
//! ```
//! use miniweb::{Random, Scene, draw};
//! let scene = Scene::new(7, 0);
//! let rgb = draw(&scene, 320, 240);
//! assert_eq!(rgb.len(), 320 * 240 * 3);
//! println!("{}", scene.caption(&mut Random::new(1)));
//! ```

mod draw;
mod random;
mod scene;

pub use draw::draw;
pub use random::Random;
pub use scene::{Backdrop, Color, Group, Place, Relation, Scene, Shape, Texture};

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

#![forbid(unsafe_code)]

mod random;
mod scene;
mod draw;
mod picture;
mod fate;
mod language;
mod truth;
mod world;
mod page;
mod crawl;
mod server;

pub use crawl::write_crawl;
pub use draw::draw;
pub use fate::Fate;
pub use picture::{Format, Picture};
pub use random::Random;
pub use scene::{Backdrop, Color, Group, Place, Relation, Scene, Shape, Texture};
pub use server::{Server, serve};
pub use truth::{Truth, measure};
pub use world::{ARCHIVES, Settings, World};

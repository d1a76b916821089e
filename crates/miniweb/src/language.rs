//! Captions in languages that the recipe does not ask for.

use crate::random::Random;
use crate::scene::{Backdrop, Color, Scene, Shape};

/// A sentence with the words for shape, colour and background colour, in the order of [`Shape::ALL`] and
/// [`Color::ALL`]; the sentences are such that the words need no ending.
struct Language {
    sentence: &'static str,
    shapes: [&'static str; 9],
    colors: [&'static str; 11],
}

const LANGUAGES: [Language; 5] = [
    Language {
        sentence: "Die Zeichnung zeigt die Form „{shape}“ in der Farbe {color} vor einem Hintergrund in {back}",
        shapes: ["Kreis", "Quadrat", "Dreieck", "Stern", "Herz", "Ring", "Kreuz", "Raute", "Mond"],
        colors: ["Rot", "Grün", "Blau", "Gelb", "Orange", "Lila", "Rosa", "Braun", "Schwarz", "Weiß", "Grau"],
    },
    Language {
        sentence: "Le dessin montre la forme « {shape} » de couleur {color} devant un fond de couleur {back}",
        shapes: ["cercle", "carré", "triangle", "étoile", "cœur", "anneau", "croix", "losange", "lune"],
        colors: [
            "rouge", "verte", "bleue", "jaune", "orange", "violette", "rose", "brune", "noire", "blanche", "grise",
        ],
    },
    Language {
        sentence: "El dibujo muestra la figura «{shape}» de color {color} sobre un fondo de color {back}",
        shapes: ["círculo", "cuadrado", "triángulo", "estrella", "corazón", "anillo", "cruz", "rombo", "luna"],
        colors: ["rojo", "verde", "azul", "amarillo", "naranja", "morado", "rosa", "marrón", "negro", "blanco", "gris"],
    },
    Language {
        sentence: "Il disegno mostra la figura «{shape}» di colore {color} su uno sfondo di colore {back}",
        shapes: ["cerchio", "quadrato", "triangolo", "stella", "cuore", "anello", "croce", "rombo", "luna"],
        colors: [
            "rosso",
            "verde",
            "blu",
            "giallo",
            "arancione",
            "viola",
            "rosa",
            "marrone",
            "nero",
            "bianco",
            "grigio",
        ],
    },
    Language {
        sentence: "На рисунке показана фигура «{shape}», её цвет — {color}, а цвет фона — {back}",
        shapes: ["круг", "квадрат", "треугольник", "звезда", "сердце", "кольцо", "крест", "ромб", "луна"],
        colors: [
            "красный",
            "зелёный",
            "синий",
            "жёлтый",
            "оранжевый",
            "фиолетовый",
            "розовый",
            "коричневый",
            "чёрный",
            "белый",
            "серый",
        ],
    },
];

/// What somebody might write under the picture in German, French, Spanish, Italian or Russian.
pub(crate) fn foreign_caption(scene: &Scene, random: &mut Random) -> String {
    let language = &LANGUAGES[random.below(LANGUAGES.len())];
    let (Backdrop::Plain(back) | Backdrop::Gradient(back, _) | Backdrop::Stripes(back, _) | Backdrop::Checks(back, _)) =
        scene.backdrop;
    let color = |wanted: Color| language.colors[Color::ALL.iter().position(|&c| c == wanted).unwrap_or(0)];
    let shape = language.shapes[Shape::ALL.iter().position(|&s| s == scene.first.shape).unwrap_or(0)];
    let sentence = language.sentence.replace("{shape}", shape);
    sentence.replace("{color}", color(scene.first.color)).replace("{back}", color(back))
}

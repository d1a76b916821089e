//! The prompts that pictures are compared with, as data: a text and what a picture is that looks like it.
//!
//! They are those of the workers of 2021 (`clip_filter.py` of crawlingathome-gpu-hcloud at `a7896c1`, see
//! `docs/recipe.md`); misspellings are the original's.

/// A text, and what it says of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// As the model reads it.
    pub text: &'static str,
    /// What a picture is that is like it. Rules ask for this, never for the place in a list.
    pub class: Class,
}

/// What a picture is that is like a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Class {
    Safe,
    Explicit,
    UnderAge,
    Adult,
    Thing,
    Animal,
}

use Class::{Adult, Animal, Explicit, Safe, Thing, UnderAge};

const fn of(class: Class, text: &'static str) -> Prompt {
    Prompt { text, class }
}

const MAMMALS: &str = "animal, bird, mammal, insect";
const FASHION: &str = "fashion, clothes";
const LONGEST: &str = "porn, sex, sperm, nipples, breats, tits, boops, penis, dick, cock, clitoris, vagina, fuck, lust, horny, \
                       sexual, lick, licking";

/// For the NSFW tag, as they were meant.
pub const NSFW: [Prompt; 36] = [
    of(Safe, "neutral"),
    of(Safe, "selfie"),
    of(Safe, "illustration, drawing"),
    of(Safe, "toys, play, kids, children"),
    of(Safe, "teddy bear, puppet"),
    of(Safe, MAMMALS),
    of(Safe, FASHION),
    of(Safe, "logo, commercial, ad, advertisement"),
    of(Safe, "drawing, painting"),
    of(Safe, "anime, cartoon"),
    of(Safe, "comedy, fun"),
    of(Safe, "romance, love story"),
    of(Safe, "thriller, suspense, crime story"),
    of(Safe, "action, action movie"),
    of(Safe, "horror, monster movie"),
    of(Safe, "documentary"),
    of(Safe, "news, journalism"),
    of(Safe, "entertainment"),
    of(Safe, "talk show"),
    of(Explicit, LONGEST),
    of(Explicit, "porn, sex, sperm, nipples"),
    of(Explicit, "porn, sex, sperm, penis, dick, cock"),
    of(Explicit, "nipples, breats, tits, boops, sexy"),
    of(Explicit, "penis, dick, cock"),
    of(Explicit, "clitoris, vagina"),
    of(Explicit, "sex, fuck, lust, horny, sexual, lick, licking"),
    of(Explicit, "porn, sex, sexy"),
    of(Explicit, "sexy, hot"),
    of(Explicit, "sperm, skin"),
    of(Explicit, "lust, horny, sexual"),
    of(Explicit, "lick, licking, body"),
    of(Explicit, "anime, hentai, sexy"),
    of(Explicit, "cartoon, sexy, sex"),
    of(Explicit, "hentai"),
    of(Explicit, "anime, sexy, breasts"),
    of(Explicit, "hentai"),
];

/// The same as the workers had them. A comma was missing, so two prompts were one and every later one moved up; the border
/// between safe and explicit stayed where it was, and the longest explicit prompt came to lie on its safe side.
pub fn nsfw_2021() -> Vec<Prompt> {
    let written = NSFW.iter().filter(|prompt| prompt.text != FASHION).map(|&prompt| match prompt.text {
        MAMMALS => of(Safe, "animal, bird, mammal, insectfashion, clothes"),
        LONGEST => of(Safe, LONGEST),
        _ => prompt,
    });
    written.collect()
}

/// For the age of who is in the picture. One prompt stands twice, so that a picture of an adult can have both places of
/// the nearest two taken by it.
pub const AGE: [Prompt; 8] = [
    of(UnderAge, "teenager, teen"),
    of(UnderAge, "kid, child, teenager, teen, baby or toddler, underaged, little girl, little boy"),
    of(UnderAge, "kid, child, little girl, little boy"),
    of(UnderAge, "baby, toddler"),
    of(Adult, "adult, woman, man, grownup, grown person,full-aged of legal age"),
    of(Adult, "full-aged, of legal age, adult"),
    of(Adult, "woman, man"),
    of(Adult, "adult, woman, man, grownup, grown person,full-aged of legal age"),
];

/// For animals.
pub const ANIMALS: [Prompt; 33] = [
    of(Thing, "lifeless object, thing"),
    of(Thing, "thing, object"),
    of(Thing, "material"),
    of(Thing, "furniture"),
    of(Thing, "wall"),
    of(Thing, "house"),
    of(Thing, "tree"),
    of(Thing, "wood"),
    of(Thing, "ground"),
    of(Thing, "industry"),
    of(Thing, "table"),
    of(Thing, "bed"),
    of(Thing, "tool"),
    of(Thing, "dress, clothes"),
    of(Thing, "door"),
    of(Thing, "chair"),
    of(Thing, "rock, stone"),
    of(Thing, "human"),
    of(Thing, "man"),
    of(Thing, "woman"),
    of(Thing, "man, woman"),
    of(Animal, "animal"),
    of(Animal, "cat"),
    of(Animal, "dog"),
    of(Animal, "cow"),
    of(Animal, "pig"),
    of(Animal, "goat"),
    of(Animal, "sheep"),
    of(Animal, "elephant"),
    of(Animal, "horse"),
    of(Animal, "horse, elephant, pig, dog, cat, sheep, goat, animal"),
    of(Animal, "life"),
    of(Animal, "wildlife"),
];

/// Words of captions that stand for somebody under age.
pub const UNDER_AGE_WORDS: [&str; 4] = ["teen", "kid", "child", "baby"];

/// Every text of every list; some stand in several.
pub fn texts() -> impl Iterator<Item = &'static str> {
    let lists = NSFW.into_iter().chain(nsfw_2021()).chain(AGE).chain(ANIMALS);
    lists.map(|prompt| prompt.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(list: &[Prompt], class: Class) -> usize {
        list.iter().filter(|prompt| prompt.class == class).count()
    }

    #[test]
    fn the_borders_are_those_of_the_rule() {
        assert_eq!((count(&NSFW, Safe), count(&NSFW, Explicit)), (19, 17));
        assert_eq!((count(&nsfw_2021(), Safe), count(&nsfw_2021(), Explicit)), (19, 16));
        assert_eq!((count(&AGE, UnderAge), count(&AGE, Adult)), (4, 4));
        assert_eq!((count(&ANIMALS, Thing), count(&ANIMALS, Animal)), (21, 12));
    }

    #[test]
    fn the_missing_comma_made_one_prompt_of_two_and_one_explicit_prompt_safe() {
        let written = nsfw_2021();
        let joined = written.iter().find(|prompt| prompt.text == [MAMMALS, FASHION].concat()).expect("one of two");
        assert_eq!(joined.class, Safe);
        let class = |list: &[Prompt]| list.iter().find(|prompt| prompt.text == LONGEST).map(|prompt| prompt.class);
        assert_eq!((class(&NSFW), class(&written)), (Some(Explicit), Some(Safe)));
    }
}

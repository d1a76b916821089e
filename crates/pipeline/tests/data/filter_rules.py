"""Writes filter-rules.txt: what the rule of the workers of 2021 decides on 10,000 made-up pairs.

It follows the words of the rule (docs/recipe.md) and its text, `clip_filter.py` of rvencu/crawlingathome-gpu-hcloud at
a7896c1, by places in lists, as that does, with and without the comma that was missing there. Nothing is read: vectors and
captions come out of a generator of integers, which ../filter.rs has, too.

    python filter_rules.py > filter-rules.txt

A decision is a letter for the tag (U UNLIKELY, ? UNSURE, N NSFW) and one for what became of the pair (k kept,
s similarity, p picture under age, c caption under age, a animal). Each set of rules has a line of them.
"""

import collections

import numpy as np

PAIRS = 10_000
DIMENSIONS = 32
MASK = (1 << 64) - 1

BEFORE = [
    "neutral", "selfie", "illustration, drawing", "toys, play, kids, children", "teddy bear, puppet",
    "animal, bird, mammal, insect" "fashion, clothes",  # the comma is missing between them
    "logo, commercial, ad, advertisement", "drawing, painting", "anime, cartoon", "comedy, fun", "romance, love story",
    "thriller, suspense, crime story", "action, action movie", "horror, monster movie", "documentary",
    "news, journalism", "entertainment", "talk show",
    "porn, sex, sperm, nipples, breats, tits, boops, penis, dick, cock, clitoris, vagina, fuck, lust, horny, sexual, "
    "lick, licking",
    "porn, sex, sperm, nipples", "porn, sex, sperm, penis, dick, cock", "nipples, breats, tits, boops, sexy",
    "penis, dick, cock", "clitoris, vagina", "sex, fuck, lust, horny, sexual, lick, licking", "porn, sex, sexy",
    "sexy, hot", "sperm, skin", "lust, horny, sexual", "lick, licking, body", "anime, hentai, sexy",
    "cartoon, sexy, sex", "hentai", "anime, sexy, breasts", "hentai",
]
AFTER = BEFORE[:5] + ["animal, bird, mammal, insect", "fashion, clothes"] + BEFORE[6:]
UNDER_AGE = [
    "teenager, teen",
    "kid, child, teenager, teen, baby or toddler, underaged, little girl, little boy",
    "kid, child, little girl, little boy",
    "baby, toddler",
    "adult, woman, man, grownup, grown person,full-aged of legal age",
    "full-aged, of legal age, adult",
    "woman, man",
    "adult, woman, man, grownup, grown person,full-aged of legal age",
]
ANIMALS = [
    "lifeless object, thing", "thing, object", "material", "furniture", "wall", "house", "tree", "wood", "ground",
    "industry", "table", "bed", "tool", "dress, clothes", "door", "chair", "rock, stone", "human", "man", "woman",
    "man, woman",
    "animal", "cat", "dog", "cow", "pig", "goat", "sheep", "elephant", "horse",
    "horse, elephant, pig, dog, cat, sheep, goat, animal", "life", "wildlife",
]
WORDS = [
    "a", "red", "car", "on", "the", "beach", "teen", "Teenager", "kidney", "KID", "child", "Children", "baby", "Babysitter",
    "man", "dress", "old", "house", "photo", "of",
]


class Random:
    """splitmix64."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def below(self, bound):
        return (self.next() >> 32) % bound

    def vector(self):
        return [self.below(2001) - 1000 for _ in range(DIMENSIONS)]


def seed_of(text):
    """FNV-1a."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def direction(text):
    return np.array(Random(seed_of(text)).vector(), dtype=np.int64)


def normalized(integers):
    values = np.array(integers, dtype=np.float64)
    return (values / np.sqrt(float(sum(int(value) ** 2 for value in integers)))).astype(np.float32)


def top_two(image, texts):
    scores = image @ np.stack([normalized(direction(text)) for text in texts]).astype(np.float64).T
    return np.argsort(-scores, axis=1, kind="stable")[:, :2]


def pairs():
    random = Random(2021)
    images, captions, similarities = [], [], []
    for _ in range(PAIRS):
        image = np.array(random.vector()) * 2
        for texts, weight in ((AFTER, 5), (AFTER, 4), (UNDER_AGE, 3), (ANIMALS, 3)):
            image = image + direction(texts[random.below(len(texts))]) * weight
        captions.append(" ".join(WORDS[random.below(len(WORDS))] for _ in range(1 + random.below(4))))
        similarities.append(np.float32((280 + random.below(100)) / 1000))
        images.append(normalized(image.tolist()).astype(np.float16))  # as it is stored
    return np.stack(images).astype(np.float64), captions, similarities


def decide(similarity, nsfw, under_age, animals, caption, any_case):
    tag = "U" if nsfw[0] < 19 and nsfw[1] < 19 else "N" if nsfw[0] >= 19 and nsfw[1] >= 19 else "?"
    text = caption.lower() if any_case else caption
    if similarity < np.float32(0.3):
        return tag + "s"
    if tag == "U":
        return tag + "k"
    if under_age[0] < 4 or under_age[1] < 4:
        return tag + "p"
    if any(word in text for word in ("teen", "kid", "child", "baby")):
        return tag + "c"
    if animals[0] > 20:
        return tag + "a"
    return tag + "k"


def main():
    assert (len(BEFORE), len(AFTER), len(UNDER_AGE), len(ANIMALS)) == (35, 36, 8, 33)
    images, captions, similarities = pairs()
    under_age, animals = top_two(images, UNDER_AGE), top_two(images, ANIMALS)
    for name, prompts, any_case in (("laion400m", AFTER, True), ("laion400m-2021", BEFORE, False)):
        nsfw = top_two(images, prompts)
        rows = zip(similarities, nsfw, under_age, animals, captions)
        decisions = [decide(*row, any_case) for row in rows]
        counts = collections.Counter(decisions)
        assert min(counts.values()) >= 50 and len(counts) == 12, counts
        print(name, "".join(decisions))


if __name__ == "__main__":
    main()

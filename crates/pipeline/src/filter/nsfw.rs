//! LAION-400M's NSFW tag: which two of 36 prompts a picture is most like.

use dataset::Nsfw;

use super::prompts::Class;

/// Both of the two nearest prompts safe: UNLIKELY; both explicit: NSFW; else UNSURE.
pub(super) fn tag(nearest: [Class; 2]) -> Nsfw {
    match nearest.map(|class| class == Class::Explicit) {
        [false, false] => Nsfw::Unlikely,
        [true, true] => Nsfw::Nsfw,
        _ => Nsfw::Unsure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_nearest_prompts_decide() {
        assert_eq!(tag([Class::Safe, Class::Safe]), Nsfw::Unlikely);
        assert_eq!(tag([Class::Safe, Class::Explicit]), Nsfw::Unsure);
        assert_eq!(tag([Class::Explicit, Class::Safe]), Nsfw::Unsure);
        assert_eq!(tag([Class::Explicit, Class::Explicit]), Nsfw::Nsfw);
    }
}

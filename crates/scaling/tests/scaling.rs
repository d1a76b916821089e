//! Outside the library, which takes long to compile, so that it is compiled once.

use scaling::{Filter, Rgbx, Window, area, bicubic, portable_bicubic, rgb};

#[test]
fn a_picture_of_one_colour_stays_so() {
    let (grey, expected) = ([90; 5 * 4 * 3], vec![90; 7 * 2 * 3]);
    for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos4] {
        assert_eq!(rgb(&grey, 5, 4, (7, 2), filter), Some(expected.clone()), "{filter:?}");
        let mut scaled = [0; 7 * 2 * 4];
        Rgbx::default().fill(&[90; 5 * 4 * 4], 5, 4, (7, 2), filter, &mut scaled).expect("a picture");
        assert_eq!(scaled, [90; 7 * 2 * 4], "{filter:?}");
    }
    assert_eq!(area(&grey, 5, 4, (5.0, 4.0), (3, 2)), Some(vec![90; 3 * 2 * 3]));
}

#[test]
fn an_area_counts_parts_of_pixels() {
    let line: Vec<u8> = [0, 60, 120].iter().flat_map(|&value| [value; 3]).collect();
    // 1.5 pixels each: (0 + 60 / 2) / 1.5 and (60 / 2 + 120) / 1.5.
    assert_eq!(area(&line, 3, 1, (3.0, 1.0), (2, 1)), Some([20, 20, 20, 100, 100, 100].to_vec()));
    let line = [0, 0, 0, 100, 100, 100, 200, 200, 200, 40, 40, 40, 80, 80, 80];
    // (0 + 100 + 200 / 2) / 2.5 and (200 / 2 + 40 + 80) / 2.5
    assert_eq!(area(&line, 5, 1, (5.0, 1.0), (2, 1)), Some([80, 80, 80, 88, 88, 88].to_vec()));
    let line: Vec<u8> = [0, 60, 120].iter().flat_map(|&value| [value; 3]).collect();
    // Of the last pixel a half counts, 1.25 each: (0.75 * 60 + 0.5 * 120) / 1.25.
    assert_eq!(area(&line, 3, 1, (2.5, 1.0), (2, 1)).expect("a picture")[3..], [84; 3]);
}

#[test]
fn wrong_lengths_are_no_panic() {
    assert_eq!(rgb(&[0; 5], 2, 1, (1, 1), Filter::Bicubic), None);
    assert_eq!(area(&[0; 5], 2, 1, (2.0, 1.0), (1, 1)), None);
    assert_eq!(area(&[], 0, 0, (0.0, 0.0), (1, 1)), None);
    assert_eq!(area(&[], 2, 0, (2.0, 0.0), (1, 1)), None);
    assert_eq!(area(&[0; 6], 2, 1, (2.0, 1.0), (0, 1)), None);
    let window = |width| Window { left: 0, top: 0, width, height: 1 };
    assert_eq!(bicubic(&[0; 5], 2, 1, (1, 1), window(1)), None);
    assert_eq!(bicubic(&[], 0, 0, (1, 1), window(1)), None);
    assert_eq!(bicubic(&[0; 6], 2, 1, (1, 1), window(2)), None, "the window is larger");
    assert_eq!(bicubic(&[0; 6], 2, 1, (1, 1), window(0)), None);
    assert_eq!(bicubic(&[7; 6], 2, 1, (1, 1), window(1)), Some(vec![7; 3]));
    assert!(Rgbx::default().fill(&[0; 8], 2, 1, (1, 1), Filter::Bicubic, &mut [0; 3]).is_err());
}

#[test]
fn every_processor_scales_to_the_same_bytes() {
    let seed = std::time::UNIX_EPOCH.elapsed().expect("a clock").as_nanos() as u64;
    let mut state = seed;
    let mut below = |end: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u32 % end
    };
    for _ in 0..300 {
        let (width, height) = (1 + below(300), 1 + below(300));
        let wanted = (1 + below(150), 1 + below(150));
        let (left, top) = (below(wanted.0), below(wanted.1));
        let window = Window { left, top, width: 1 + below(wanted.0 - left), height: 1 + below(wanted.1 - top) };
        // Black and white beside each other, so that sums overshoot.
        let rgb: Vec<u8> = (0..width * height * 3).map(|_| [0, 255, below(256) as u8][below(3) as usize]).collect();
        let portable = portable_bicubic(&rgb, width, height, wanted, window);
        assert!(portable.is_some());
        assert!(
            bicubic(&rgb, width, height, wanted, window) == portable,
            "{width} x {height} to {wanted:?}, {window:?}"
        );
    }
}

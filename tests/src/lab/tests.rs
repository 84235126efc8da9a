use super::report::Outcome;
use super::*;
use consilium::datasets::{DIGITS_DEPTH, digits};
use consilium::lab::{EncoderShape, Figure, Found, Quality, Stage};

/// Digits that travel with the program, each pixel of theirs drawn three times as large, the darkest just below 1, which
/// would be a byte of zero behind the point.
fn rows(count: usize) -> Examples {
    let table = digits();
    let mut inputs = Vec::with_capacity(count * SIDE * SIDE);
    for image in table.inputs[..count * 64].chunks_exact(64) {
        let cell = |row: usize, column: usize| match (row / 3, column / 3) {
            (row @ 0..8, column @ 0..8) => image[row * 8 + column] / (DIGITS_DEPTH + 1.0),
            _ => 0.0,
        };
        inputs.extend((0..SIDE * SIDE).map(|pixel| cell(pixel / SIDE, pixel % SIDE)));
    }
    Examples::new(SIDE * SIDE, inputs, table.labels[..count].to_vec()).unwrap()
}

fn setting() -> Setting {
    Setting {
        subject: Subject::Mnist,
        images: 60,
        widths: vec![64],
        own: 3,
        seeds: 2,
        clone: false,
        hospitals: vec![2],
        per_hospital: 60,
        joint_width: 32,
        control_repetitions: 8,
    }
}

#[test]
fn the_control_finds_nothing_in_what_two_parties_see_and_a_query_in_place_of_a_share() {
    let found = control(&setting(), &rows(1400), &|| ()).unwrap();
    let count = |expected| found.iter().filter(|control| control.expected == expected).count();
    assert_eq!([Expected::Guess, Expected::Class, Expected::Leak].map(count), [5, 2, 6]);
    // Sixty coarse digits, whose words wrap under a mask, are too few for the leaks of masks; the program asks for those.
    for control in found.iter().filter(|control| !control.seen.contains("mask")) {
        let of_encodings = control.seen.starts_with("encodings");
        assert!(control.holds() || of_encodings, "{control:#?}");
    }
    // What is found beyond chance, or beyond the class, would be told.
    let guess = found.iter().find(|control| control.expected == Expected::Guess).unwrap();
    assert!(guess.told_from() < 4.0 * guess.chance, "{guess:?}");
    assert!(!Control { share: guess.told_from(), ..guess.clone() }.holds());
    assert!(
        !Control { share: 0.0, repetitions: 20, standard_error: guess.chance / 5.0, ..guess.clone() }.holds()
    );
    let label = found.iter().find(|control| control.expected == Expected::Class).unwrap();
    assert!(label.class > label.chance && !Control { share: 0.5, ..label.clone() }.holds());
    let leak = found.iter().find(|control| control.expected == Expected::Leak).unwrap();
    assert!(!Control { share: leak.chance, ..leak.clone() }.holds());
}

#[test]
fn encodings_are_found_and_their_classifier_learns() {
    let found = thefts(&setting(), &rows(400), &|| ()).unwrap();
    let shallow = found.iter().find(|theft| theft.depth == 3).unwrap();
    assert!(shallow.share(Stage::Images).unwrap().0 > 0.9 && shallow.undone() > 0.99, "{shallow:?}");
    let classes = (0..10).map(|digit| digit.to_string()).collect();
    let shape = consilium_protocol::graph::Shape { channels: 1, height: 28, width: 28 };
    let rows = rows(500);
    let data = Dataset {
        name: "digits".into(),
        shape,
        classes,
        train: rows.head(300).unwrap(),
        test: rows.select(&(300..500).collect::<Vec<_>>()).unwrap(),
        sites: None,
    };
    let setting = Setting { seeds: 1, per_hospital: 150, ..setting() };
    let trained = joint(&setting, 2, &data, &|| ()).unwrap();
    assert_eq!((trained.together.len(), trained.alone.len(), trained.plain.len()), (1, 2, 1));
    // On digits that no training saw; a guess has an area of half, with a standard error of some hundredths.
    assert!(trained.together[0].auc > 0.6 && trained.plain[0].auc > 0.7, "{trained:?}");
    let many = Setting { per_hospital: 200, ..setting };
    assert!(matches!(joint(&many, 2, &data, &|| ()), Err(TrialError::Images { wanted: 400, found: 300 })));
    let shown = outcome(found, vec![trained]).to_string();
    assert!(shown.contains("encodings of all") && shown.contains("no goal is set"), "{shown}");
}

fn outcome(thefts: Vec<Theft>, joint: Vec<Joint>) -> Outcome {
    Outcome { dataset: "digits", thefts, joint, control: Vec::new(), warning: "NOT" }
}

#[test]
fn what_misses_its_goal_is_a_fault() {
    let theft = |private_depth, shares: &[(Stage, f64)]| {
        let found = shares.iter().map(|(stage, share)| Found { stage: *stage, share: *share });
        let figure = Figure {
            found: found.collect(),
            shuffle_undone: 1.0,
            images: 200,
            encodings: 200,
            chance: 0.005,
            own_encoders: 5,
            date: "2026-01-31".to_owned(),
        };
        let shape = EncoderShape { side: SIDE, patch: 4, width: 256, private_depth };
        let clone_seconds = vec![1.0; shares.iter().filter(|(stage, _)| *stage == Stage::Clone).count()];
        Theft { shape, depth: shape.depth(), figures: vec![figure], seconds: vec![1.0], clone_seconds }
    };
    let faults = |theft| outcome(vec![theft], Vec::new()).faults().len();
    let (images, patches, clone) = (Stage::Images, Stage::Patches, Stage::Clone);
    assert_eq!(faults(theft(4, &[(images, 0.7), (patches, 1.0), (clone, 1.0)])), 0);
    assert_eq!(faults(theft(4, &[(images, 0.7), (patches, 1.0), (clone, 0.6)])), 1);
    assert_eq!(faults(theft(4, &[(images, 0.3), (patches, 0.6)])), 2);
    assert_eq!(faults(theft(0, &[(images, 0.9), (patches, 1.0)])), 1);
    let slow = Theft { seconds: vec![1.0, 200.0], ..theft(0, &[(images, 1.0), (patches, 1.0)]) };
    assert_eq!(faults(slow), 1);
    let quality = |auc| Quality { accuracy: 0.8, balanced: 0.8, auc };
    let joined = |together, alone| {
        let joint =
            Joint { together: vec![quality(together)], alone: vec![quality(alone)], ..Joint::default() };
        outcome(Vec::new(), vec![joint]).faults().len()
    };
    assert_eq!([joined(0.92, 0.93), joined(0.85, 0.93), joined(0.6, 0.5)], [0, 1, 1]);
}

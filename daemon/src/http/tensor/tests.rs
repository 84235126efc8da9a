use super::*;
use crate::message::AnswerTerms;
use consilium_attest::Provenance;
use consilium_config::{EXAMPLE_ROSTER, Roster};
use proptest::prelude::*;

fn terms(name: &str) -> TaskTerms {
    let roster = Roster::parse("roster.toml", EXAMPLE_ROSTER).unwrap();
    TaskTerms::new(roster.task(name).unwrap()).unwrap()
}

fn refused(terms: &TaskTerms, header: Option<&str>, body: &[u8]) -> String {
    let failure = read(terms, header, body).unwrap_err();
    let (status, text) = failure.told();
    assert_eq!(status, 400, "{text}");
    text.to_owned()
}

/// A good request for two rows of two values, changed by `edit`.
fn edited(edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut body = json!({
        "id": "7", "inputs": [{ "name": "input", "datatype": "FP64", "shape": [1, 3], "data": vec![0.5; 3] }],
    });
    edit(&mut body);
    serde_json::to_vec(&body).unwrap()
}

#[test]
fn json_flat_and_nested_and_bytes_are_the_same_question() {
    let terms = terms("breast-cancer");
    let numbers: Vec<f64> = (0..3).map(|number| f64::from(number) - 0.5).collect();
    let mut bodies = vec![(None, edited(|body| body["inputs"][0]["data"] = json!(numbers)))];
    bodies.push((None, edited(|body| body["inputs"][0]["data"] = json!([numbers]))));
    for (datatype, bytes) in [
        ("FP64", numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>()),
        ("FP32", numbers.iter().flat_map(|number| (*number as f32).to_le_bytes()).collect()),
    ] {
        let json = edited(|body| {
            let input = &mut body["inputs"][0];
            input["datatype"] = json!(datatype);
            input["parameters"] = json!({ "binary_data_size": bytes.len() });
            input.as_object_mut().unwrap().remove("data");
        });
        bodies.push((Some(json.len().to_string()), [json, bytes].concat()));
    }
    for (header, body) in bodies {
        let asked = read(&terms, header.as_deref(), &body).unwrap();
        assert_eq!((asked.rows, asked.id.as_deref()), (vec![numbers.clone()], Some("7")));
        assert_eq!(asked.outputs, [LABEL, CLASS].map(|name| Wanted { name, binary: false }));
    }
}

#[test]
fn what_does_not_fit_is_named_without_values() {
    let terms = terms("breast-cancer");
    type Edit = fn(&mut Value);
    let cases: [(Edit, &str); 19] = [
        (|body| body["inputs"] = json!([]), "takes one input, `input`; the request has 0"),
        (|body| body["inputs"][0]["name"] = json!("x"), "no input of that name"),
        (|body| body["inputs"][0]["datatype"] = json!("INT64"), "datatype FP64; FP32 is taken"),
        (|body| body["inputs"][0]["shape"] = json!([3]), "shape [n, 3]"),
        (|body| body["inputs"][0]["shape"] = json!([1, 4]), "the request has [1, 4]"),
        (|body| body["inputs"][0]["shape"] = json!([0, 3]), "shape [n, 3]"),
        (|body| body["inputs"][0]["shape"] = json!([-1, 3]), "shape [n, 3]"),
        (|body| body["inputs"][0]["shape"] = json!([1_000_000, 3]), "shape [n, 3]"),
        (|body| body["inputs"][0]["shape"] = json!(vec![1; 100_000]), "1, 1, 1] and more"),
        (|body| body["inputs"][0]["data"] = json!([123456.75]), "has 3 values, not 1"),
        (|body| body["inputs"][0]["data"] = json!("123456.75"), "does not have the form"),
        (|body| body["inputs"][0]["data"] = json!(null), "needs either `data`"),
        (|body| body["inputs"][0]["parameters"] = json!({ "binary_data_size": 8 }), "needs either `data`"),
        (|body| body["inputs"][0]["parameters"] = json!({ "shared_memory_region": "a" }), "shared memory"),
        (|body| body["outputs"] = json!([{ "name": "scores" }]), "the outputs are `label` and `class`"),
        (|body| body["outputs"] = json!([{ "name": "label" }, { "name": "label" }]), "named twice"),
        (
            |body| body["outputs"] = json!([{ "name": "label", "parameters": { "classification": 2 } }]),
            "there are no scores",
        ),
        (|body| body["parameters"] = json!({ "release": "7" }), "32 hexadecimal digits"),
        (|body| body["parameters"] = json!({ "sequence_id": 3 }), "each question stands alone"),
    ];
    for (edit, expected) in cases {
        let text = refused(&terms, None, &edited(edit));
        assert!(text.contains(expected), "{expected:?} is not in {text:?}");
        assert!(!text.contains("123456"), "{text}");
    }
    let good = edited(|_| {});
    for header in ["", "-1", "x", "99999999", "18446744073709551616"] {
        assert!(refused(&terms, Some(header), &good).contains("must be the length of the JSON"), "{header}");
    }
    assert!(refused(&terms, None, b"{\"secret\": 123456.75,").contains("is not JSON, at line 1"));
    assert!(refused(&terms, None, &b"[".repeat(100_000)).contains("at line 1"));
}

#[test]
fn bytes_must_be_what_the_header_says() {
    let terms = terms("breast-cancer");
    let with = |size: u64, bytes: usize| {
        let json = edited(|body| {
            body["inputs"][0]["parameters"] = json!({ "binary_data_size": size });
            body["inputs"][0].as_object_mut().unwrap().remove("data");
        });
        (json.len().to_string(), [json, vec![0; bytes]].concat())
    };
    for (size, bytes, expected) in [
        (24, 23, "is not the 23 bytes"),
        (8, 24, "is not the 24 bytes"),
        (239, 239, "no whole number of values"),
        (32, 32, "has 3 values, not 4"),
    ] {
        let (header, body) = with(size, bytes);
        let text = refused(&terms, Some(&header), &body);
        assert!(text.contains(expected), "{text}");
    }
    let (header, mut body) = with(24, 24);
    let at = body.len() - 8;
    body[at..].copy_from_slice(&f64::NAN.to_le_bytes());
    assert!(refused(&terms, Some(&header), &body).contains("value 2 of row 0 is not a finite number"));
}

#[test]
fn answers_come_in_json_and_in_bytes() {
    let terms = AnswerTerms {
        share_words: 1,
        owners: 3,
        users: Vec::new(),
        shards: 1,
        noise: Provenance::Software,
        preprocessing: "pairwise".into(),
        gadget: "digits".into(),
        charged: 7,
        rounds: 9,
        bytes: 800,
        rounds_us: 0,
        together: 1,
        cpu_us: 0,
        bundles: 1,
        repeated: false,
    };
    let answer = Answer {
        release: ReleaseId([1; 16]),
        labels: vec![Some(1), None],
        classes: vec![Some("benign".into()), None],
        terms,
        mechanism: String::new(),
        epsilon: Some(0.5),
        losses: None,
        milliseconds: 1.0,
        cpu_us: [0; 2],
        pair: "main".into(),
        tried: Vec::new(),
    };
    let (described, bytes) = write(&[LABEL, CLASS].map(|name| Wanted { name, binary: false }), &answer);
    assert_eq!(
        described[0],
        json!({ "name": "label", "datatype": "INT32", "shape": [2, 1], "data": [1, -1] })
    );
    assert_eq!(described[1]["data"], json!(["benign", NO_CONSENSUS]));
    assert!(bytes.is_empty());
    let wanted = [Wanted { name: CLASS, binary: true }, Wanted { name: LABEL, binary: true }];
    let (described, bytes) = write(&wanted, &answer);
    assert_eq!(described[0]["parameters"]["binary_data_size"], 4 + 6 + 4 + 12);
    assert_eq!(&bytes[..10], b"\x06\0\0\0benign");
    assert_eq!(&bytes[26..], [1, 0, 0, 0, 255, 255, 255, 255]);
}

proptest! {
    #[test]
    fn arbitrary_bodies_are_survived(header in "[0-9]{0,4}|\\PC{0,8}", body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let terms = terms("breast-cancer");
        prop_assert!(read(&terms, Some(&header), &body).is_err());
        prop_assert!(read(&terms, None, &body).is_err());
    }

    #[test]
    fn cut_and_changed_requests_are_survived(at in 0usize..400, byte: u8, cut: bool) {
        let mut body = edited(|_| {});
        let at = at % body.len();
        body[at] = byte;
        if cut {
            body.truncate(at);
        }
        if let Ok(asked) = read(&terms("breast-cancer"), None, &body) {
            prop_assert!(asked.rows.len() == 1 && asked.rows[0].len() == 3);
        }
    }
}

//! Nothing secret is written down: not in a log, not in a state file.

use crate::setting::{BOUND, EXACT, NUMBERS, PRIVATE, Setting, in_runtime, scenario};
use consilium::demo::names;
use consilium_protocol::algebra::Fixed;
use consilium_protocol::evaluate::float::logits;
use consilium_protocol::model::fixed::encode;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FILTER: &str = "debug,consilium=trace,consilium_protocol=trace,consilium_attest=trace";
/// Shorter texts also come up by chance, in times and sizes.
const TEXT_CHARS_MIN: usize = 9;

/// Byte strings that must not be found, with what they are.
#[derive(Default)]
struct Secrets(BTreeMap<Vec<u8>, String>);

impl Secrets {
    /// Neighbours in a vector. One small word alone has so few bytes that other numbers look like it.
    fn words(&mut self, what: &str, words: &[u64]) {
        for pair in words.windows(2) {
            let little: Vec<u8> = pair.iter().flat_map(|word| word.to_le_bytes()).collect();
            let big: Vec<u8> = pair.iter().flat_map(|word| word.to_be_bytes()).collect();
            self.0.insert(little, format!("{what} (words)"));
            self.0.insert(big, format!("{what} (words, big-endian)"));
            self.text(what, &format!("{}, {}", pair[0], pair[1]));
            self.text(what, &format!("{}, {}", pair[0] as i64, pair[1] as i64));
            self.text(what, &format!("{:016x}{:016x}", pair[0], pair[1]));
        }
        for word in words {
            if word.leading_zeros() < 16 && word.leading_ones() < 16 {
                self.0.insert(word.to_le_bytes().to_vec(), format!("{what} (word)"));
            }
            self.text(what, &word.to_string());
            self.text(what, &(*word as i64).to_string());
        }
    }

    fn number(&mut self, what: &str, number: f64) {
        self.0.insert(number.to_le_bytes().to_vec(), format!("{what} (f64)"));
        self.0.insert(number.to_be_bytes().to_vec(), format!("{what} (f64, big-endian)"));
        self.text(what, &number.to_string());
        self.text(what, &format!("{:.7}", number.abs()));
    }

    fn single(&mut self, what: &str, number: f32) {
        self.number(what, f64::from(number));
        self.text(what, &number.to_string());
    }

    fn text(&mut self, what: &str, text: &str) {
        if text.len() >= TEXT_CHARS_MIN {
            self.0.insert(text.as_bytes().to_vec(), format!("{what} (text)"));
        }
    }

    /// What is found in `bytes`, and where.
    fn found(&self, bytes: &[u8]) -> Vec<String> {
        let mut starts: BTreeMap<[u8; 4], Vec<(&[u8], &str)>> = BTreeMap::new();
        for (secret, what) in &self.0 {
            starts.entry(*secret.first_chunk().unwrap()).or_default().push((secret, what));
        }
        let at = |at: usize| starts.get(bytes[at..].first_chunk::<4>()?).map(|list| (at, list));
        let candidates = (0..bytes.len()).filter_map(at);
        candidates
            .flat_map(|(at, list)| list.iter().map(move |(secret, what)| (at, *secret, *what)))
            .filter(|(at, secret, _)| bytes[*at..].starts_with(secret))
            .map(|(at, secret, what)| format!("{what} at {at}: {secret:02x?}"))
            .collect()
    }
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.is_file() {
            into.push(path);
        }
    }
}

#[test]
fn no_file_of_any_process_tells_a_secret() {
    in_runtime(async {
        let mut setting = Setting::bare(scenario(), FILTER).await;
        setting.publish_all(&[EXACT, PRIVATE]).await;
        for row in 0..4 {
            setting.answered(EXACT, row).await;
        }
        while setting.ask(PRIVATE, 0, None).await.is_ok() {}
        // Faults are where messages grow careless.
        setting.world.kill(names::ONE).unwrap();
        setting.ask(EXACT, 1, None).await.unwrap_err();
        setting.revive(names::ONE).await;
        setting.filled(EXACT).await;
        setting.ask(EXACT, 2, None).await.unwrap();
        setting.world.stop();

        let secrets = secrets(&setting);
        assert!(secrets.0.len() > 300, "{}", secrets.0.len());
        let mut paths = Vec::new();
        files(&setting.world.folder_of(""), &mut paths);
        let (mut logs, mut stores) = (0, 0);
        for path in paths {
            let bytes = std::fs::read(&path).unwrap();
            logs += usize::from(path.ends_with("log.txt") && bytes.len() > 1000);
            stores += usize::from(path.extension().is_some_and(|ending| ending == "redb"));
            let found = secrets.found(&bytes);
            assert!(found.is_empty(), "{} holds {}", path.display(), found.join(", "));
        }
        assert!(logs >= 4 && stores >= 5, "{logs} logs, {stores} stores");
    });
}

/// The search itself: a planted secret is found wherever it stands.
#[test]
fn a_planted_secret_is_found() {
    let mut secrets = Secrets::default();
    secrets.words("weights", &[0x0123_4567_89ab, 0x0001_0203]);
    secrets.number("an input", -17.371_902);
    let raw = [0x0123_4567_89abu64.to_le_bytes(), 0x0001_0203u64.to_le_bytes()].concat();
    for planted in [raw.as_slice(), b"-17.371902", b"1250999896491", b"1250999896491, 66051"] {
        let bytes = [b"noise ".as_slice(), planted, b" noise"].concat();
        assert!(!secrets.found(&bytes).is_empty(), "{planted:?}");
    }
    assert!(secrets.found(b"noise 17.4 noise").is_empty());
}

fn secrets(setting: &Setting) -> Secrets {
    let mut secrets = Secrets::default();
    let fixed = Fixed { fraction_bits: NUMBERS.fraction_bits };
    for row in 0..4 {
        let values = setting.row(row);
        secrets.words("an input", &fixed.encode_all(&values, BOUND).unwrap());
        values.iter().for_each(|value| secrets.number("an input", *value));
        let singles: Vec<f32> = values.iter().map(|value| *value as f32).collect();
        for hospital in &setting.scenario.hospitals {
            let logits = logits(&hospital.model, &singles);
            secrets.words("logits", &fixed.encode_all(&logits, 4096.0).unwrap());
            logits.iter().for_each(|logit| secrets.number("a logit", *logit));
        }
    }
    for hospital in &setting.scenario.hospitals {
        let what = format!("weight of {}", hospital.name);
        for layer in encode(&hospital.model, NUMBERS).unwrap() {
            secrets.words(&what, &layer.weight);
            secrets.words(&what, &layer.bias);
        }
        for layer in hospital.model.weights() {
            layer.weight.iter().chain(&layer.bias).for_each(|value| secrets.single(&what, *value));
        }
    }
    secrets
}

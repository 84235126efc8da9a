use super::testing::{model, net};
use super::*;
use consilium_protocol::graph::{Layer, Network, Shape};
use consilium_protocol::homomorphic::{IntegerNet, Mode, Plan};
use consilium_protocol::model::{Model, Weights};
use proptest::prelude::*;
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use tempfile::TempDir;

const QUIET: Heard<'static> = &|_, _| ();

fn two() -> NonZero<usize> {
    NonZero::new(2).unwrap()
}

/// Both sides with all their files.
struct World {
    folder: TempDir,
    plan: Plan,
    net: IntegerNet,
    secret: Secret,
}

impl World {
    fn new(mode: Mode) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (network, net) = net();
        let (plan, _) = Plan::choose(&network, &net, mode).unwrap();
        write_plan(&at("plan"), &plan).unwrap();
        assert_eq!(read_plan(&at("plan")).unwrap(), plan);
        let (id, bytes) = make_keys(&plan, &at("secret"), &at("keys")).unwrap();
        assert_eq!(bytes, fs::metadata(at("keys")).unwrap().len());
        let secret = read_secret(&at("secret"), &plan).unwrap();
        assert_eq!(secret.id(), id);
        let world = Self { plan, net, secret, folder };
        world.encrypt("query", 1);
        world.evaluate("query", "answer").unwrap();
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn encrypt(&self, name: &str, rows: usize) -> Vec<i64> {
        let inputs: Vec<i64> = (0..rows * 5).map(|place| (place * place % 5) as i64).collect();
        let ticket = self.at(&format!("{name}.ticket"));
        encrypt(&self.plan, &self.secret, &inputs, (&self.at(name), &ticket), two(), QUIET).unwrap();
        inputs
    }

    fn evaluate(&self, query: &str, answer: &str) -> Result<(Ticket, u64), HomomorphicError> {
        let keys = read_keys(&self.at("keys"), &self.plan)?;
        let evaluator = prepare(&model(), &self.plan)?;
        evaluate(&evaluator, &keys, &self.at(query), &self.at(answer), two(), QUIET)
    }

    fn decrypt(&self, query: &str, answer: &str) -> Result<Decrypted, HomomorphicError> {
        let ticket = read_ticket(&self.at(query), &self.plan, &self.secret)?;
        decrypt(&self.plan, &self.secret, &ticket, &self.at(answer), two(), QUIET)
    }

    /// A copy of a file with something changed.
    fn changed(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
        let mut bytes = fs::read(self.at(name)).unwrap();
        change(&mut bytes);
        let path = self.at(&format!("{name}.changed"));
        // Through a new file, so that it has the mode of a secret.
        crate::vault::write_atomic(&path, &bytes).unwrap();
        path
    }
}

/// One for all tests that change nothing.
static SINGLE: LazyLock<World> = LazyLock::new(|| World::new(Mode::Single));

#[test]
fn logits_come_back_through_files() {
    for (mode, rows) in [(Mode::Batch, 40), (Mode::Single, 1)] {
        let world = World::new(mode);
        let inputs = world.encrypt("rows", rows);
        let (ticket, bytes) = world.evaluate("rows", "logits").unwrap();
        assert_eq!((ticket.used as usize, bytes), (rows, fs::metadata(world.at("logits")).unwrap().len()));
        for query in ["rows", "rows.ticket"] {
            let opened = world.decrypt(query, "logits").unwrap();
            assert_eq!(opened.logits.concat(), world.net.evaluate(&inputs), "{mode:?}");
            assert!(opened.margin > 7.0, "{}", opened.margin);
        }
        let names = fs::read_dir(world.folder.path()).unwrap().count();
        assert_eq!(names, 9, "no unfinished file stays");
    }
}

#[test]
fn plans_are_tried_and_wrong_ones_fail() {
    for mode in [Mode::Batch, Mode::Single] {
        let (network, net) = net();
        let (mut plan, _) = Plan::choose(&network, &net, mode).unwrap();
        let tried = self_test(&plan, &net, two(), QUIET).unwrap();
        assert_eq!(tried.logits, tried.inputs * 3);
        assert!(tried.margin > 7.0, "{tried:?}");
        // A flood as large as the modulus.
        plan.flood_bits += 16;
        assert!(matches!(self_test(&plan, &net, two(), QUIET), Err(HomomorphicError::SelfTestOpen(_))));
    }
}

#[test]
fn another_model_is_refused() {
    let plan = &SINGLE.plan;
    let refused = |model: &Model| prepare(model, plan).unwrap_err().to_string();
    let (model, mut changed) = (model(), model().weights().to_vec());
    changed[1].weight[0] += 100.0;
    let changed = Model::new(model.network().clone(), changed).unwrap();
    assert!(refused(&changed).contains("logits have"), "{}", refused(&changed));
    let network = Network::new(Shape::vector(5), vec![Layer::Dense { outputs: 3 }]).unwrap();
    let shallow = Model::new(network, vec![Weights { weight: vec![1.0; 15], bias: vec![0.0; 3] }]).unwrap();
    assert!(refused(&shallow).contains("2 scales"), "{}", refused(&shallow));
}

#[test]
fn rows_are_refused_by_place_and_value() {
    let plan = &SINGLE.plan;
    let refused = |row: &[f32]| encode(plan, [row].into_iter()).unwrap_err();
    let error = refused(&[0.0, 1.0, 2.5, 0.0, 0.0]);
    assert!(
        matches!(error, HomomorphicError::Input { row: 1, column: 3, value: 2.5, low: 0.0, high: 2.0 }),
        "{error}"
    );
    assert!(matches!(refused(&[f32::NAN; 5]), HomomorphicError::Input { column: 1, .. }));
    assert!(matches!(refused(&[0.0; 4]), HomomorphicError::Width { expected: 5, found: 4 }));
    let none: [&[f32]; 0] = [];
    assert!(matches!(encode(plan, none.into_iter()), Err(HomomorphicError::Rows { found: 0, most: 1 })));
    let two: [&[f32]; 2] = [&[0.0; 5]; 2];
    assert!(matches!(encode(plan, two.into_iter()), Err(HomomorphicError::Rows { found: 2, most: 1 })));
}

const NAMES: [&str; 6] = ["plan", "secret", "keys", "query", "query.ticket", "answer"];

/// Reads a file as what it was before it was changed.
fn read_as(world: &World, name: &str, path: &Path) -> Result<(), HomomorphicError> {
    let plan = &world.plan;
    match name {
        "plan" => read_plan(path).map(|_| ()),
        "secret" => read_secret(path, plan).map(|_| ()),
        "keys" => read_keys(path, plan).map(|_| ()),
        "query.ticket" => read_ticket(path, plan, &world.secret).map(|_| ()),
        "query" => world.evaluate(path.file_name().unwrap().to_str().unwrap(), "none").map(|_| ()),
        _ => world.decrypt("query", path.file_name().unwrap().to_str().unwrap()).map(|_| ()),
    }
}

#[test]
fn cut_long_and_changed_files_are_told_apart() {
    let world = World::new(Mode::Single);
    for name in NAMES {
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let path = world.changed(name, change);
            let error = read_as(&world, name, &path).unwrap_err();
            let told = inspect(&path);
            assert!(
                told.is_err()
                    || matches!(error, HomomorphicError::Longer { .. } | HomomorphicError::Truncated { .. })
            );
            assert!(error.to_string().contains("changed"), "{error}");
            error
        };
        for cut in [1, 13, 20, 60] {
            let error = refused(&|bytes| bytes.truncate(cut));
            assert!(matches!(error, HomomorphicError::Truncated { .. }), "{name} {cut}: {error}");
        }
        let error = refused(&|bytes| bytes.truncate(bytes.len() - 1));
        assert!(matches!(error, HomomorphicError::Truncated { .. }), "{name}: {error}");
        assert!(matches!(refused(&|bytes| bytes.push(0)), HomomorphicError::Longer { .. }), "{name}");
        assert!(matches!(refused(&Vec::clear), HomomorphicError::Foreign { .. }), "{name}");
        assert!(matches!(refused(&|bytes| bytes[3] ^= 1), HomomorphicError::Foreign { .. }), "{name}");
        assert!(
            matches!(refused(&|bytes| bytes[12] = 9), HomomorphicError::Version { found: 9, .. }),
            "{name}"
        );
        assert!(matches!(refused(&|bytes| bytes[14] = 99), HomomorphicError::Heading { .. }), "{name}");
        assert!(matches!(refused(&|bytes| bytes[17] = 9), HomomorphicError::Heading { .. }), "{name}");
        for place in [0, 20, 40] {
            let error = refused(&|bytes| bytes[19 + place] ^= 4);
            assert!(matches!(error, HomomorphicError::Tampered { .. }), "{name} {place}: {error}");
        }
        for back in [1, 32, 33, 1000] {
            let error = refused(&|bytes| {
                let place = bytes.len().saturating_sub(back).max(19);
                bytes[place] ^= 0x80;
            });
            assert!(matches!(error, HomomorphicError::Tampered { .. }), "{name} {back}: {error}");
        }
    }
    assert!(!world.at("none").exists(), "no answer to a bad query");
}

#[test]
fn files_of_others_are_refused_by_name() {
    let (world, other) = (World::new(Mode::Single), World::new(Mode::Single));
    for (name, into) in NAMES.into_iter().zip(["keys", "plan", "secret", "answer", "plan", "query"]) {
        let error = read_as(&world, into, &world.at(name)).unwrap_err();
        assert!(matches!(error, HomomorphicError::Kind { .. }), "{name} as {into}: {error}");
    }
    let copy = |name: &str, to: &str| fs::copy(other.at(name), world.at(to)).map(|_| ()).unwrap();
    copy("query", "theirs");
    copy("answer", "their-answer");
    assert!(matches!(world.evaluate("theirs", "none"), Err(HomomorphicError::OtherKey { .. })));
    assert!(matches!(world.decrypt("theirs", "answer"), Err(HomomorphicError::OtherKey { .. })));
    assert!(matches!(world.decrypt("query", "their-answer"), Err(HomomorphicError::OtherKey { .. })));
    world.encrypt("second", 1);
    assert!(matches!(world.decrypt("second", "answer"), Err(HomomorphicError::OtherQuery { .. })));
    let batch = World::new(Mode::Batch);
    for name in ["secret", "keys", "query.ticket", "query"] {
        let error = read_as(&batch, name, &world.at(name));
        // A query is looked for in the other's folder.
        let path = batch.at("foreign");
        fs::copy(world.at(name), &path).unwrap();
        let error = if name == "query" { read_as(&batch, name, &path) } else { error };
        assert!(matches!(error, Err(HomomorphicError::OtherPlan { .. })), "{name}: {error:?}");
    }
}

#[test]
fn a_secret_is_private_and_never_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new(Mode::Single);
    let secret = world.at("secret");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o7777, 0o600);
    let again = make_keys(&world.plan, &secret, &world.at("keys"));
    assert!(matches!(again, Err(HomomorphicError::Exists { .. })));
    // Where the keys cannot be written there is no secret either.
    let nowhere = world.at("no folder").join("keys");
    assert!(matches!(make_keys(&world.plan, &world.at("new"), &nowhere), Err(HomomorphicError::Vault(_))));
    assert!(!world.at("new").exists());
    // Nor by anything else, and nothing else is replaced by what is not of its kind.
    for (path, query) in [("secret", "other"), ("other", "secret"), ("other", "plan")] {
        let paths = (&*world.at(query), &*world.at(path));
        let refused = encrypt(&world.plan, &world.secret, &[0; 5], paths, two(), QUIET);
        assert!(matches!(refused, Err(HomomorphicError::InTheWay { .. })), "{path} {query}");
        assert!(!world.at("other").exists());
    }
    assert!(read_secret(&secret, &world.plan).is_ok());
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    let exposed = read_secret(&secret, &world.plan).unwrap_err().to_string();
    assert!(exposed.contains("can be read or written by others"), "{exposed}");
}

#[test]
fn files_say_what_they_are() {
    let told = |name: &str| inspect(&SINGLE.at(name)).unwrap();
    for (name, kind) in NAMES.into_iter().zip([
        FileKind::Plan,
        FileKind::Secret,
        FileKind::Keys,
        FileKind::Query,
        FileKind::Ticket,
        FileKind::Answer,
    ]) {
        let found = told(name);
        assert_eq!((found.kind, found.plan_digest), (kind, SINGLE.plan.digest()));
        assert_eq!(found.bytes, fs::metadata(SINGLE.at(name)).unwrap().len());
        assert_eq!(found.key.is_some(), !matches!(kind, FileKind::Plan | FileKind::Secret));
    }
    assert_eq!(told("query").query, told("answer").query);
    assert_eq!(told("query").key, Some(SINGLE.secret.id()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), known in 0_usize..20, kind in 0_u8..8) {
        let start = [&b"consilium-he\x01\0"[..], &[kind], &[60, 0, 0, 0]].concat();
        for (byte, from) in bytes.iter_mut().zip(&start[..known.min(start.len())]) {
            *byte = *from;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes");
        crate::vault::write_atomic(&path, &bytes).unwrap();
        prop_assert!(inspect(&path).is_err());
        prop_assert!(read_plan(&path).is_err());
    }

    #[test]
    fn no_bit_can_be_changed(name in 0_usize..5, place in any::<proptest::sample::Index>(), bit in 0_u8..8) {
        // The sixth, an answer, is read by the same reader; a query takes an evaluation.
        let name = ["plan", "secret", "keys", "query.ticket", "answer"][name];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("changed");
        let mut bytes = fs::read(SINGLE.at(name)).unwrap();
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        crate::vault::write_atomic(&path, &bytes).unwrap();
        prop_assert!(inspect(&path).is_err(), "{} {}", name, place);
    }
}

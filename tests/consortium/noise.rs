//! Noise from the module: one draw for both, killed, refused, spied on.

use crate::audit::{Audit, audit_both};
use crate::setting::{EXACT, LOOK_EVERY, PRIVATE, SOON, Setting, in_runtime, refused, scenario};
use consilium::admin::{ModuleStatus, NoiseStatus};
use consilium::demo::{GivenModule, Noise, Releases, Scenario, names, tasks};
use consilium::message::Obstacle;
use consilium_attest::choice::NoiseRule;
use consilium_attest::module::receipt::Receipt;
use consilium_attest::module::specification::SignedSpecification;
use consilium_attest::policy::TpmPolicy;
use consilium_attest::{Evidence, EvidenceKind, Hex, Policy, Provenance};
use consilium_config::ModuleSocket;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

/// Noisy, with a budget for all questions.
const NOISY: &str = tasks::EVALUATION;
const SOFTWARE_EVIDENCE: Provenance = Provenance::Module { evidence: EvidenceKind::Software };

fn with_rule(rule: NoiseRule) -> Scenario {
    let scenario = scenario();
    let releases = Releases { noise: Noise { rule, given: None }, ..scenario.releases.clone() };
    Scenario { releases, ..scenario }
}

async fn published(scenario: Scenario, tasks: &[&str]) -> Setting {
    let setting = Setting::bare(scenario, "info").await;
    setting.publish_all(tasks).await;
    setting
}

/// What vouched for which batch, from a party's record.
struct Recorded {
    receipts: BTreeMap<(String, u64), Vec<u8>>,
    keys: BTreeMap<String, String>,
    evidence: Vec<Evidence>,
}

fn hex(value: &serde_json::Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn recorded(folder: &Path) -> Recorded {
    let text = std::fs::read_to_string(folder.join("pairs/main/module.jsonl")).unwrap();
    let mut found = Recorded { receipts: BTreeMap::new(), keys: BTreeMap::new(), evidence: Vec::new() };
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        if let Some(line) = line.get("accepted") {
            let (boot, key) = (line["boot"].as_str().unwrap(), line["receipt_key"].as_str().unwrap());
            found.keys.insert(boot.to_owned(), key.to_owned());
            found.evidence.push(Evidence::decode(&hex(&line["evidence"])).unwrap());
        } else {
            let line = &line["drawn"];
            let boot = line["boot"].as_str().unwrap().to_owned();
            let batch = line["batch"].as_u64().unwrap();
            let receipt = Receipt::decode(&hex(&line["receipt"])).unwrap();
            let signed = SignedSpecification::decode(&hex(&line["specification"])).unwrap();
            assert_eq!(receipt.specification, signed.specification().digest());
            let key: Hex<32> = found.keys[&boot].parse().unwrap();
            assert!(receipt.is_signed_by(&key.0), "by the key that the evidence bound");
            assert!(found.receipts.insert((boot, batch), receipt.encode()).is_none());
        }
    }
    found
}

#[test]
fn one_draw_serves_both_parties_and_auditors_can_tell_whose() {
    in_runtime(async {
        let mut setting = published(with_rule(NoiseRule::Module), &[NOISY, EXACT]).await;
        let rows = 20;
        for row in 0..rows {
            let answer = setting.ask(NOISY, row, None).await.unwrap();
            assert_eq!(answer.terms.noise, SOFTWARE_EVIDENCE);
            assert!(answer.terms.noise.to_string().contains("SOFTWARE EVIDENCE"));
        }
        let exact = setting.ask(EXACT, 0, None).await.unwrap();
        assert_eq!(exact.terms.noise, Provenance::Exact);
        for name in [names::ZERO, names::ONE] {
            let report = setting.world.status(name).await.unwrap();
            let Some(ModuleStatus::Accepted { evidence, shown, .. }) = &report.seats[0].module else {
                panic!("{:?}", report.seats[0].module)
            };
            assert_eq!(*evidence, EvidenceKind::Software);
            assert!(shown.contains("NOTHING vouches"), "{shown}");
        }
        let [zero, one] = [names::ZERO, names::ONE].map(|name| recorded(&setting.world.folder_of(name)));
        let audits = audit_both(&mut setting, NOISY);
        for (audit, record) in audits.iter().zip([&zero, &one]) {
            // The exact answer has none.
            let tickets: Vec<_> = audit.tickets.values().flatten().collect();
            assert_eq!(tickets.len(), rows);
            for ticket in &tickets {
                let boot = Hex(ticket.boot).to_string();
                assert!(record.receipts.contains_key(&(boot, ticket.batch)), "{ticket:?} has a receipt");
            }
        }
        assert_eq!(audits[0].tickets, audits[1].tickets, "both mean the same draws");
        assert_eq!(zero.receipts, one.receipts, "one receipt for both");
        // Each party's evidence was made for itself.
        let verifiers = |record: &Recorded| record.evidence[0].binding.verifier.clone();
        assert_ne!(verifiers(&zero), verifiers(&one));
    });
}

/// Asks until an answer is as wanted.
async fn ask_until(setting: &Setting, what: &str, wanted: impl Fn(&Provenance) -> bool) {
    let started = Instant::now();
    for row in 0.. {
        match setting.ask(NOISY, row, None).await {
            Ok(answer) if wanted(&answer.terms.noise) => return,
            Ok(_) => {}
            Err(refusal) => assert_eq!(refusal.obstacle, Obstacle::Noise, "{refusal}"),
        }
        assert!(started.elapsed() < SOON, "no {what} in {SOON:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[test]
fn without_the_module_there_is_no_release_and_with_it_there_is_again() {
    in_runtime(async {
        let mut setting = published(with_rule(NoiseRule::Module), &[NOISY]).await;
        setting.ask(NOISY, 0, None).await.unwrap();
        setting.world.kill(names::MODULE).unwrap();
        // What was drawn before the module died serves on; then every question is refused.
        let mut refusal = None;
        for row in 0..200 {
            match setting.ask(NOISY, row, None).await {
                Ok(answer) => assert_eq!(answer.terms.noise, SOFTWARE_EVIDENCE),
                Err(told) => refusal = Some(told),
            }
            if refusal.is_some() {
                break;
            }
        }
        let refusal = refusal.expect("the noise runs out");
        assert_eq!(refusal.obstacle, Obstacle::Noise);
        assert!(refusal.explanation.contains("cannot be reached"), "{refusal}");
        let spent = |status: &consilium::admin::TaskStatus| status.epsilon_spent;
        let before = spent(&setting.until(names::ZERO, NOISY, "state", |_| true).await);
        for row in 0..3 {
            refused(setting.ask(NOISY, row, None).await, &[Obstacle::Noise]);
        }
        let after = spent(&setting.until(names::ZERO, NOISY, "state", |_| true).await);
        assert_eq!(before, after, "a refusal for want of noise costs nothing");
        setting.world.launch_module().await.unwrap();
        ask_until(&setting, "noise of the new boot", |noise| *noise == SOFTWARE_EVIDENCE).await;
        let [zero, one] = audit_both(&mut setting, NOISY);
        let boots = |audit: &Audit| -> BTreeSet<_> {
            audit.tickets.values().flatten().map(|ticket| ticket.boot).collect()
        };
        assert_eq!((boots(&zero).len(), boots(&zero)), (2, boots(&one)));
    });
}

#[test]
fn a_module_that_was_started_anew_is_noticed_behind_full_stocks() {
    in_runtime(async {
        let mut setting = published(with_rule(NoiseRule::Module), &[NOISY, PRIVATE]).await;
        setting.ask(PRIVATE, 0, None).await.unwrap();
        setting.ask(NOISY, 0, None).await.unwrap();
        // Both tasks have noise ahead, all of a boot that is over.
        setting.world.kill(names::MODULE).unwrap();
        setting.world.launch_module().await.unwrap();
        // One task draws until both parties know the new boot; the other must not wait behind what it has.
        let boot_of = |report: &consilium::admin::Report| match &report.seats[0].module {
            Some(ModuleStatus::Accepted { boot, .. }) => Some(boot.clone()),
            _ => None,
        };
        let first = boot_of(&setting.world.status(names::ZERO).await.unwrap());
        let started = Instant::now();
        for row in 0.. {
            let _ = setting.ask(NOISY, row, None).await;
            let now = boot_of(&setting.world.status(names::ZERO).await.unwrap());
            if now.is_some() && now != first {
                break;
            }
            assert!(started.elapsed() < SOON, "the new boot is not noticed");
        }
        ask_until(&setting, "noise of the new boot", |noise| *noise == SOFTWARE_EVIDENCE).await;
        let answer = loop {
            match setting.ask(PRIVATE, 1, None).await {
                Ok(answer) => break answer,
                Err(refusal) => assert!(started.elapsed() < SOON, "{refusal}"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        assert_eq!(answer.terms.noise, SOFTWARE_EVIDENCE);
        // And where one party was started anew as well, so that the other alone has an old line.
        setting.world.kill(names::MODULE).unwrap();
        setting.world.launch_module().await.unwrap();
        setting.world.kill(names::ONE).unwrap();
        setting.revive(names::ONE).await;
        setting.filled(NOISY).await;
        ask_until(&setting, "noise after both", |noise| *noise == SOFTWARE_EVIDENCE).await;
    });
}

#[test]
fn a_party_that_was_killed_comes_back_to_new_noise() {
    in_runtime(async {
        let mut setting = published(with_rule(NoiseRule::Module), &[NOISY]).await;
        setting.ask(NOISY, 0, None).await.unwrap();
        for victim in [names::ONE, names::ZERO] {
            setting.world.kill(victim).unwrap();
            setting.revive(victim).await;
            setting.filled(NOISY).await;
            ask_until(&setting, "noise after a crash", |noise| *noise == SOFTWARE_EVIDENCE).await;
        }
        let [zero, one] = audit_both(&mut setting, NOISY);
        // Whoever asked last may know one more; nobody used a draw twice, which the ledgers check as well.
        let mut used = BTreeSet::new();
        for (release, ticket) in &zero.tickets {
            assert!(used.insert(ticket.unwrap()), "{release}: {ticket:?} again");
            assert!(one.tickets.get(release).is_none_or(|theirs| theirs == ticket));
        }
    });
}

#[test]
fn software_noise_steps_in_where_all_members_signed_so() {
    in_runtime(async {
        let mut setting = published(with_rule(NoiseRule::ModuleElseSoftware), &[NOISY]).await;
        ask_until(&setting, "noise of the module", |noise| *noise == SOFTWARE_EVIDENCE).await;
        setting.world.kill(names::MODULE).unwrap();
        ask_until(&setting, "software noise", |noise| *noise == Provenance::Software).await;
        setting.world.launch_module().await.unwrap();
        ask_until(&setting, "noise of the module", |noise| *noise == SOFTWARE_EVIDENCE).await;
        let [zero, one] = audit_both(&mut setting, NOISY);
        assert_eq!(zero.tickets, one.tickets);
        assert!(zero.tickets.values().any(Option::is_none), "software noise has no ticket");
    });
}

#[test]
fn refused_evidence_is_papered_over_by_nothing() {
    in_runtime(async {
        // The module that runs has software evidence; the consortium wants a TPM.
        let images = vec![consilium_attest::policy::Image {
            registers: vec![consilium_attest::policy::Register { index: 4, value: Hex([1; 32]) }],
        }];
        let policy = Policy {
            evidence_age_max_secs: 120,
            reattest_after_secs: 3600,
            sev_snp: None,
            tdx: None,
            sgx_dcap: None,
            nitro: None,
            tpm2: Some(TpmPolicy { keys: vec![Hex([2; 32])], images }),
            software: None,
        };
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let mut module = std::process::Command::new(env!("CARGO_BIN_EXE_node"))
            .args(["module", "--attester", "software", "--listen"])
            .arg(format!("unix:{}", socket.display()))
            .spawn()
            .unwrap();
        let given = Some(GivenModule { socket: ModuleSocket::Unix(socket), policy });
        let rule = NoiseRule::ModuleElseSoftware;
        let scenario = scenario();
        let releases = Releases { noise: Noise { rule, given }, ..scenario.releases.clone() };
        let setting = Setting::bare(Scenario { releases, ..scenario }, "info,consilium::noise=debug").await;
        setting.publish_all(&[NOISY]).await;
        let started = Instant::now();
        for name in [names::ZERO, names::ONE] {
            loop {
                let report = setting.world.status(name).await.unwrap();
                match &report.seats[0].module {
                    Some(ModuleStatus::Refused { reason }) => {
                        assert!(reason.contains("software evidence vouches for nothing"), "{reason}");
                        break;
                    }
                    other => assert!(started.elapsed() < SOON, "{name}: {other:?}"),
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        for row in 0..3 {
            let refusal = refused(setting.ask(NOISY, row, None).await, &[Obstacle::Noise]);
            assert!(refusal.explanation.contains("was refused"), "{refusal}");
        }
        let status = setting.until(names::ZERO, NOISY, "state", |_| true).await;
        let Some(NoiseStatus { ahead: 0, .. }) = status.noise else { panic!("{:?}", status.noise) };
        assert_eq!(status.answered, 0);
        module.kill().unwrap();
        module.wait().unwrap();
        // A module that was caught gains nothing by falling silent: both parties look for it again in vain.
        let log = setting.world.folder_of(names::ZERO).join("log.txt");
        let looked =
            |text: &str| text.matches("cannot be reached").count() + text.matches("nothing answers").count();
        let started = Instant::now();
        while looked(&std::fs::read_to_string(&log).unwrap()) == 0 {
            assert!(started.elapsed() < SOON, "nobody looks for the module any more");
            let refusal = refused(setting.ask(NOISY, 0, None).await, &[Obstacle::Noise]);
            assert!(refusal.explanation.contains("was refused"), "{refusal}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let refusal = refused(setting.ask(NOISY, 0, None).await, &[Obstacle::Noise]);
        assert!(refusal.explanation.contains("was refused"), "{refusal}");
    });
}

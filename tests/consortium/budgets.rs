//! What owners sign, what reports say, and what a restored ledger gets back: nothing.

use crate::audit::{audit, audit_both, exports};
use crate::pools::BOTH;
use crate::setting::{CLASSES, INPUTS, PRIVATE, SOON, Setting, in_runtime, model, network, refused};
use consilium::admin::{AdminReply, AdminRequest, OwnerAccount, SignedReport, call};
use consilium::demo::names;
use consilium::ledger::{Change, SignedStatement};
use consilium::message::{Obstacle, Refusal};
use consilium::owner::Wanted;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

const OWNER: &str = "hospital-01";

impl Setting {
    async fn declare(&self, owner: &str, wanted: Wanted) -> Result<SignedStatement, Refusal> {
        let request = AdminRequest::Declare { task: PRIVATE.to_owned(), wanted };
        match call(&self.world.socket(owner), &request).await.unwrap() {
            AdminReply::Declared(signed) => Ok(*signed),
            AdminReply::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    async fn account(&self, owner: &str) -> OwnerAccount {
        let request = AdminRequest::Account { task: PRIVATE.to_owned() };
        match call(&self.world.socket(owner), &request).await.unwrap() {
            AdminReply::Account(account) => *account,
            other => panic!("{other:?}"),
        }
    }

    async fn report(&self, party: &str) -> SignedReport {
        let request = AdminRequest::Ledger { task: PRIVATE.to_owned(), latest: 5 };
        match call(&self.world.socket(party), &request).await.unwrap() {
            AdminReply::Ledger(report) => *report,
            other => panic!("{other:?}"),
        }
    }

    async fn asked(&self, count: usize) {
        for row in 0..count {
            self.answered(PRIVATE, row).await;
        }
    }

    /// The command line of a node's administrator.
    fn command(&self, name: &str, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_node"));
        command.args(words);
        if !name.is_empty() {
            command.arg("--config").arg(self.world.folder_of(name).join("consilium.toml"));
        }
        command.output().unwrap()
    }
}

fn budget(epsilon: &str) -> Wanted {
    Wanted::Budget { epsilon: epsilon.parse().unwrap() }
}

#[track_caller]
fn declined(told: Result<SignedStatement, Refusal>, obstacles: &[Obstacle]) -> String {
    let refusal = told.unwrap_err();
    assert!(obstacles.contains(&refusal.obstacle), "{refusal:?}");
    refusal.explanation
}

#[test]
fn an_owner_raises_and_lowers_its_budget_by_its_signature() {
    in_runtime(async {
        let mut setting = Setting::published(&[PRIVATE]).await;
        let paid = setting.paid(PRIVATE);
        setting.asked(paid).await;
        refused(setting.ask(PRIVATE, 0, None).await, &[Obstacle::Budget]);
        let owners = ["hospital-01", "hospital-02", "hospital-03"];
        for (count, owner) in owners.into_iter().enumerate() {
            // Every owner speaks for itself alone.
            refused(setting.ask(PRIVATE, 0, None).await, &[Obstacle::Budget]);
            let signed = setting.declare(owner, budget("16")).await.unwrap();
            assert_eq!((signed.statement.number, signed.statement.owner.as_str()), (1, owner));
            assert_eq!(setting.report(names::ONE).await.report.statements.len(), count + 1);
        }
        setting.asked(1).await;
        let head = setting.report(names::ZERO).await.report.head;
        let again = setting.declare(OWNER, budget("16")).await.unwrap();
        assert_eq!(again.statement.number, 1, "nothing is signed twice");
        assert_eq!(setting.report(names::ZERO).await.report.head, head);

        // Less than is spent: no answer with this owner's model, also after a crash of either party.
        setting.declare(OWNER, budget("1")).await.unwrap();
        for name in BOTH {
            let refusal = refused(setting.ask(PRIVATE, 0, None).await, &[Obstacle::Budget]);
            assert!(refusal.explanation.contains(OWNER), "{refusal}");
            setting.world.kill(name).unwrap();
            setting.revive(name).await;
            setting.filled(PRIVATE).await;
        }
        for stranger in [names::CLIENT, names::ONE] {
            declined(setting.declare(stranger, budget("900")).await, &[Obstacle::NotAllowed]);
        }

        // While a party is away nothing is signed; what one of them missed is delivered later.
        setting.world.kill(names::ONE).unwrap();
        declined(setting.declare(OWNER, budget("17")).await, &[Obstacle::Peer, Obstacle::Deadline]);
        setting.revive(names::ONE).await;
        let signed = setting.declare(OWNER, budget("17")).await.unwrap();
        assert_eq!(signed.statement.number, 3);
        setting.filled(PRIVATE).await;
        setting.asked(1).await;
        let account = setting.account(OWNER).await;
        for party in &account.parties {
            let books = party.books.as_ref().unwrap();
            assert_eq!((books.statements.len(), books.data_epoch), (3, 0));
            assert_eq!(party.epsilon.as_deref(), Some("17"));
            assert!(books.accounts.iter().all(|account| account.name == OWNER), "{books:?}");
        }
        exports(&setting).await;
        let [zero, one] = audit_both(&mut setting, PRIVATE);
        assert_eq!(zero.books.owners, one.books.owners);
        assert_eq!((zero.committed.len(), one.committed.len()), (paid + 2, paid + 2));
    });
}

#[test]
fn other_data_begin_an_account_of_their_own_when_their_owner_signs_that() {
    in_runtime(async {
        let mut setting = Setting::published(&[PRIVATE]).await;
        setting.asked(1).await;
        // A retrained model goes on with the account.
        let fits = network(INPUTS as u32, CLASSES);
        setting.publish(OWNER, PRIVATE, &model(&fits, 1.5, 71)).await.unwrap();
        setting.filled(PRIVATE).await;
        setting.asked(1).await;
        let signed = setting.declare(OWNER, Wanted::Disjoint).await.unwrap();
        assert_eq!(signed.statement.change, Change::Disjoint { data_epoch: 1 });
        // The model of the old data still votes, on its old account.
        setting.asked(1).await;
        setting.publish(OWNER, PRIVATE, &model(&fits, 1.5, 72)).await.unwrap();
        setting.filled(PRIVATE).await;
        setting.asked(1).await;
        let price = setting.report(names::ZERO).await.report.price;
        for party in BOTH {
            let report = setting.report(party).await;
            assert!(report.is_genuine() && report.report.other.agrees, "{report:?}");
            let accounts = report.report.owners.iter().map(|loss| &loss.account);
            let told: Vec<_> = accounts.map(|one| (one.name.as_str(), one.data_epoch, one.spent)).collect();
            let expected = [
                (OWNER, 0, 3 * price),
                (OWNER, 1, price),
                ("hospital-02", 0, 4 * price),
                ("hospital-03", 0, 4 * price),
            ];
            assert_eq!(told, expected, "{party}");
            assert_eq!(report.report.clients[0].account.spent, 4 * price);
            let latest = &report.report.releases[0];
            assert_eq!((latest.outcome.as_str(), latest.owners[0].data_epoch), ("answered", 1));
            assert_eq!((report.report.answered, report.report.releases.len()), (4, 4));
        }
        exports(&setting).await;
        audit_both(&mut setting, PRIVATE);
    });
}

#[test]
fn an_old_ledger_is_refused_by_name_and_gives_no_budget_back() {
    for victim in BOTH {
        in_runtime(async {
            let mut setting = Setting::published(&[PRIVATE]).await;
            let ledger = setting.world.folder_of(victim).join("pairs/main/ledger.redb");
            let [old, new] = ["old", "new"].map(|what| ledger.with_extension(what));
            setting.asked(1).await;
            setting.world.kill(victim).unwrap();
            std::fs::copy(&ledger, &old).unwrap();
            setting.revive(victim).await;
            setting.filled(PRIVATE).await;
            setting.asked(1).await;
            setting.world.kill(victim).unwrap();
            std::fs::rename(&ledger, &new).unwrap();
            std::fs::copy(&old, &ledger).unwrap();
            setting.start_alone(victim).await;
            refused(
                setting.ask(PRIVATE, 3, None).await,
                &[Obstacle::Ledger, Obstacle::Peer, Obstacle::Deadline],
            );
            let started = Instant::now();
            loop {
                let status = setting.world.status(names::ZERO).await.unwrap();
                let fault = status.seats[0].refill_fault.clone().unwrap_or_default();
                if fault.contains("restored") {
                    break;
                }
                assert!(started.elapsed() < SOON, "{fault:?}");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            // Either party's report says so, whoever was restored.
            for party in BOTH {
                let report = setting.report(party).await.report;
                let fault = report.other.fault.unwrap();
                assert!(!report.other.agrees && fault.contains("restored"), "{party}: {fault}");
                assert!(party == victim || fault.contains(victim), "{party}: {fault}");
            }
            setting.world.kill(victim).unwrap();
            std::fs::rename(&new, &ledger).unwrap();
            setting.revive(victim).await;
            setting.filled(PRIVATE).await;
            let price = setting.ask(PRIVATE, 4, None).await.unwrap().terms.charged;
            let [zero, one] = audit_both(&mut setting, PRIVATE);
            for audit in [zero, one] {
                assert_eq!(audit.committed.len(), 3);
                assert!(audit.books.owners.iter().all(|owner| owner.spent >= 3 * price));
            }
        });
    }
}

#[test]
fn a_book_does_not_change_its_promise_with_the_roster() {
    in_runtime(async {
        let mut setting = Setting::published(&[PRIVATE]).await;
        setting.asked(1).await;
        setting.world.stop();
        let file = setting.world.folder_of("roster.toml");
        let roster = std::fs::read_to_string(&file).unwrap();
        let edit = |from: &str, to: &str| {
            assert!(roster.contains(from), "{from}");
            std::fs::write(&file, roster.replace(from, to)).unwrap();
        };
        edit("delta = \"0.000001\"", "delta = \"0.001\"");
        let told = setting.command(names::ZERO, &["daemon"]);
        says(&told, false, &["delta 1e-6", "delta 1e-3", "restore the roster"]);
        // A larger budget in the roster is read, and raises nothing that an owner did not sign.
        edit("epsilon = \"8\"", "epsilon = \"80\"");
        setting.world.launch_all().await.unwrap();
        setting.publish_all(&[PRIVATE]).await;
        let before = answers_left(&setting).await;
        for _ in 0..before {
            setting.ask(PRIVATE, 0, None).await.unwrap();
        }
        refused(setting.ask(PRIVATE, 0, None).await, &[Obstacle::Budget]);
        audit_both(&mut setting, PRIVATE);
    });
}

/// Answers that are left in the account of the first owner, by the report.
async fn answers_left(setting: &Setting) -> u64 {
    let report = setting.report(names::ONE).await.report;
    let account = &report.owners[0].account;
    (account.limit - account.spent) / report.price
}

fn files(setting: &Setting) -> [PathBuf; 2] {
    BOTH.map(|party| setting.world.folder_of(party).join("export.jsonl"))
}

#[track_caller]
fn says(output: &Output, success: bool, words: &[&str]) {
    let text = [&output.stdout[..], &output.stderr].concat();
    // Errors are broken into framed lines.
    let text = String::from_utf8_lossy(&text).replace(['│', '×'], " ");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(output.status.success(), success, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} in {text}");
    }
}

#[test]
fn a_report_is_signed_and_its_export_can_be_checked_anywhere() {
    in_runtime(async {
        let mut setting = Setting::published(&[PRIVATE]).await;
        setting.asked(2).await;
        says(&setting.command(OWNER, &["privacy", "epoch", PRIVATE]), false, &["--disjoint"]);
        let told = setting.command(OWNER, &["privacy", "budget", PRIVATE, "--epsilon", "9"]);
        says(&told, true, &["all compute parties have it on record", "budget epsilon 9"]);
        says(&setting.command(OWNER, &["privacy", "budget", PRIVATE]), true, &[OWNER, "zero", "one", "of"]);
        says(&setting.command(OWNER, &["privacy", "report", PRIVATE]), false, &["privacy budget"]);

        let exports = files(&setting);
        for (party, file) in BOTH.iter().zip(&exports) {
            let file = file.to_str().unwrap();
            let told = setting.command(party, &["privacy", "report", PRIVATE, "--export", file]);
            let words = [
                "3 votes are too few",
                "hospital-01",
                "client",
                "2 answered",
                "budget epsilon 9",
                "agrees",
                "signed by",
                "delta 1e-6",
            ];
            says(&told, true, &words);
        }
        let [zero, one] = exports.each_ref().map(|file| file.to_str().unwrap());
        let roster = setting.world.folder_of("roster.toml");
        let verify = |words: &[&str]| setting.command("", &[&["privacy", "verify"][..], words].concat());
        let roster = roster.to_str().unwrap();
        let told = verify(&[zero, "--with", one, "--roster", roster]);
        says(&told, true, &["signature, chain, prices and sums hold", "the two parties agree"]);
        let told = verify(&[zero, "--with", zero]);
        says(&told, false, &["DOES NOT HOLD", "not the two parties"]);

        // One byte of one record.
        let text = std::fs::read_to_string(zero).unwrap();
        let spoilt = Path::new(zero).with_extension("spoilt");
        std::fs::write(&spoilt, text.replacen("\"answers\":1", "\"answers\":2", 1)).unwrap();
        says(&verify(&[spoilt.to_str().unwrap()]), false, &["hash does not fit", "signature is not"]);

        let json = setting.command(names::ZERO, &["privacy", "report", PRIVATE, "--json"]);
        let report = Path::new(zero).with_extension("report");
        std::fs::write(&report, &json.stdout).unwrap();
        says(&verify(&[report.to_str().unwrap(), "--roster", roster]), true, &["signed this report"]);
        let lie = String::from_utf8(json.stdout).unwrap().replace("\"answered\":2", "\"answered\":1");
        std::fs::write(&report, lie).unwrap();
        says(&verify(&[report.to_str().unwrap()]), false, &["signature is not"]);
        setting.world.stop();
        for party in BOTH {
            audit(&setting, party, PRIVATE);
        }
    });
}

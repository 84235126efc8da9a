//! `consilium distill`, as a client runs it: killed, refused, and its student asked.

use crate::audit::{Audit, audit_both};
use crate::setting::{PRIVATE, SOON, Setting, in_runtime};
use consilium::demo::{Progress, Scenario, names};
use consilium_tests::evaluation::{ClientFiles, LiveOptions, client_files, distillable};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Five hospitals whose budget pays for some dozens of answers.
fn hospitals() -> Scenario {
    let options = LiveOptions { owners: 5, epsilon: "60".into(), sigma: "1".into(), json: true };
    let scenario = distillable(&options, &Progress::new(false)).unwrap();
    Scenario { pool: (4, 12), ..scenario }
}

struct Client {
    setting: Setting,
    files: ClientFiles,
    out: PathBuf,
}

impl Client {
    async fn of(scenario: Scenario) -> Self {
        let setting = Setting::bare(scenario, "info").await;
        setting.publish_all(&[PRIVATE]).await;
        let home = setting.world.folder_of(names::CLIENT);
        let files = client_files(&setting.scenario.test, &setting.scenario.classes, &home).unwrap();
        Self { setting, files, out: home.join("student") }
    }

    fn command(&self, labels: usize) -> Command {
        let config = self.setting.world.folder_of(names::CLIENT).join("consilium.toml");
        let mut command = Command::new(env!("CARGO_BIN_EXE_node"));
        command.args(["distill", PRIVATE, "--json", "--labels", &labels.to_string(), "--config"]).arg(config);
        command.arg("--unlabelled").arg(&self.files.unlabelled).arg("--test").arg(&self.files.test);
        command.arg("--out").arg(&self.out).env("RAYON_NUM_THREADS", "1").kill_on_drop(true);
        command
    }

    async fn distill(&self, labels: usize) -> Value {
        let output = self.command(labels).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Starts a distillation, kills it when it has this many lines of work, and says how many it had.
    async fn killed_at(&self, labels: usize, lines: usize) -> usize {
        let mut command = self.command(labels);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        while self.lines() < lines {
            assert!(ended(&mut child).is_none(), "it ended before it was killed");
            assert!(started.elapsed() < SOON, "{} lines of work", self.lines());
            tokio::time::sleep(LOOK_EVERY).await;
        }
        child.kill().await.unwrap();
        self.lines()
    }

    fn lines(&self) -> usize {
        let text = std::fs::read(self.out.join("work.jsonl")).unwrap_or_default();
        text.iter().filter(|byte| **byte == b'\n').count()
    }

    async fn ask_student(&self, file: &Path) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_node"));
        command.args(["ask", "--json", "--student"]).arg(self.out.join("student.onnx"));
        command.arg("--file").arg(file).output().await.unwrap()
    }
}

fn ended(child: &mut Child) -> Option<std::process::ExitStatus> {
    child.try_wait().unwrap()
}

fn count(value: &Value, key: &str) -> usize {
    value["asked"][key].as_u64().unwrap() as usize
}

/// Both ledgers charged every owner for exactly the answers of the distillation.
fn paid_once(client: &mut Client, answers: usize) {
    let [zero, one] = audit_both(&mut client.setting, PRIVATE);
    let price = zero.books.owners[0].spent / answers as u64;
    for Audit { books, committed, .. } in [zero, one] {
        assert_eq!(committed.len(), answers);
        assert!(books.owners.iter().all(|owner| owner.spent == price * answers as u64), "{books:?}");
        assert_eq!(books.in_progress, 0);
    }
}

#[test]
fn a_budget_becomes_a_student_that_needs_no_consortium() {
    in_runtime(async {
        let mut client = Client::of(hospitals()).await;
        let paid = client.setting.paid(PRIVATE);
        assert!((15..client.files.rows).contains(&paid), "{paid} answers for {} rows", client.files.rows);
        let report = client.distill(client.files.rows).await;
        assert_eq!((count(&report, "labels"), count(&report, "lost")), (paid, 0));
        assert!(report["ended"].as_str().unwrap().contains("budget"), "{report}");
        let epsilon = report["epsilon"].as_f64().unwrap();
        assert!(epsilon <= 60.0 && epsilon > 50.0, "{epsilon}");
        assert!(report["accuracy"].as_f64().unwrap() > 0.75, "{report}");
        let curve = report["curve"].as_array().unwrap();
        assert!(!curve.is_empty() && curve.iter().all(|point| point["epsilon"].as_f64().unwrap() < epsilon));

        let labels = std::fs::read_to_string(client.out.join("labels.csv")).unwrap();
        assert_eq!(labels.lines().filter(|line| line.contains(",label,")).count(), paid);
        let last: f64 = labels.lines().last().unwrap().rsplit(',').next().unwrap().parse().unwrap();
        assert!(last >= epsilon && last - epsilon < 1e-5, "{last} is {epsilon} rounded up");
        assert!(report["protects"].as_str().unwrap().contains("bounded by the epsilon"), "{report}");
        assert!(std::fs::read_to_string(client.out.join("curve.svg")).unwrap().starts_with("<svg"));
        for (file, columns) in [("rows.npy", 30), ("targets.npy", 2)] {
            let bytes = std::fs::read(client.out.join(file)).unwrap();
            let heading = String::from_utf8_lossy(&bytes[..128.min(bytes.len())]).into_owned();
            assert!(heading.contains(&format!("({}, {columns})", client.files.rows)), "{heading}");
        }

        // The student answers without a node or a ledger.
        paid_once(&mut client, paid);
        let output = client.ask_student(&client.files.unlabelled).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["labels"].as_array().unwrap().len(), client.files.rows);
        assert_eq!((&answer["student"], &answer["charged"]), (&Value::Bool(true), &0.into()));
        assert_eq!(answer["provenance"]["student_sha256"], report["student_sha256"]);
        assert_eq!(answer["provenance"]["asked"], report["asked"]);
        std::fs::write(client.out.join("student.onnx"), b"another").unwrap();
        assert!(!client.ask_student(&client.files.unlabelled).await.status.success());
    });
}

#[test]
fn a_killed_distillation_goes_on_and_pays_once() {
    const LABELS: usize = 12;
    in_runtime(async {
        let mut client = Client::of(hospitals()).await;
        let mut before = 0;
        // A heading, and two lines an answer.
        for lines in [2, 5, 8, 11, 14, 19] {
            let found = client.killed_at(LABELS, lines.max(before)).await;
            assert!(found >= before, "work was lost");
            before = found;
        }
        let report = client.distill(LABELS).await;
        assert_eq!(count(&report, "labels"), LABELS);
        let lost = count(&report, "lost");
        assert_eq!(client.lines(), 1 + 2 * (LABELS + lost));
        let again = client.distill(LABELS).await;
        assert_eq!((count(&again, "labels"), &again["epsilon"]), (LABELS, &report["epsilon"]));
        assert_eq!(again["student_sha256"], report["student_sha256"], "equal answers give equal students");
        let other = client.command(LABELS + 1).output().await.unwrap();
        assert!(String::from_utf8_lossy(&other.stderr).contains("number of labels"));
        // The node outlives its visitor, so no name was lost.
        assert_eq!(lost, 0);
        paid_once(&mut client, LABELS);
    });
}

#[test]
fn a_compute_party_that_dies_is_waited_for() {
    const LABELS: usize = 10;
    in_runtime(async {
        let mut client = Client::of(hospitals()).await;
        let mut command = client.command(LABELS);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        for (lines, victim) in [(4, names::ONE), (12, names::ZERO)] {
            let started = Instant::now();
            while client.lines() < lines {
                assert!(ended(&mut child).is_none() && started.elapsed() < SOON);
                tokio::time::sleep(LOOK_EVERY).await;
            }
            client.setting.world.kill(victim).unwrap();
            client.setting.revive(victim).await;
        }
        let output = child.wait_with_output().await.unwrap();
        assert!(output.status.success());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(count(&report, "labels"), LABELS);
        let lost = count(&report, "lost");
        assert!(report["epsilon"].as_f64() <= report["epsilon_at_most"].as_f64());
        for Audit { reserved, committed, .. } in audit_both(&mut client.setting, PRIVATE) {
            assert!(committed.len() >= LABELS && reserved.len() <= LABELS + lost, "{lost} lost");
        }
    });
}

//! `consilium bench online`, as an administrator runs it.

use crate::setting::{EXACT, PRIVATE, Setting, in_runtime, scenario};
use consilium::demo::{Scenario, names};
use std::process::Output;
use tokio::process::Command;

const QUERIES: u32 = 24;
/// Before those that are measured.
const WARM_UP: u32 = 3;

async fn bench(setting: &Setting, task: &str, more: &[&str]) -> Output {
    let config = setting.world.folder_of(names::CLIENT).join("consilium.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_node"));
    command.args(["bench", "online", "--json", "--task", task, "--queries", &QUERIES.to_string()]);
    command.arg("--config").arg(config).args(more).kill_on_drop(true).output().await.unwrap()
}

#[test]
fn a_running_consortium_is_measured() {
    in_runtime(async {
        // Bundles for all: how fast they are made is another measurement.
        let most = 2 + 2 * (WARM_UP + QUERIES);
        let setting = Setting::bare(Scenario { pool: (most, most + 4), ..scenario() }, "info").await;
        setting.publish_all(&[EXACT]).await;
        let alone = setting.ask(EXACT, 0, None).await.unwrap();
        for (concurrency, asked) in [("1", 1 + WARM_UP + QUERIES), ("8", 1 + 2 * (WARM_UP + QUERIES))] {
            let output = bench(&setting, EXACT, &["--concurrency", concurrency, "--link", "loop"]).await;
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let text = String::from_utf8(output.stdout).unwrap();
            let lines: Vec<serde_json::Value> =
                text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let figure = |line: usize, key: &str| lines[line][key].as_f64().unwrap();
            assert_eq!(lines.len(), 2);
            for (line, phase) in ["query", "online"].into_iter().enumerate() {
                assert_eq!((&lines[line]["phase"], &lines[line]["link"]), (&phase.into(), &"loop".into()));
                assert_eq!((&lines[line]["net"], figure(line, "batch")), (&EXACT.into(), 1.0));
                assert_eq!((figure(line, "queries"), figure(line, "refused")), (f64::from(QUERIES), 0.0));
                assert_eq!(figure(line, "rounds"), f64::from(alone.terms.rounds));
                let times =
                    ["ms_min", "ms_median", "ms_p95", "ms_p99", "ms_max"].map(|key| figure(line, key));
                assert!(times[0] > 0.0 && times.is_sorted(), "{times:?}");
                assert!(figure(line, "cpu_ms") > 0.0);
            }
            assert!(figure(1, "ms_median") < figure(0, "ms_median"), "the rounds are a part of the way");
            if concurrency == "1" {
                assert_eq!((figure(0, "bytes"), figure(0, "together_max")), (alone.terms.bytes as f64, 1.0));
            } else {
                assert!(figure(0, "together_max") > 1.0 && figure(0, "bytes") < alone.terms.bytes as f64);
            }
            let status = setting.until(names::ZERO, EXACT, "books", |_| true).await;
            assert_eq!(status.answered, u64::from(asked));
        }
    });
}

#[test]
fn measuring_spends_no_budget_unless_told_so() {
    in_runtime(async {
        let setting = Setting::published(&[PRIVATE]).await;
        let refused = bench(&setting, PRIVATE, &[]).await;
        assert!(!refused.status.success());
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(text.contains("--spend-budget"), "{text}");
        let status = setting.until(names::ZERO, PRIVATE, "books", |_| true).await;
        assert_eq!(status.answered, 0);
        let told = bench(&setting, PRIVATE, &["--spend-budget", "--warm-up", "0"]).await;
        assert!(told.status.success());
        let line = String::from_utf8(told.stdout).unwrap();
        let line: serde_json::Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
        let paid = setting.paid(PRIVATE) as u64;
        let told = (line["queries"].as_u64(), line["refused"].as_u64());
        assert_eq!(told, (Some(paid), Some(u64::from(QUERIES) - paid)));
        let other = bench(&setting, "no-such-task", &[]).await;
        assert!(!other.status.success() && other.stdout.is_empty());
    });
}

//! Settings and files of images through the command line, as an administrator and a clinician use it.

use crate::setting::{EXACT, INPUTS, Setting, in_runtime, scenario};
use consilium::demo::names;
use consilium_config::{Colour, Image, Resize, Roster, Window};
use std::path::{Path, PathBuf};
use std::process::Output;
use tokio::process::Command;

async fn run(arguments: &[&str], files: &[&Path], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_node"));
    command.args(arguments).args(files).envs(variables.iter().copied()).kill_on_drop(true);
    command.output().await.unwrap()
}

fn node_file(setting: &Setting, name: &str) -> PathBuf {
    setting.world.folder_of(name).join("consilium.toml")
}

fn roster_file(setting: &Setting) -> PathBuf {
    setting.world.folder_of(names::CLIENT).parent().unwrap().join("roster.toml")
}

fn json(output: &Output) -> serde_json::Value {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out} {err}"))
}

#[test]
fn a_check_ends_with_what_scripts_can_use() {
    in_runtime(async {
        let setting = Setting::prepared(scenario(), "info");
        for name in [names::ZERO, names::CLIENT, "hospital-01"] {
            let file = node_file(&setting, name);
            let fine = run(&["config", "check", "--json"], &[&file], &[]).await;
            let told = json(&fine);
            assert_eq!((fine.status.code(), &told["errors"]), (Some(0), &0.into()), "{name}: {told}");
            let words = run(&["config", "check"], &[&file], &[]).await;
            assert!(
                String::from_utf8_lossy(&words.stdout).contains(&format!("{name} can start")),
                "{words:?}"
            );
        }
        let file = node_file(&setting, names::ZERO);
        let variable = [("CONSILIUM_NODE__LOG__FORMAT", "xml"), ("CONSILIUM_NODE__NETWORK__LISTEN", "[]")];
        let wrong = run(&["config", "check", "--json"], &[&file], &variable).await;
        let told = json(&wrong);
        assert_eq!(wrong.status.code(), Some(1), "{told}");
        assert_eq!(told["problems"][0]["file"], "environment");
        assert_eq!(told["problems"][0]["line"], 1);
        let wrong = run(&["config", "check", "--json"], &[&file], &variable[1..]).await;
        let told = json(&wrong);
        assert_eq!(
            (wrong.status.code(), &told["errors"]),
            (Some(1), &1.into()),
            "a party must listen: {told}"
        );
        assert_eq!(run(&["config", "check", "--colour"], &[&file], &[]).await.status.code(), Some(2));
        let shown = run(&["config", "show", "--json", "--set", "log.filter=debug"], &[&file], &[]).await;
        assert_eq!(json(&shown)["log.filter"]["value"], "debug");
    });
}

#[test]
fn an_image_is_asked_about_as_its_values() {
    in_runtime(async {
        let mut setting = Setting::prepared(scenario(), "info");
        let file = roster_file(&setting);
        let given = Roster::load(&file).unwrap();
        let image = Image {
            colour: Colour::Grey,
            rows: 2,
            columns: INPUTS as u32 / 2,
            resize: Resize::Area,
            window: Window::Whole,
            low: -30.0,
            high: 30.0,
        };
        let with = |image: Image| {
            let tasks = given.tasks().iter().cloned().map(|mut task| {
                task.image = Some(image);
                task
            });
            let (members, pairs) = (given.members().to_vec(), given.pairs().to_vec());
            Roster::new("demo", members, pairs, tasks.collect(), given.module().cloned()).unwrap().to_toml()
        };
        std::fs::write(&file, with(image)).unwrap();
        setting.world.launch_all().await.unwrap();
        setting.publish_all(&[EXACT]).await;
        let folder = tempfile::tempdir().unwrap();
        let picture = folder.path().join("case");
        std::fs::write(&picture, GREY).unwrap();
        let config = node_file(&setting, names::CLIENT);
        let common = ["ask", "--task", EXACT, "--config", config.to_str().unwrap()];
        let ask =
            |more: &[&str]| common.iter().chain(more).map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let prepared = ask(&["--prepare", "--file"]);
        let prepared = run(&words(&prepared), &[&picture], &[]).await;
        assert!(prepared.status.success(), "{}", String::from_utf8_lossy(&prepared.stderr));
        let values = String::from_utf8(prepared.stdout).unwrap().trim().to_owned();
        let expected = [0.0, 51.0, 102.0, 153.0, 204.0, 255.0].map(|sample| -30.0 + sample / 255.0 * 60.0);
        let found: Vec<f64> = values.split(',').map(|value| value.parse().unwrap()).collect();
        assert_eq!(found, expected);
        let by_image = run(&words(&ask(&["--json", "--file"])), &[&picture], &[]).await;
        let by_values = run(&words(&ask(&["--json", "--values", &values])), &[], &[]).await;
        assert_eq!(json(&by_image)["classes"], json(&by_values)["classes"]);
        assert!(json(&by_image)["classes"][0].is_string());
        // The file says something else now than the running node does.
        std::fs::write(&file, with(Image { high: 31.0, ..image })).unwrap();
        let other = run(&words(&ask(&["--file"])), &[&picture], &[]).await;
        let said = String::from_utf8_lossy(&other.stderr).into_owned();
        assert!(!other.status.success() && said.contains("other terms"), "{said}");
    });
}

fn words(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}

/// A PNG of 3 columns and 2 rows with the grey values 0, 51, 102, 153, 204, 255, not compressed.
#[rustfmt::skip]
const GREY: [u8; 76] = [
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52,
    0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x02, 0x08, 0x00, 0x00, 0x00, 0x00, 0xb8, 0x1f, 0x39,
    0xc6, 0x00, 0x00, 0x00, 0x13, 0x49, 0x44, 0x41, 0x54, 0x78, 0x01, 0x01, 0x08, 0x00, 0xf7, 0xff,
    0x00, 0x00, 0x33, 0x66, 0x00, 0x99, 0xcc, 0xff, 0x07, 0x9a, 0x02, 0xfe, 0xae, 0xd3, 0x7d, 0x64,
    0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
];

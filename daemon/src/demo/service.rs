//! A consortium that stays up: for software that asks, and for people who look.

use super::measure::{Progress, publish, wait_for_pools};
use super::report::table;
use super::scenario::Scenario;
use super::world::{World, names};
use crate::http::read_token;
use miette::{IntoDiagnostic, Result, miette};
use serde_json::json;
use std::path::Path;

/// Held-out patients, whom no hospital trained on.
const CASES: &str = "cases.csv";

/// Runs a scenario in real processes of this very program until it is interrupted.
///
/// # Errors
/// A process failed or refused what it should grant.
pub(super) async fn serve(
    scenario: &Scenario,
    keep: Option<&Path>,
    json: bool,
    progress: &Progress,
) -> Result<()> {
    let program = std::env::current_exe().into_diagnostic()?;
    let up = async {
        let world = World::start(scenario, program, keep).await.into_diagnostic()?;
        std::fs::write(world.folder_of(CASES), cases(scenario)).into_diagnostic()?;
        publish(&world, scenario, progress).await?;
        wait_for_pools(&world, progress).await?;
        Ok::<_, miette::Report>(world)
    };
    let mut world = tokio::select! {
        world = up => world?,
        _ = tokio::signal::ctrl_c() => return Err(miette!("interrupted; the processes are stopped")),
    };
    if json {
        print_json(&world)
    } else {
        print(&world)?
    }
    tokio::signal::ctrl_c().await.into_diagnostic()?;
    world.stop();
    Ok(())
}

/// One patient a line, as a client would send it, and its class.
fn cases(scenario: &Scenario) -> String {
    let mut text = String::new();
    for (row, label) in scenario.test.labels().iter().enumerate() {
        for value in scenario.test.row(row) {
            text.push_str(&format!("{value},"));
        }
        let class = scenario.classes.get(usize::from(*label));
        text.push_str(class.map_or("", String::as_str));
        text.push('\n');
    }
    text
}

fn served(world: &World) -> impl Iterator<Item = (&'static str, String)> + '_ {
    let nodes = [names::CLIENT, names::ZERO, names::ONE].into_iter();
    nodes.filter_map(|name| Some((name, format!("http://{}", world.http(name)?))))
}

fn print_json(world: &World) {
    let nodes: Vec<_> = served(world)
        .map(|(name, url)| {
            let folder = world.folder_of(name);
            json!({ "name": name, "url": url, "token_file": folder.join("http.token"),
                "config": folder.join("consilium.toml") })
        })
        .collect();
    println!("{}", json!({ "nodes": nodes, "cases": world.folder_of(CASES) }));
}

fn print(world: &World) -> Result<()> {
    let mut rows = table(&["node", "dashboard"]);
    for (name, url) in served(world) {
        let token = read_token(&world.folder_of(name).join("http.token")).into_diagnostic()?;
        rows.add_row([name.to_owned(), format!("{url}/#token={}", token.as_str())]);
    }
    println!("{rows}");
    println!("Questions go to {} by the Open Inference Protocol v2; its token is in", names::CLIENT);
    println!("  {}", world.folder_of(names::CLIENT).join("http.token").display());
    println!("Held-out patients with their class: {}", world.folder_of(CASES).display());
    println!("The command line reaches it as well:");
    println!(
        "  consilium status --config {}",
        world.folder_of(names::CLIENT).join("consilium.toml").display()
    );
    println!("Interrupt to stop all processes.");
    Ok(())
}

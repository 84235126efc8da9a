//! `consilium privacy budget` and `epoch`: an owner at its own account.

use super::words::{change, epsilon, moment, spent_of};
use crate::admin::{AdminReply, AdminRequest, OwnerAccount, PartyBooks};
use crate::cli::NodeArgs;
use crate::cli::output::{print_json, request, table, unexpected};
use crate::owner::Wanted;
use clap::Args;
use consilium_protocol::privacy::Ratio;
use miette::{Result, miette};

/// Arguments of `consilium privacy budget`.
#[derive(Debug, Args)]
pub(super) struct BudgetArgs {
    /// The task
    task: String,
    /// Sign this as the new budget, an exact number such as 8, 0.5 or 5/2; without it the account is shown
    #[arg(long, value_name = "E")]
    epsilon: Option<Ratio>,
    #[command(flatten)]
    node: NodeArgs,
}

/// Arguments of `consilium privacy epoch`.
#[derive(Debug, Args)]
pub(super) struct EpochArgs {
    /// The task
    task: String,
    /// You sign that no record of the models to come was used for an earlier model of this task
    #[arg(long)]
    disjoint: bool,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn budget(args: &BudgetArgs) -> Result<()> {
    match args.epsilon {
        Some(epsilon) => declare(&args.node, &args.task, Wanted::Budget { epsilon }),
        None => show(&args.node, &args.task),
    }
}

pub(super) fn epoch(args: &EpochArgs) -> Result<()> {
    if !args.disjoint {
        return Err(miette!(
            "a data epoch begins only where you sign that its records are new: give --disjoint if no record that \
             the coming models are trained on was used for an earlier model of task {}",
            args.task
        ));
    }
    declare(&args.node, &args.task, Wanted::Disjoint)
}

fn declare(node: &NodeArgs, task: &str, wanted: Wanted) -> Result<()> {
    let AdminReply::Declared(signed) =
        request(node, &AdminRequest::Declare { task: task.to_owned(), wanted })?
    else {
        return Err(unexpected());
    };
    if node.json {
        return print_json(&serde_json::json!({ "declared": signed }));
    }
    let statement = &signed.statement;
    println!(
        "all compute parties have it on record: statement {} of {} about task {}, {}",
        statement.number,
        statement.owner,
        statement.task,
        change(&signed)
    );
    if wanted == Wanted::Disjoint {
        println!("models published from now on are charged to that data epoch; publish the new one next");
    }
    Ok(())
}

fn show(node: &NodeArgs, task: &str) -> Result<()> {
    let AdminReply::Account(account) = request(node, &AdminRequest::Account { task: task.to_owned() })?
    else {
        return Err(unexpected());
    };
    if node.json {
        return print_json(&account);
    }
    print(&account);
    Ok(())
}

/// Who keeps the account, and the part of the budget that its pair may spend, where others have the rest.
fn keeper(party: &PartyBooks) -> String {
    let promise = party.books.as_ref().and_then(|books| books.promise.as_ref());
    match promise.and_then(|promise| promise.slice) {
        Some(slice) => format!("{} (pair {}, slice {slice})", party.party, party.pair),
        None => party.party.clone(),
    }
}

fn print(account: &OwnerAccount) {
    println!("account of {} in task {}", account.owner, account.task);
    let mut rows = table(&["kept by", "data epoch", "epsilon spent", "of", "last record"]);
    for party in &account.parties {
        let Some(books) = &party.books else { continue };
        let head = books.head.sequence.to_string();
        for loss in &party.losses {
            let [spent, limit] = spent_of(loss);
            let data_epoch = loss.account.data_epoch.to_string();
            rows.add_row([keeper(party), data_epoch, spent, limit, head.clone()]);
        }
        if !party.losses.iter().any(|loss| loss.account.data_epoch == books.data_epoch) {
            let nothing = books.promise.as_ref().and_then(|promise| epsilon(promise, 0));
            let dash = || "-".to_owned();
            let limit = party.epsilon.clone().unwrap_or_else(dash);
            let data_epoch = books.data_epoch.to_string();
            rows.add_row([keeper(party), data_epoch, nothing.unwrap_or_else(dash), limit, head]);
        }
    }
    println!("{rows}");
    for party in &account.parties {
        if let Some(refusal) = &party.refusal {
            println!("{} does not say: {refusal}", party.party);
        }
        let signed = party.books.iter().flat_map(|books| &books.statements);
        for signed in signed {
            let statement = &signed.statement;
            let when = moment(statement.at);
            println!(
                "{} has statement {} of {when} UTC on record: {}",
                party.party,
                statement.number,
                change(signed)
            );
        }
    }
}

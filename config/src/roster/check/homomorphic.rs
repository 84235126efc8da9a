//! What the values of a homomorphic task say about each other and about the members.

use super::{Directory, dialled, input::input, unique};
use crate::{
    document::Document,
    error::Problem,
    roster::{Role, read::HomomorphicDraft},
};
use toml::Spanned;

pub(super) fn task(document: &Document, directory: &Directory<'_>, task: &HomomorphicDraft) {
    people(document, directory, task);
    let least = task.input_min.as_ref().and_then(Option::as_ref);
    if let (Some(least), Some(most)) = (least, &task.input.abs_max) {
        range(document, least, most);
    }
    input(document, &task.input, least.map(|least| *least.get_ref()));
}

/// The clients dial the owner, who is none of them.
fn people(document: &Document, directory: &Directory<'_>, task: &HomomorphicDraft) {
    unique(document, "class", task.classes.iter().flat_map(Spanned::get_ref));
    unique(document, "client", task.clients.iter().flat_map(Spanned::get_ref));
    if let Some(owner) = &task.owner
        && let Some(member) = directory.with_role(document, owner, Role::Owner)
    {
        dialled(document, owner, member, "clients ask it");
    }
    for client in task.clients.iter().flat_map(Spanned::get_ref) {
        directory.with_role(document, client, Role::Client);
        if let Some(owner) = task.owner.as_ref().filter(|owner| owner.get_ref() == client.get_ref()) {
            document.report(|| {
                Problem::new(format!("member `{}` would ask itself", client.get_ref()))
                    .at(client.span(), "a client")
                    .at(owner.span(), "the owner")
                    .help("the owner has the model and needs no encryption; name other clients".to_owned())
            });
        }
    }
}

fn range(document: &Document, least: &Spanned<f64>, most: &Spanned<f64>) {
    let (low, high) = (*least.get_ref(), *most.get_ref());
    if low >= high || low < -high {
        document.report(|| {
            Problem::new("the least input is not between the bounds")
                .at(least.span(), format!("from {low}"))
                .at(most.span(), format!("magnitudes up to {high}"))
                .help(format!(
                    "`input_min` is at least {} and below {high}; left out, it is {}",
                    -high, -high
                ))
        });
    }
}

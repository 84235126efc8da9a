//! What the values of one task of compute parties say about each other and about the members.

use super::{Directory, input::input, unique};
use crate::{
    document::Document,
    error::Problem,
    limits::{CLASSES, DISTANCE_WORD_BITS_MAX, PRODUCT_BITS_MAX, VOTES_MAX},
    roster::{Kind, NOBODY, Role, read::TaskDraft},
};
use toml::Spanned;

pub(super) fn task(document: &Document, directory: &Directory<'_>, task: &TaskDraft) {
    people(document, directory, task);
    match task.kind.as_ref().map(Spanned::get_ref) {
        Some(Kind::OneClass) => one_class(document, task),
        Some(Kind::Vote) => votes(document, task),
        None => {}
    }
    threshold(document, task);
    numbers(document, task);
    stock(document, task);
    input(document, &task.input, None);
}

fn people(document: &Document, directory: &Directory<'_>, task: &TaskDraft) {
    unique(document, "class", task.classes.iter().flat_map(Spanned::get_ref));
    unique(document, "owner", task.owners.iter().flat_map(Spanned::get_ref));
    unique(document, "client", task.clients.iter().flat_map(Spanned::get_ref));
    for owner in task.owners.iter().flat_map(Spanned::get_ref) {
        directory.with_role(document, owner, Role::Owner);
    }
    for client in task.clients.iter().flat_map(Spanned::get_ref) {
        directory.with_role(document, client, Role::Client);
    }
    if let (Some(owners), Some(least)) = (&task.owners, &task.owners_min)
        && owners.get_ref().len() < *least.get_ref() as usize
    {
        document.report(|| {
            Problem::new("the task can never be answered: it has too few owners")
                .at(least.span(), format!("at least {} must vote", least.get_ref()))
                .at(owners.span(), format!("{} in all", owners.get_ref().len()))
                .help(
                    "add owners, or set a lower `owners_min` (1 lets an answer show one owner's vote)"
                        .to_owned(),
                )
        });
    }
    if let (Some(owners), Some(shards)) = (&task.owners, &task.shards) {
        let votes = owners.get_ref().len() * *shards.get_ref() as usize;
        if votes > VOTES_MAX {
            document.report(|| {
                Problem::new(format!("the task has {votes} votes, at most {VOTES_MAX} are counted"))
                    .at(shards.span(), format!("models of each owner: {}", shards.get_ref()))
                    .at(owners.span(), format!("owners: {}", owners.get_ref().len()))
                    .help(format!("lower `shards` to {}", VOTES_MAX / owners.get_ref().len().max(1)))
            });
        }
    }
}

/// What only distances have.
fn votes(document: &Document, task: &TaskDraft) {
    if let Some(Some(bits)) = &task.distance_bits {
        document.report(|| {
            Problem::new("a task whose models vote has no distances")
                .at(bits.span(), "for one-class tasks only")
                .help("take `distance_bits` out, or write `kind = \"one-class\"`".to_owned())
        });
    }
}

/// The labels are the owners and nobody, each owner has one model, and distances fit the ring.
fn one_class(document: &Document, task: &TaskDraft) {
    let (Some(owners), Some(classes)) = (&task.owners, &task.classes) else { return };
    let (owners, labels) = (owners.get_ref(), classes.get_ref());
    if let Some(owner) = owners.iter().find(|owner| owner.get_ref().as_str() == NOBODY) {
        document.report(|| {
            Problem::new("an owner has the name of an answer without one")
                .at(owner.span(), "an owner")
                .help(format!("`{NOBODY}` is the answer where no model knows the input; rename the member"))
        });
        return;
    }
    let most = CLASSES.end() - 1;
    if owners.len() > most {
        document.report(|| {
            Problem::new(format!("a one-class task has at most {most} owners"))
                .at(classes.span(), format!("{} owners", owners.len()))
                .help("make two tasks of it".to_owned())
        });
        return;
    }
    let wanted = owners.iter().map(|owner| owner.get_ref().as_str()).chain([NOBODY]);
    if !labels.iter().map(|label| label.get_ref().as_str()).eq(wanted) {
        document.report(|| {
            Problem::new("the labels of a one-class task are its owners, and then nobody")
                .at(classes.span(), "other labels")
                .help(format!("take `classes` out, or write the owners in their order and then \"{NOBODY}\""))
        });
    }
    if let Some(shards) = task.shards.as_ref().filter(|shards| *shards.get_ref() != 1) {
        document.report(|| {
            Problem::new("an owner of a one-class task has one model")
                .at(shards.span(), format!("{} models", shards.get_ref()))
                .help("take `shards` out".to_owned())
        });
    }
    let threshold = task.release.as_ref().and_then(|release| release.threshold.as_ref());
    if let Some(threshold) = threshold {
        document.report(|| {
            Problem::new("a one-class task names one owner or nobody, which no count of votes can pass")
                .at(threshold.span(), "votes that an answer must reach")
                .help("write `mechanism = \"exact\"`, \"gaussian\" or \"laplace\"".to_owned())
        });
    }
    if let (Some(Some(bits)), Some(fraction)) = (&task.distance_bits, &task.fraction_bits) {
        let word = 2 * fraction.get_ref() + bits.get_ref();
        if word > DISTANCE_WORD_BITS_MAX {
            document.report(|| {
                Problem::new("distances would not fit in 64 bits")
                    .at(bits.span(), format!("{} bits before the point", bits.get_ref()))
                    .at(fraction.span(), format!("{} bits after it, twice", fraction.get_ref()))
                    .help(format!(
                        "2 * fraction_bits + distance_bits is {word}, at most {DISTANCE_WORD_BITS_MAX} is allowed"
                    ))
            });
        }
    }
}

/// Beyond the votes that can be cast only noise reaches a threshold.
fn threshold(document: &Document, task: &TaskDraft) {
    let threshold = task.release.as_ref().and_then(|release| release.threshold.as_ref());
    let (Some(threshold), Some(owners)) = (threshold, &task.owners) else { return };
    let each = task.shards.as_ref().map_or(1, |shards| *shards.get_ref());
    if *threshold.get_ref() as usize > owners.get_ref().len() * each as usize {
        document.report(|| {
            Problem::new("the threshold asks for more votes than there are")
                .at(threshold.span(), format!("{} votes", threshold.get_ref()))
                .at(owners.span(), format!("{} owners, votes of each: {each}", owners.get_ref().len()))
                .help("lower `threshold`; six votes in ten is usual".to_owned())
        });
    }
}

fn numbers(document: &Document, task: &TaskDraft) {
    let Some(bits) = &task.value_bits else { return };
    if let Some(fraction) = &task.fraction_bits {
        let product = 2 * fraction.get_ref() + bits.get_ref() + 2;
        if product > PRODUCT_BITS_MAX {
            document.report(|| {
                Problem::new("products would not fit in 64 bits")
                    .at(bits.span(), format!("{} bits before the point", bits.get_ref()))
                    .at(fraction.span(), format!("{} bits after it", fraction.get_ref()))
                    .help(format!(
                        "2 * fraction_bits + value_bits + 2 is {product}, at most {PRODUCT_BITS_MAX} is allowed"
                    ))
            });
        }
    }
    if let Some(largest) = &task.input.abs_max
        && *largest.get_ref() >= f64::from(1_u32 << bits.get_ref())
    {
        document.report(|| {
            Problem::new("inputs may be larger than any value on a wire")
                .at(largest.span(), format!("inputs up to {}", largest.get_ref()))
                .at(bits.span(), format!("values below {}", 1_u32 << bits.get_ref()))
                .help("raise `value_bits`, or normalise the inputs with `[task.features]`".to_owned())
        });
    }
}

fn stock(document: &Document, task: &TaskDraft) {
    let Some(high) = &task.stock.high else { return };
    if let Some(low) = &task.stock.low
        && low.get_ref() >= high.get_ref()
    {
        document.report(|| {
            Problem::new("the pool's low mark is not below its high mark")
                .at(low.span(), format!("low is {}", low.get_ref()))
                .at(high.span(), format!("high is {}", high.get_ref()))
                .help("refilling starts below `low` and stops at `high`; keep them apart".to_owned())
        });
    }
    if let Some(batch) = &task.batch
        && batch.get_ref() > high.get_ref()
    {
        document.report(|| {
            Problem::new("the pool never holds enough for one batch")
                .at(high.span(), format!("at most {} prepared", high.get_ref()))
                .at(batch.span(), format!("{} used at once", batch.get_ref()))
                .help("raise `high` or lower `batch`".to_owned())
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        EXAMPLE_ROSTER,
        document::testing::{edited, only, roster, roster_refusal},
        roster::{Kind, Member, Role, Roster},
    };

    #[test]
    fn values_of_a_task_must_agree() {
        for (from, to, expected) in [
            ("owners_min = 2", "owners_min = 4", "the task can never be answered"),
            ("input_abs_max = 8.0", "input_abs_max = 4096", "inputs may be larger than any value on a wire"),
            ("low = 16", "low = 64", "the pool's low mark is not below its high mark"),
            ("offset = [14.13, 19.29, 0.0964]", "offset = [1, 2]", "`offset` does not match the input"),
            (
                "scale = [0.0625]",
                "scale = [1, 2]",
                "`scale` does not match the input | give one per input value, or",
            ),
            ("scale = [0.0625]", "names = [\"a\"]", "`names` does not match the input"),
            ("\"mean texture\"", "\"mean radius\"", "feature `mean radius` stands here twice"),
            ("\"even\", \"odd\"", "\"odd\", \"odd\"", "class `odd` stands here twice"),
            (
                "clients = [\"practice\"]",
                "clients = [\"west\"]",
                "member `west` does not have the role `client`",
            ),
            ("pair = \"main\"", "pair = \"mian\"", "there is no pair called `mian` | did you mean `main`?"),
        ] {
            let found = roster_refusal(from, to);
            assert!(found.contains(expected), "{to:?} gave {found:?}");
        }
    }

    /// The first task of the example with another kind.
    fn one_class(more: &str) -> String {
        let text = edited(EXAMPLE_ROSTER, "classes = [\"benign\", \"malignant\"]", "");
        edited(
            &text,
            "name = \"breast-cancer\"",
            &format!("name = \"breast-cancer\"\nkind = \"one-class\"\n{more}"),
        )
    }

    #[test]
    fn a_one_class_task_answers_with_its_owners() {
        let read = roster(&one_class("")).unwrap();
        let task = read.task("breast-cancer").unwrap();
        let owners = task.owners.iter().map(ToString::to_string);
        assert!(task.classes.iter().cloned().eq(owners.chain(["nobody".to_owned()])), "{:?}", task.classes);
        assert_eq!((task.kind, task.distance_bits), (Kind::OneClass, Some(20)));
        assert_eq!(roster(&read.to_toml()).unwrap(), read);
        let other = roster(&one_class("distance_bits = 21")).unwrap();
        let digests = [EXAMPLE_ROSTER, &read.to_toml(), &other.to_toml()]
            .map(|text| roster(text).unwrap().task("breast-cancer").unwrap().digest());
        assert!(digests[0] != digests[1] && digests[1] != digests[2]);
        for (more, expected) in [
            ("classes = [\"a\", \"b\"]", "the labels of a one-class task are its owners, and then nobody"),
            ("shards = 2", "an owner of a one-class task has one model"),
            (
                "distance_bits = 29",
                "distances would not fit in 64 bits | 2 * fraction_bits + distance_bits is 61",
            ),
            ("distance_bits = 0", "a whole number from 1 to 44"),
        ] {
            let found = roster(&one_class(more)).expect_err("accepted").to_string();
            let told = format!("{found} {:?}", roster(&one_class(more)).unwrap_err().problems());
            assert!(told.contains(expected.split(" | ").next().unwrap()), "{more}: {told}");
        }
        let kept = edited(EXAMPLE_ROSTER, "batch = 1", "batch = 1\ndistance_bits = 20");
        assert!(only(&roster(&kept).unwrap_err()).starts_with("a task whose models vote has no distances"));
    }

    #[test]
    fn votes_fit_up_to_the_limit() {
        let with = |owners: usize, shards: u32| {
            let roster = roster(EXAMPLE_ROSTER).unwrap();
            let mut task = roster.task("readmission").unwrap().clone();
            let member = |index: usize| Member {
                name: format!("m{index}").parse().unwrap(),
                peer: format!("{}{}", "1".repeat(44), index + 111).replace('0', "A").parse().unwrap(),
                roles: vec![Role::Owner],
                ..roster.member("west").unwrap().clone()
            };
            task.owners = (0..owners).map(|index| member(index).name).collect();
            task.shards = shards;
            let members = roster.members().iter().cloned().chain((0..owners).map(member)).collect();
            Roster::new("many", members, roster.pairs().to_vec(), vec![task], None)
        };
        assert_eq!(with(32, 32).unwrap().tasks()[0].votes(), 1024);
        let found = only(&with(32, 33).unwrap_err());
        assert_eq!(found, "the task has 1056 votes, at most 1024 are counted | lower `shards` to 32");
    }

    #[test]
    fn products_fit_up_to_the_limit() {
        let wide = |bits: u32| {
            let text = edited(EXAMPLE_ROSTER, "fraction_bits = 16", "fraction_bits = 20");
            roster(&edited(&text, "value_bits = 12", &format!("value_bits = {bits}")))
        };
        assert!(wide(20).is_ok());
        assert!(only(&wide(21).unwrap_err()).starts_with("products would not fit in 64 bits | 2 * "));
    }

    #[test]
    fn a_batch_fits_in_the_stock() {
        let batch = |queries: u32| {
            let text = edited(EXAMPLE_ROSTER, "low = 16\nhigh = 64", "low = 1\nhigh = 8");
            roster(&edited(&text, "batch = 1", &format!("batch = {queries}")))
        };
        assert!(batch(8).is_ok());
        assert!(only(&batch(9).unwrap_err()).starts_with("the pool never holds enough for one batch"));
    }
}

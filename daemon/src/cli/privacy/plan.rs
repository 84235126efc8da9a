//! `consilium privacy plan`: what a budget buys, before anything is spent.

mod show;

use crate::cli::NodeArgs;
use crate::cli::output::{node_file, print_json};
use crate::consortium::roster_in_use;
use crate::planning::{
    ANSWERS_WANTED, Advice, Family, NoiseMaker, Plan, PrivacyUnit, Profile, Service, ServiceError, Setting,
    Tendency, VoteTable, Wanted, span,
};
use crate::task::{TaskError, TaskTerms};
use clap::{Args, ValueEnum};
use consilium_config::{Fraction, NoiseRule, Release, Roster, Task, Unit};
use consilium_protocol::privacy::{Budget, Delta, Ratio};
use miette::{IntoDiagnostic, Result, miette};
use std::path::PathBuf;

/// Shown below the options: what the words mean, and examples.
const TEACHING: &str = "\
How it works:
  Every answer is one class. Before it is chosen, each class's votes get secret random noise, so that nobody
  can tell from the answers what any one owner's data were. More noise gives away less for each answer, so
  that a budget pays for more answers, but more often noise decides instead of the votes. The plan shows
  that exchange and recommends an amount.

What the words mean:
  sigma    The amount of noise: the deviation of one draw on each class's count, in votes.
  epsilon  The budget. Somebody who knows everything else cannot raise the odds of a bet about one unit's
           data by more than a factor of e^epsilon. Below 1 is strong, 8 is weak but common. What is spent
           never comes back, whatever the models do later.
  delta    The chance that this fails: take less than one over the number of patients.
  unit     Whose data one promise covers: an owner with all its patients, or one patient, for which each
           owner publishes several models trained on disjoint patients (--shards).
  noise    Drawn in software, it counts twice, because each compute party adds a full draw and knows its
           own; an attested module adds one draw that nobody knows. Where software steps in while the
           module cannot be reached, the plan is for the module and says what that costs.

The votes:
  How votes split decides how much noise they bear. Best give votes on public cases, or on cases that an
  owner set aside: --votes-file is read on this machine only. Or describe the owners by --accuracy. Without
  either, the plan shows the range over three kinds of owners. Never use votes of the running service: a plan
  made from them gives them away.

Examples:
  consilium privacy plan heart --config /etc/consilium/consilium.toml
      The task as the roster states it, for three kinds of owners.
  consilium privacy plan --votes 50 --classes 10 --epsilon 8 --delta 1e-6 --accuracy 0.9 --likeness 0.5
      Fifty owners, each right about nine questions of ten, who stumble over the same questions.
  consilium privacy plan --epsilon 8 --delta 1e-6 --votes-file public.csv --plot plan.svg
      Votes on public cases: a heading such as `label,north,south,west`, then one case a line.";

/// Arguments of `consilium privacy plan`.
#[derive(Debug, Args)]
#[command(after_long_help = TEACHING)]
pub(in crate::cli) struct PlanArgs {
    /// A task of the roster: its owners, classes, mechanism, budget and noise hold unless given here
    task: Option<String>,
    /// The roster, for a machine without a node file
    #[arg(long, value_name = "FILE", requires = "task")]
    roster: Option<PathBuf>,
    /// Votes on each question: one from each owner, times --shards
    #[arg(long, value_name = "N")]
    votes: Option<u32>,
    /// Classes that votes tell apart
    #[arg(long, value_name = "K")]
    classes: Option<usize>,
    /// Whose data one promise covers [default: patient with --shards, else owner]
    #[arg(long, value_enum)]
    unit: Option<PrivacyUnit>,
    /// Models of each owner, trained on disjoint patients, for unit patient [default: 1]
    #[arg(long, value_name = "K")]
    shards: Option<u32>,
    /// Kind of release [default: the task's, else gaussian]
    #[arg(long, value_enum)]
    mechanism: Option<Family>,
    /// Privacy loss that is accepted in all, such as 8 or 0.5
    #[arg(long, value_name = "E")]
    epsilon: Option<Ratio>,
    /// Probability with which the promise may fail, such as 1e-6
    #[arg(long, value_name = "D")]
    delta: Option<Delta>,
    /// Who draws the noise [default: as the task says, software without one]
    #[arg(long, value_enum)]
    noise: Option<NoiseMaker>,
    /// Amounts of noise to show instead of the usual ones: sigmas, or epsilons of one answer for laplace
    #[arg(long, value_name = "S,...", value_delimiter = ',')]
    sigma: Vec<Ratio>,
    /// Votes that the largest noisy count must reach, for confident, instead of the best threshold
    #[arg(long, value_name = "T")]
    threshold: Option<u32>,
    /// Percentage points of right answers that noise may cost
    #[arg(long, value_name = "POINTS", default_value_t = 2.0)]
    loss: f64,
    /// Fewest answers that make the service worth running
    #[arg(long, value_name = "N", default_value_t = ANSWERS_WANTED)]
    answers: u64,
    /// Votes on cases that need no protection: a CSV file, or NAME.u8.gz beside its manifest.json
    #[arg(long, value_name = "FILE", conflicts_with = "accuracy")]
    votes_file: Option<PathBuf>,
    /// Describe the owners instead: share of questions that one owner gets right, such as 0.9
    #[arg(long, value_name = "P")]
    accuracy: Option<f64>,
    /// How far owners stumble over the same questions, from 0, independently, to below 1; real ones 0.1 to 0.7
    #[arg(long, value_name = "R", default_value_t = 0.0, requires = "accuracy")]
    likeness: f64,
    /// Share of the wrong votes on a question that fall on one class; the rest spread evenly
    #[arg(long, value_name = "R", default_value_t = 0.0, requires = "accuracy")]
    rival: f64,
    /// Write a chart to this file
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    node: NodeArgs,
}

/// What a task of the roster settles.
struct Terms {
    task: Task,
    terms: TaskTerms,
}

impl Terms {
    /// Who draws the noise, if there is any.
    fn rule(&self) -> Option<NoiseRule> {
        self.task.release.terms().map(|terms| terms.noise)
    }
}

pub(in crate::cli) fn run(args: &PlanArgs) -> Result<()> {
    let terms = args.task.as_deref().map(|name| terms(args, name)).transpose()?;
    let terms = terms.as_ref();
    if terms.is_some_and(|terms| terms.terms.is_one_class()) {
        return Err(miette!(
            help = "choose noise well below 1 and an epsilon to match, or an exact release",
            "a one-class task has no votes to plan for: one count is 1, all others 0, and noise decides against it              where it is not well below 1"
        ));
    }
    let class_names = terms.map_or(&[][..], |terms| &terms.task.classes);
    let table = args.votes_file.as_deref().map(|path| VoteTable::load(path, class_names)).transpose();
    let table = table.into_diagnostic()?;
    let service = service(args, terms, table.as_ref())?;
    let profiles = profiles(args, &service, table.as_ref())?;
    let wanted = Wanted {
        amounts: args.sigma.clone(),
        threshold: args.threshold,
        besides: terms.and_then(|terms| stated(&terms.task.release, service.family)),
    };
    let plan = Plan::new(service, profiles, &wanted).into_diagnostic()?;
    let advice = Advice::of(&plan).into_diagnostic()?;
    let tendency = table.and_then(|table| table.tendency());
    let fallback = fallback(&plan, terms).into_diagnostic()?;
    let slices = slices(args, terms).into_diagnostic()?;
    let shown = show::Shown { plan: &plan, advice: &advice, tendency, fallback, slices };
    if let Some(path) = &args.plot {
        shown.chart().write_svg(path).into_diagnostic()?;
    }
    if args.node.json {
        return print_json(&shown.json()?);
    }
    shown.print()
}

fn terms(args: &PlanArgs, name: &str) -> Result<Terms> {
    let (roster, place) = match &args.roster {
        Some(path) => (Roster::load(path)?, path.display().to_string()),
        None => {
            let roster = roster_in_use(&node_file(&args.node)?).into_diagnostic()?;
            (roster, "the roster in force".to_owned())
        }
    };
    let names = || roster.tasks().iter().map(|task| task.name.as_str()).collect::<Vec<_>>().join(", ");
    let task = roster.task(name);
    let task =
        task.ok_or_else(|| miette!("there is no task called {name:?} in {place}; there are: {}", names()))?;
    Ok(Terms { terms: TaskTerms::new(task).into_diagnostic()?, task: task.clone() })
}

/// The terms: from the arguments, else from the task, else from the file of votes.
fn service(args: &PlanArgs, terms: Option<&Terms>, table: Option<&VoteTable>) -> Result<Service> {
    let (owners, shards) = sizes(args, terms, table)?;
    let classes =
        args.classes.or(terms.map(|terms| terms.task.classes.len())).or(table.map(VoteTable::classes));
    let classes = classes
        .ok_or_else(|| miette!("say how many classes there are: --classes K, a task, or --votes-file"))?;
    let stated = terms.and_then(|terms| Family::from_str(terms.task.release.mechanism(), true).ok());
    let family = args.mechanism.or(stated).unwrap_or(Family::Gaussian);
    let budget = terms.and_then(|terms| terms.terms.budget);
    let epsilon = args.epsilon.or(budget.map(|budget| budget.epsilon));
    let epsilon = match (epsilon, family) {
        (Some(epsilon), _) => epsilon,
        // Nothing is counted against it.
        (None, Family::Exact) => Ratio::new(1, 1).into_diagnostic()?,
        (None, _) => return Err(miette!("say what may be spent in all: --epsilon 8, for example")),
    };
    let delta = args.delta.or(budget.and_then(|budget| budget.delta));
    let noise = args.noise.unwrap_or(match terms.and_then(Terms::rule) {
        None | Some(NoiseRule::Software) => NoiseMaker::Software,
        Some(NoiseRule::Module | NoiseRule::ModuleElseSoftware) => NoiseMaker::Enclave,
    });
    if !(0.0..100.0).contains(&args.loss) {
        return Err(miette!("--loss {} is no number of points from 0 to below 100", args.loss));
    }
    Ok(Service {
        owners,
        shards,
        classes,
        unit: unit(args, terms, shards)?,
        noise,
        family,
        budget: Budget { epsilon, delta },
        loss_max: args.loss / 100.0,
        answers_wanted: args.answers,
    })
}

/// Owners, and models of each.
fn sizes(args: &PlanArgs, terms: Option<&Terms>, table: Option<&VoteTable>) -> Result<(u32, u32)> {
    let shards = args.shards.or(terms.map(|terms| terms.task.shards)).unwrap_or(1);
    let owners = terms.and_then(|terms| u32::try_from(terms.task.owners.len()).ok());
    if let (None, Some(owners)) = (args.votes, owners) {
        return Ok((owners, shards));
    }
    let votes = args.votes.or(table.map(VoteTable::models));
    let votes =
        votes.ok_or_else(|| miette!("say how many votes there are: --votes N, a task, or --votes-file"))?;
    if shards == 0 || !votes.is_multiple_of(shards) {
        return Err(miette!("{votes} votes are not {shards} from each owner; --votes counts all of them"));
    }
    Ok((votes / shards, shards))
}

fn unit(args: &PlanArgs, terms: Option<&Terms>, shards: u32) -> Result<PrivacyUnit> {
    let stated = terms.and_then(|terms| terms.task.release.terms()).map(|terms| match terms.unit {
        Unit::Owner => PrivacyUnit::Owner,
        Unit::Patient => PrivacyUnit::Patient,
    });
    let usual = if shards > 1 { Some(PrivacyUnit::Patient) } else { stated };
    match (args.unit.or(usual).unwrap_or(PrivacyUnit::Owner), shards) {
        (PrivacyUnit::Owner, 2..) => {
            Err(miette!("with unit owner an owner has one vote; leave --shards out, or use --unit patient"))
        }
        (unit, _) => Ok(unit),
    }
}

/// What is known or assumed about the votes.
fn profiles(args: &PlanArgs, service: &Service, table: Option<&VoteTable>) -> Result<Vec<Profile>> {
    let votes = service.votes().into_diagnostic()?;
    let profiles = match (table, args.accuracy) {
        (Some(table), _) => Profile::measured(table, 0..table.questions()).map(|profile| vec![profile]),
        (None, Some(accuracy)) => {
            let tendency = Tendency { accuracy, likeness: args.likeness, rival: args.rival };
            Profile::modelled(votes, service.classes, tendency).map(|profile| vec![profile])
        }
        (None, None) => Profile::family(votes, service.classes),
    };
    profiles.into_diagnostic()
}

/// What it costs while software steps in for the module, where the task lets it: for the setting that the roster
/// has now, else for the recommended one.
fn fallback(plan: &Plan, terms: Option<&Terms>) -> Result<Option<String>, ServiceError> {
    let Some(terms) = terms.filter(|terms| terms.rule() == Some(NoiseRule::ModuleElseSoftware)) else {
        return Ok(None);
    };
    let recommended = plan.recommended.as_ref().map(|row| row.setting);
    let setting = stated(&terms.task.release, plan.service.family).or(recommended);
    let Some(setting) = setting.filter(|_| plan.service.noise == NoiseMaker::Enclave) else {
        return Ok(None);
    };
    let agreement =
        |noise| plan.drawn_by(noise, setting).map(|row| span(row.range(|outlook| outlook.agreement)));
    Ok(Some(format!(
        "while the module cannot be reached, software steps in: an answer costs the same and gets two draws, √2 times \
         the noise; of the answers with {} of noise {} are those of the vote without noise, {} with the module",
        show::amount_of(setting),
        agreement(NoiseMaker::Software)?,
        agreement(NoiseMaker::Enclave)?,
    )))
}

/// What each pair of the task may spend of its budget, where there are several.
fn slices(args: &PlanArgs, terms: Option<&Terms>) -> Result<Vec<String>, TaskError> {
    // Other budgets than the task's are those of no pair.
    let stated = args.epsilon.is_none() && args.delta.is_none() && args.mechanism.is_none();
    let Some(task) = terms.filter(|_| stated).map(|terms| &terms.task) else { return Ok(Vec::new()) };
    let mut lines = Vec::new();
    for pair in task.pairs() {
        let view = TaskTerms::of_pair(task, pair.as_str())?;
        let slice = view.budget.and_then(|budget| budget.slice);
        let Some((slice, answers)) = slice.zip(view.answers_paid()) else { continue };
        lines.push(format!(
            "pair {pair} may spend {slice} of the budget and no other pair may: {answers} answers at the roster's noise"
        ));
    }
    Ok(lines)
}

/// The setting that the roster has now, if the plan is for that kind of release.
fn stated(release: &Release, family: Family) -> Option<Setting> {
    let ratio = |amount: &Fraction| amount.to_string().parse::<Ratio>().ok();
    match (release, family) {
        (Release::Gaussian { sigma, .. }, Family::Gaussian) => {
            Some(Setting::Gaussian { sigma: ratio(sigma)? })
        }
        (Release::ConfidentGaussian { sigma, threshold, threshold_sigma, .. }, Family::Confident) => {
            let (sigma, threshold_sigma) = (ratio(sigma)?, ratio(threshold_sigma)?);
            Some(Setting::Confident { sigma, threshold_sigma, threshold: *threshold })
        }
        (Release::Laplace { epsilon_per_answer, .. }, Family::Laplace) => {
            Some(Setting::Laplace { epsilon: ratio(epsilon_per_answer)? })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use consilium_config::EXAMPLE_ROSTER;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: PlanArgs,
    }

    fn parsed(line: &str) -> PlanArgs {
        Line::try_parse_from(std::iter::once("plan").chain(line.split_whitespace())).unwrap().args
    }

    /// The service that a line with a task of the example roster means.
    fn planned(line: &str) -> Result<Service> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roster.toml");
        std::fs::write(&path, EXAMPLE_ROSTER).unwrap();
        let mut args = parsed(line);
        args.roster = args.task.is_some().then_some(path);
        let terms = args.task.as_deref().map(|name| terms(&args, name)).transpose()?;
        service(&args, terms.as_ref(), None)
    }

    #[test]
    fn a_task_settles_everything() {
        let found = planned("breast-cancer").unwrap();
        assert_eq!((found.owners, found.shards, found.classes), (3, 1, 2));
        assert_eq!(
            (found.family, found.noise, found.unit),
            (Family::Gaussian, NoiseMaker::Software, PrivacyUnit::Owner)
        );
        assert_eq!(found.budget.epsilon.to_string(), "8");
        let digits = planned("digits").unwrap();
        assert_eq!((digits.family, digits.noise, digits.classes), (Family::Laplace, NoiseMaker::Enclave, 10));
        assert_eq!(planned("digits-exact").unwrap().family, Family::Exact);
        let noise = |name: &str| planned(name).unwrap().noise;
        assert_eq!(
            (noise("digits-agreed"), noise("readmission")),
            (NoiseMaker::Enclave, NoiseMaker::Software)
        );
    }

    #[test]
    fn what_software_costs_that_steps_in_is_said() {
        let said = |name: &str, noise: NoiseMaker| {
            let roster = Roster::parse("roster.toml", EXAMPLE_ROSTER).unwrap();
            let task = roster.task(name).unwrap().clone();
            let terms = Terms { terms: TaskTerms::new(&task).unwrap(), task };
            let service = Service { noise, ..planned(name).unwrap() };
            let profiles = Profile::family(service.votes().unwrap(), service.classes).unwrap();
            let plan = Plan::new(service, profiles, &Wanted::default()).unwrap();
            fallback(&plan, Some(&terms)).unwrap()
        };
        let text = said("digits-agreed", NoiseMaker::Enclave).unwrap();
        assert!(text.contains("software steps in") && text.contains("with 2 of noise"), "{text}");
        assert_eq!(said("digits-agreed", NoiseMaker::Software), None, "what is planned already");
        assert_eq!(said("digits", NoiseMaker::Enclave), None, "without the module there is no answer");
    }

    #[test]
    fn arguments_win_over_the_task() {
        let found =
            planned("breast-cancer --votes 52 --shards 13 --epsilon 2 --noise enclave --mechanism confident")
                .unwrap();
        assert_eq!((found.owners, found.shards, found.unit), (4, 13, PrivacyUnit::Patient));
        assert_eq!(
            (found.family, found.noise, found.budget.epsilon.to_string()),
            (Family::Confident, NoiseMaker::Enclave, "2".into())
        );
        assert_eq!(planned("breast-cancer --shards 13").unwrap().votes(), Ok(39));
    }

    #[test]
    fn what_is_missing_or_odd_is_said() {
        for (line, expected) in [
            ("", "--votes N"),
            ("--votes 50", "--classes K"),
            ("--votes 50 --classes 10", "--epsilon 8"),
            ("--votes 50 --classes 10 --epsilon 8 --shards 3", "50 votes are not 3 from each owner"),
            ("--votes 50 --classes 10 --epsilon 8 --shards 5 --unit owner", "an owner has one vote"),
            ("--votes 50 --classes 10 --epsilon 8 --loss 100", "--loss 100"),
            ("nothing", "there are: breast-cancer, digits, digits-exact"),
        ] {
            let found = planned(line).unwrap_err().to_string();
            assert!(found.contains(expected), "{line:?} gave {found:?}");
        }
    }

    #[test]
    fn the_roster_s_own_setting_is_shown_too() {
        let roster = Roster::parse("roster.toml", EXAMPLE_ROSTER).unwrap();
        let release = &roster.task("digits").unwrap().release;
        assert_eq!(
            stated(release, Family::Laplace),
            Some(Setting::Laplace { epsilon: "1/2".parse().unwrap() })
        );
        assert_eq!(stated(release, Family::Gaussian), None);
        let release = &roster.task("digits-agreed").unwrap().release;
        let two: Ratio = "2".parse().unwrap();
        assert_eq!(
            stated(release, Family::Confident),
            Some(Setting::Confident { sigma: two, threshold_sigma: two, threshold: 2 })
        );
    }
}

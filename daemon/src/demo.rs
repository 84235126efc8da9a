//! A whole consortium on one machine: real processes, real sockets, real data, one report.

#![allow(clippy::print_stdout, reason = "the report is for people, or JSON on standard output")]

mod homomorphic;
mod measure;
mod one_class;
mod report;
mod scenario;
mod service;
mod shards;
mod tour;
mod world;

pub use homomorphic::HomomorphicReport;
pub use measure::{Measured, Progress, evaluate};
pub use one_class::{ClassRow, Crowd, CrowdError, Named, OneClassReport, User, digits_crowd, name_users};
pub use report::{Accuracy, Agreement, Correlations, Latency, Online, Privacy, Report};
pub use scenario::{
    Confident, GivenModule, Hospital, Noise, Preprocessing, Releases, Scenario, ScenarioError, Shard,
    breast_cancer, breast_cancer_shards, train_all, train_shards,
};
pub use shards::{ShardOf, Split};
pub use world::{Layout, Process, World, WorldError, free_port, names, tasks};

use clap::{Args, ValueEnum};
use consilium_config::{ModuleSocket, NoiseRule};
use miette::{IntoDiagnostic, Result, WrapErr, miette};
use std::path::PathBuf;

/// Private accuracy may differ from the float ensemble's by this much.
const ACCURACY_GAP_MAX: f64 = 0.005;
/// Hospitals and questions of the scenario in which hospitals vote.
const HOSPITALS: usize = 10;
const PATIENTS: usize = 114;

/// Arguments of `consilium demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// What is asked
    #[arg(long, value_enum, default_value_t = About::BreastCancer)]
    scenario: About,
    /// Hospitals, each with its own disjoint part of the training data [default: 10]
    #[arg(long, value_parser = clap::value_parser!(u16).range(2..=40))]
    owners: Option<u16>,
    /// Models of each hospital. With more than one, each hospital splits its patients into as many disjoint
    /// shards and trains a model on each; every model has a vote, and the privacy promise is to one patient
    /// instead of one hospital
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    shards: u16,
    /// Held-out patients, or images, to ask about [default: 114, or 200 images]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=359))]
    queries: Option<u16>,
    /// Seed of the split and of the training
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Who makes the correlated randomness
    #[arg(long, value_enum, default_value_t = Preprocessing::Pairwise)]
    source: Preprocessing,
    /// Where the noise of releases comes from
    ///
    /// `module` starts a sampling module as a process of its own. It draws noise once that neither compute party
    /// knows, so that clients see less of it; but here nothing vouches for it, which every answer says.
    #[arg(long, value_enum, default_value_t = NoiseFrom::Software)]
    noise: NoiseFrom,
    /// Use this module instead, which runs already and listens on `unix:PATH` or `vsock:CID:PORT`
    #[arg(long, value_name = "SOCKET", requires = "module_policy")]
    module: Option<ModuleSocket>,
    /// What the evidence of that module must say, in TOML
    #[arg(long, value_name = "FILE", requires = "module")]
    module_policy: Option<PathBuf>,
    /// Measure nothing: leave the consortium running until interrupted, with its REST interface and dashboards
    #[arg(long)]
    serve: bool,
    /// Keep configuration, state and logs of all processes in this folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Where the images are drawn with their answers, as PNG [default: one-class.png, in the folder of --keep if given]
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Print one JSON object instead of the report
    #[arg(long)]
    json: bool,
}

/// What a demo is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum About {
    /// Hospitals vote on whether a breast mass is malignant
    BreastCancer,
    /// Users who know one written digit each: whose is an image, or nobody's?
    OneClass,
    /// One owner and one client with files between them: masses and digits, under the client's key
    Homomorphic,
}

/// Where the noise of a demo comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NoiseFrom {
    /// Each compute party draws full noise of its own
    Software,
    /// A sampling module draws once for both; without it there is no release
    #[value(alias = "enclave")]
    Module,
    /// The module, and software while it cannot be reached
    ModuleElseSoftware,
}

impl DemoArgs {
    fn noise(&self) -> Result<Noise> {
        let rule = match self.noise {
            NoiseFrom::Software => NoiseRule::Software,
            NoiseFrom::Module => NoiseRule::Module,
            NoiseFrom::ModuleElseSoftware => NoiseRule::ModuleElseSoftware,
        };
        let (Some(socket), Some(file)) = (&self.module, &self.module_policy) else {
            return Ok(Noise { rule, given: None });
        };
        if rule == NoiseRule::Software {
            return Err(miette!(
                "--module without `--noise module` would not be used; add that, or leave it out"
            ));
        }
        let text = std::fs::read_to_string(file).into_diagnostic();
        let text = text.wrap_err_with(|| format!("cannot read the policy {}", file.display()))?;
        let policy = toml::from_str(&text).into_diagnostic();
        let policy = policy.wrap_err_with(|| format!("{} is no policy", file.display()))?;
        Ok(Noise { rule, given: Some(GivenModule { socket: socket.clone(), policy }) })
    }
}

/// Runs `consilium demo`.
///
/// # Errors
/// A process failed, or the consortium gave a wrong answer.
pub fn run(args: &DemoArgs) -> Result<()> {
    let progress = measure::Progress::new(!args.json);
    match args.scenario {
        About::OneClass => return one_class::run(args, &progress),
        About::Homomorphic => return homomorphic::run(args, &progress),
        About::BreastCancer => {}
    }
    if args.picture.is_some() {
        return Err(miette!("only the one-class scenario draws a picture; leave --picture out"));
    }
    let owners = args.owners.map_or(HOSPITALS, usize::from);
    let scenario = breast_cancer_shards(owners, usize::from(args.shards), args.seed, &progress);
    let mut scenario = scenario.into_diagnostic()?;
    scenario.preprocessing = args.source;
    scenario.releases.noise = args.noise()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .into_diagnostic()?;
    let queries = args.queries.map_or(PATIENTS, usize::from);
    if queries > PATIENTS {
        return Err(miette!(
            "--queries {queries}: {PATIENTS} patients are held out; ask about as many at most"
        ));
    }
    if args.serve {
        return runtime.block_on(service::serve(&scenario, args.keep.as_deref(), args.json, &progress));
    }
    let measured = runtime.block_on(evaluate(&scenario, queries, args.keep.as_deref(), &progress))?;
    let report = Report::new(&scenario, &measured);
    if args.json {
        println!("{}", serde_json::to_string(&report).into_diagnostic()?);
    } else {
        report.print(&scenario, &measured);
    }
    report.verdict(ACCURACY_GAP_MAX)
}

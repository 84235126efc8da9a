//! Who was named, for machines and for people.

use super::Named;
use super::crowd::Crowd;
use super::grid::{Mark, Tile};
use crate::demo::report::{Agreement, Latency, Online, latency, table};
use consilium_config::NOBODY;
use miette::{Result, miette};
use serde::Serialize;
use std::path::Path;

/// Less than this share of strangers refused is not "mostly", where there are enough of them to tell.
const REFUSED_MIN: f64 = 0.5;
const STRANGERS_MIN: usize = 20;

/// One run of users as one JSON object. Later versions add fields and rename none.
#[derive(Clone, Debug, Serialize)]
pub struct OneClassReport {
    /// The scenario.
    pub scenario: &'static str,
    /// Members that have a model, in the order of labels.
    pub users: Vec<String>,
    /// What a user's model computes.
    pub measure: String,
    /// Questions asked.
    pub queries: usize,
    /// Processes beside this one.
    pub processes: usize,
    /// Where the correlated randomness came from.
    pub source: String,
    /// Who was named for the images of each class.
    pub classes: Vec<ClassRow>,
    /// Share of users' own images for which the user was named.
    pub own_named: f64,
    /// Share of users' own images for which nobody was named.
    pub own_refused: f64,
    /// Share of strangers' images for which nobody was named.
    pub strangers_refused: f64,
    /// Answers against the oracle's.
    pub agreement: Agreement,
    /// Question to answer.
    pub latency_ms: Latency,
    /// Between the compute parties, per question.
    pub online: Online,
    /// Seconds of publishing (with filling the pool) and of asking.
    pub seconds: [f64; 2],
    /// The images with their answers.
    pub picture: String,
}

/// Answers about the images of one class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassRow {
    /// The class.
    pub class: String,
    /// Whether it has no user.
    pub stranger: bool,
    /// Images asked about.
    pub images: usize,
    /// Images for which each user was named, and last for which nobody was.
    pub named: Vec<usize>,
}

impl OneClassReport {
    /// Counts.
    pub(super) fn new(crowd: &Crowd, named: &Named, picture: &Path) -> Self {
        let users = crowd.users.len();
        let mut classes: Vec<ClassRow> = crowd
            .classes
            .iter()
            .enumerate()
            .map(|(at, class)| ClassRow {
                class: class.clone(),
                stranger: at >= users,
                images: 0,
                named: vec![0; users + 1],
            })
            .collect();
        for (label, who) in crowd.test.labels().iter().zip(&named.who) {
            if let Some(row) = classes.get_mut(usize::from(*label)) {
                row.images += 1;
                row.named[who.unwrap_or(users)] += 1;
            }
        }
        let own = || classes.iter().take(users).enumerate();
        let strangers = || classes.iter().skip(users);
        let images = |images: usize| images.max(1) as f64;
        let (own_images, strangers_images) =
            (images(own().map(|(_, row)| row.images).sum()), images(strangers().map(|row| row.images).sum()));
        let own_named: usize = own().map(|(user, row)| row.named[user]).sum();
        let own_refused: usize = own().map(|(_, row)| row.named[users]).sum();
        let strangers_refused: usize = strangers().map(|row| row.named[users]).sum();
        let first = named.answers.first();
        Self {
            scenario: "one-class",
            users: crowd.users.iter().map(|user| user.name.clone()).collect(),
            measure: crowd.users.first().map_or_else(String::new, |user| user.model.measure().summary()),
            queries: named.answers.len(),
            processes: named.processes,
            source: first.map_or_else(String::new, |answer| answer.terms.preprocessing.clone()),
            own_named: own_named as f64 / own_images,
            own_refused: own_refused as f64 / own_images,
            strangers_refused: strangers_refused as f64 / strangers_images,
            classes,
            agreement: agreement(named),
            latency_ms: latency(named.answers.iter().map(|answer| answer.milliseconds).collect()),
            online: Online {
                rounds: first.map_or(0, |answer| answer.terms.rounds),
                bytes: first.map_or(0, |answer| 2 * answer.terms.bytes),
            },
            seconds: named.seconds,
            picture: picture.display().to_string(),
        }
    }

    /// An error where the run contradicts what the product promises.
    ///
    /// # Errors
    /// A certain answer differs from the oracle's, or most strangers were named.
    pub fn verdict(&self) -> Result<()> {
        let Agreement { certain, equal, .. } = self.agreement;
        if equal != certain {
            return Err(miette!("{} of {certain} certain answers differ from the oracle's", certain - equal));
        }
        let strangers: usize = self.classes.iter().filter(|row| row.stranger).map(|row| row.images).sum();
        if strangers >= STRANGERS_MIN && self.strangers_refused <= REFUSED_MIN {
            let refused = percent(self.strangers_refused);
            return Err(miette!("only {refused} of the strangers' images were refused"));
        }
        Ok(())
    }

    /// Prints the report for people.
    pub(super) fn print(&self, crowd: &Crowd, named: &Named) {
        println!(
            "\n{} {} users ({}), {} questions, {} processes.",
            crowd.title,
            self.users.len(),
            self.measure,
            self.queries,
            self.processes
        );
        println!("Data: {}\n", crowd.credit);
        let nobody = [NOBODY];
        let columns = self.users.iter().map(String::as_str).chain(nobody);
        let columns: Vec<&str> = ["image of"].into_iter().chain(columns).collect();
        let mut rows = table(&columns);
        for row in &self.classes {
            let class = if row.stranger { format!("{} (a stranger)", row.class) } else { row.class.clone() };
            let shown = |count: &usize| if *count == 0 { String::new() } else { count.to_string() };
            rows.add_row([class].into_iter().chain(row.named.iter().map(shown)).collect::<Vec<String>>());
        }
        println!("{rows}");
        let (own, refused) = (percent(self.own_named), percent(self.own_refused));
        println!("users' own images: their user was named for {own}, nobody for {refused}");
        println!("strangers' images: nobody was named for {}", percent(self.strangers_refused));
        let agreement = &self.agreement;
        println!(
            "answers as the plaintext oracle: {} of {} certain; {} near ties ({} equal)",
            agreement.equal, agreement.certain, agreement.near_ties, agreement.near_ties_equal
        );
        println!("latency: median {:.1} ms, p95 {:.1} ms", self.latency_ms.median, self.latency_ms.p95);
        println!(
            "online, per question: {} rounds, {:.1} kB in both directions; correlated randomness: {}",
            self.online.rounds,
            self.online.bytes as f64 / 1e3,
            self.source
        );
        println!(
            "\nEach user trained on its own images alone. Weights, thresholds, images and distances stayed in shares:"
        );
        println!("the client learnt a name, or that there is none, and nobody learnt anything else.");
        println!("Images with their answers: {}", self.picture);
        if let Some(folder) = &named.state {
            println!("configuration, state and logs of all processes: {}", folder.display());
        }
    }
}

/// The images that were asked about, as a picture shows them.
pub(super) fn tiles<'a>(crowd: &'a Crowd, named: &Named) -> Vec<Tile<'a>> {
    let tile = |(row, who): (usize, &Option<usize>)| {
        let mark = match (who, crowd.whose(row)) {
            (Some(user), Some(own)) if *user == own => Mark::Right,
            (Some(_), _) => Mark::Wrong,
            (None, None) => Mark::Refused,
            (None, Some(_)) => Mark::Missed,
        };
        let name = who.and_then(|user| crowd.users.get(user)).map_or(NOBODY, |user| user.name.as_str());
        Tile { values: crowd.test.row(row), name, mark }
    };
    named.who.iter().enumerate().map(tile).collect()
}

fn agreement(named: &Named) -> Agreement {
    let pairs = || named.who.iter().zip(&named.oracle);
    let count = |certain: bool, equal: bool| {
        pairs().filter(|(who, due)| due.certain == certain && (!equal || **who == due.user)).count()
    };
    let (certain, equal) = (count(true, false), count(true, true));
    Agreement {
        certain,
        equal,
        near_ties: count(false, false),
        near_ties_equal: count(false, true),
        rate: if certain == 0 { 0.0 } else { equal as f64 / certain as f64 },
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::measure::Progress;
    use crate::demo::one_class::crowd::{User, digits_crowd};
    use consilium_protocol::evaluate::clear::Nearest;

    /// Answers without the processes: the first are these, all others are not asked about.
    fn named(who: &[Option<usize>], oracle: &[Nearest]) -> Named {
        Named {
            who: who.to_vec(),
            answers: Vec::new(),
            oracle: oracle.to_vec(),
            processes: 0,
            seconds: [0.0; 2],
            state: None,
        }
    }

    #[test]
    fn counts_marks_and_verdict_follow_the_answers() {
        let crowd = digits_crowd(1, &Progress::new(false)).unwrap();
        let own = (0..crowd.test.rows()).find(|row| crowd.whose(*row).is_some()).unwrap();
        let stranger = (0..crowd.test.rows()).find(|row| crowd.whose(*row).is_none()).unwrap();
        let rows = [own, own, own, stranger, stranger, stranger];
        let crowd = Crowd { test: crowd.test.select(&rows).unwrap(), ..crowd };
        let user = crowd.whose(0).unwrap();
        let other = (user + 1) % crowd.users.len();
        let who = [Some(user), Some(other), None, Some(other), None, None];
        let oracle = who.map(|user| Nearest { user, certain: true });
        let found = named(&who, &oracle);
        let marks: Vec<Mark> = tiles(&crowd, &found).iter().map(|tile| tile.mark).collect();
        let expected = [Mark::Right, Mark::Wrong, Mark::Missed, Mark::Wrong, Mark::Refused, Mark::Refused];
        assert_eq!(marks, expected);
        let names: Vec<&str> = tiles(&crowd, &found).iter().map(|tile| tile.name).collect();
        let User { name, .. } = &crowd.users[other];
        assert_eq!((names[1], names[2]), (name.as_str(), NOBODY));
        let report = OneClassReport::new(&crowd, &found, Path::new("x.png"));
        let third = 1.0 / 3.0;
        assert_eq!((report.own_named, report.own_refused), (third, third));
        assert_eq!(report.strangers_refused, 2.0 * third);
        assert_eq!(report.classes[user].named.iter().sum::<usize>(), 3);
        report.verdict().unwrap();
        let mut differs = oracle;
        differs[2] = Nearest { user: Some(user), certain: true };
        let refused = OneClassReport::new(&crowd, &named(&who, &differs), Path::new("x.png")).verdict();
        assert!(refused.unwrap_err().to_string().starts_with("1 of 6 certain answers differ"));
        // Fewer strangers are too few to say that most are named.
        let crowd = Crowd { test: crowd.test.select(&[3; STRANGERS_MIN]).unwrap(), ..crowd };
        let who = [Some(user); STRANGERS_MIN];
        let oracle = who.map(|user| Nearest { user, certain: true });
        let refused = OneClassReport::new(&crowd, &named(&who, &oracle), Path::new("x.png")).verdict();
        assert!(refused.unwrap_err().to_string().starts_with("only 0.0 %"));
    }
}

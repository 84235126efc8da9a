//! A plan on the terminal, as a chart and as JSON.

use crate::chart::{Axis, Chart};
use crate::cli::output::table;
use crate::planning::{
    Advice, Family, NoiseMaker, Outlook, Plan, PrivacyUnit, Row, Service, Setting, Tendency, count,
    noise_share, span, thousands,
};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use consilium_protocol::privacy::{Ratio, Unit};
use miette::{IntoDiagnostic, Result};
use serde::Serialize;
use serde_json::{Value, json};
use std::io::IsTerminal;

/// Most columns of text and plot, and lines of the plot.
const COLUMNS: usize = 100;
const PLOT_LINES: usize = 22;

/// All that there is to show.
pub(super) struct Shown<'a> {
    /// The plan.
    pub(super) plan: &'a Plan,
    /// What it means.
    pub(super) advice: &'a Advice,
    /// The three numbers that describe measured votes, to plan for other numbers of owners.
    pub(super) tendency: Option<Tendency>,
    /// What it costs while software steps in for the module, where it may.
    pub(super) fallback: Option<String>,
    /// What each pair may spend, where a task has several.
    pub(super) slices: Vec<String>,
}

impl Shown<'_> {
    /// Prints for people; without borders and plot where nobody watches.
    pub(super) fn print(&self) -> Result<()> {
        let watched = std::io::stdout().is_terminal();
        let rows = self.table(watched)?;
        let width = rows.width().map_or(COLUMNS, usize::from).min(COLUMNS);
        let listed = |lines: &[String]| lines.iter().for_each(|line| println!("{}", wrapped(line, width)));
        println!("{}\n\nAssumed:", self.terms()?);
        listed(&self.assumptions());
        println!("\n{rows}");
        if watched && self.plan.service.family != Family::Exact {
            println!("\n{}", self.chart().to_text(width, PLOT_LINES));
        }
        let Advice { summary, promise, ways, .. } = self.advice;
        for (heading, lines) in [("In short", summary), ("The promise", promise), ("What to do", ways)] {
            if !lines.is_empty() {
                println!("\n{heading}:");
                listed(lines);
            }
        }
        Ok(())
    }

    /// Whom and what the plan is for.
    fn terms(&self) -> Result<String> {
        let Service { owners, shards, classes, unit, noise, family, budget, .. } = &self.plan.service;
        let votes = self.plan.service.votes().into_diagnostic()?;
        let from = if *shards > 1 {
            format!(" ({shards} models from each of {owners} owners)")
        } else {
            String::new()
        };
        let start = format!("{votes} votes{from} over {classes} classes");
        let unit = match unit {
            PrivacyUnit::Owner => "owner",
            PrivacyUnit::Patient => "patient",
        };
        let noise = match noise {
            NoiseMaker::Software => {
                "drawn in software: two full draws reach every count, one from each compute party"
            }
            NoiseMaker::Enclave => "drawn by an attested module: one draw reaches every count",
        };
        let promise = match (family, budget.delta) {
            (Family::Exact, _) => return Ok(format!("{start}; exact release")),
            (Family::Laplace, _) | (_, None) => format!("epsilon {}", budget.epsilon),
            (_, Some(delta)) => format!("epsilon {}, delta {delta}", budget.epsilon),
        };
        let family = match family {
            Family::Confident => "Gaussian noise, answers only above a threshold",
            Family::Laplace => "Laplace noise",
            _ => "Gaussian noise",
        };
        Ok(format!("{start}; unit {unit}; {promise} in all\n{family}, {noise}"))
    }

    fn assumptions(&self) -> Vec<String> {
        let several = self.plan.profiles.len() > 1;
        let named = |profile: &crate::planning::Profile| match several {
            true => format!("{}: {}", profile.name, profile.assumption),
            false => profile.assumption.clone(),
        };
        let mut lines: Vec<String> = self.plan.profiles.iter().map(named).collect();
        if several {
            lines.push(
                "figures are ranges over these three kinds; give --votes-file or --accuracy for your own"
                    .into(),
            );
        }
        if let Some(Tendency { accuracy, likeness, rival }) = self.tendency {
            lines.push(format!(
                "for other numbers of owners like these: --accuracy {accuracy:.3} --likeness {likeness:.2} --rival {rival:.2}"
            ));
        }
        lines.extend(self.fallback.clone());
        lines.extend(self.slices.clone());
        lines.push("one model votes once, and no patient is in the training data of two votes".into());
        lines
    }

    fn table(&self, borders: bool) -> Result<Table> {
        let confident = self.plan.service.family == Family::Confident;
        let known = self.plan.profiles.iter().all(|profile| profile.noise_free().is_some());
        let amount = if self.plan.service.family == Family::Laplace { "epsilon each" } else { "sigma" };
        let mut heads = vec![amount, "noise/votes"];
        heads.extend(if confident { &["threshold", "questions", "no consensus"][..] } else { &[] });
        heads.extend(["answers", "epsilon of one", "as without noise"]);
        heads.extend(known.then_some("right"));
        heads.push("");
        let mut rows = table(&heads);
        if !borders {
            rows.load_style(NOTHING);
        }
        let votes = self.plan.service.votes().into_diagnostic()?;
        for row in &self.plan.rows {
            let mut cells =
                vec![amount_of(row.setting), format!("{:.2}", noise_share(row, &self.plan.service, votes))];
            if let Setting::Confident { sigma, threshold_sigma, threshold } = row.setting {
                // The rows of the search have the same noise in both; a roster may differ.
                let own = if threshold_sigma == sigma {
                    String::new()
                } else {
                    format!(", sigma {}", decimal(threshold_sigma))
                };
                cells.push(format!("{threshold}{own}"));
                cells.push(row.attempts.map_or_else(|| "-".into(), thousands));
                cells.push(span(row.range(|outlook| 1.0 - outlook.answered)));
            }
            let whole = |answers: f64| if confident { count(answers) } else { thousands(answers as u64) };
            cells.push(row.answers().map_or_else(|| "unlimited".into(), whole));
            cells.push(row.epsilon.map_or_else(|| "-".into(), |epsilon| format!("{epsilon:.3}")));
            cells.push(span(row.range(|outlook| outlook.agreement)));
            cells.extend(known.then(|| span(row.range(|outlook| outlook.accuracy.unwrap_or(0.0)))));
            cells.push(self.remark(row));
            rows.add_row(cells);
        }
        Ok(rows)
    }

    /// Why a row stands out.
    fn remark(&self, row: &Row) -> String {
        let same = |other: &Option<Row>| other.as_ref().is_some_and(|other| other.setting == row.setting);
        if same(&self.plan.recommended) {
            "recommended".into()
        } else if same(&self.plan.paying) {
            format!("pays for {}", self.plan.service.answers_wanted)
        } else {
            String::new()
        }
    }

    /// Quality against noise.
    pub(super) fn chart(&self) -> Chart {
        let axis = Axis::new("deviation of the noise on each count, one draw, in votes").log();
        let mut chart =
            Chart::new("What noise does to the answers", axis, Axis::new("share, %").within(0.0, 100.0));
        if let Ok(terms) = self.terms() {
            chart = chart.subtitle(terms.lines().next().unwrap_or_default());
        }
        let several = self.plan.profiles.len() > 1;
        for (index, profile) in self.plan.profiles.iter().enumerate() {
            let line = |figure: &dyn Fn(&Outlook) -> Option<f64>| -> Vec<(f64, f64)> {
                let point =
                    |row: &Row| Some((row.setting.deviation(), figure(row.outlooks.get(index)?)? * 100.0));
                self.plan.rows.iter().filter_map(point).collect()
            };
            if several {
                chart = chart.series(format!("right: {}", profile.name), line(&|outlook| outlook.accuracy));
                continue;
            }
            chart = chart.series("as without noise", line(&|outlook| Some(outlook.agreement)));
            if profile.noise_free().is_some() {
                chart = chart.series("right", line(&|outlook| outlook.accuracy));
            }
            if self.plan.service.family == Family::Confident {
                chart = chart.series("no consensus", line(&|outlook| Some(1.0 - outlook.answered)));
            }
        }
        if let Some(row) = &self.plan.recommended {
            let answers =
                row.answers().map_or_else(String::new, |answers| format!(": {} answers", count(answers)));
            chart = chart.mark(row.setting.deviation(), format!("recommended{answers}"));
        }
        chart
    }

    /// Everything, for machines. Exact numbers are texts.
    pub(super) fn json(&self) -> Result<Value> {
        let service = &self.plan.service;
        let votes = service.votes().into_diagnostic()?;
        let profile = |profile: &crate::planning::Profile| json!({ "name": profile.name, "assumption": profile.assumption, "accuracy_without_noise": profile.noise_free() });
        let row = |row: &Row| json_row(row, service, votes);
        Ok(json!({
            "votes": votes, "owners": service.owners, "shards": service.shards, "classes": service.classes,
            "unit": service.unit, "noise": service.noise, "mechanism": service.family,
            "epsilon": service.budget.epsilon, "delta": service.budget.delta,
            "loss_max": service.loss_max, "answers_wanted": service.answers_wanted,
            "profiles": self.plan.profiles.iter().map(profile).collect::<Vec<_>>(),
            "tendency": self.tendency,
            "fallback": self.fallback, "slices": self.slices,
            "rows": self.plan.rows.iter().map(row).collect::<Vec<_>>(),
            "recommended": self.plan.recommended.as_ref().map(row),
            "paying": self.plan.paying.as_ref().map(row),
            "advice": self.advice,
        }))
    }
}

/// One row for machines.
fn json_row(row: &Row, service: &Service, votes: u32) -> Value {
    #[derive(Serialize)]
    struct Amounts {
        #[serde(skip_serializing_if = "Option::is_none")]
        sigma: Option<Ratio>,
        #[serde(skip_serializing_if = "Option::is_none")]
        threshold_sigma: Option<Ratio>,
        #[serde(skip_serializing_if = "Option::is_none")]
        threshold: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        epsilon_per_answer: Option<Ratio>,
    }
    let none = Amounts { sigma: None, threshold_sigma: None, threshold: None, epsilon_per_answer: None };
    let setting = match row.setting {
        Setting::Exact => none,
        Setting::Gaussian { sigma } => Amounts { sigma: Some(sigma), ..none },
        Setting::Confident { sigma, threshold_sigma, threshold } => Amounts {
            sigma: Some(sigma),
            threshold_sigma: Some(threshold_sigma),
            threshold: Some(threshold),
            ..none
        },
        Setting::Laplace { epsilon } => Amounts { epsilon_per_answer: Some(epsilon), ..none },
    };
    let unit = row.price.map(|price| match price.unit() {
        Unit::Zcdp => "rho",
        Unit::Pure => "epsilon",
    });
    json!({
        "setting": setting, "noise_share": noise_share(row, service, votes),
        "attempts": row.attempts, "answers": row.answers(), "epsilon_of_one": row.epsilon,
        "price": row.price.map(|price| price.amount()), "price_unit": unit.map(|unit| format!("2^-40 {unit}")),
        "outlooks": row.outlooks,
    })
}

/// One item of a list, broken between words.
fn wrapped(line: &str, width: usize) -> String {
    let (mut out, mut column) = ("-".to_owned(), 1);
    for word in line.split_whitespace() {
        let letters = word.chars().count();
        if column + 1 + letters > width && column > 1 {
            out += "\n ";
            column = 1;
        }
        out += " ";
        out += word;
        column += 1 + letters;
    }
    out
}

fn decimal(ratio: Ratio) -> String {
    format!("{}", ratio.numerator() as f64 / ratio.denominator() as f64)
}

/// The amount of noise as the roster would state it.
pub(super) fn amount_of(setting: Setting) -> String {
    match setting {
        Setting::Exact => "none".into(),
        Setting::Gaussian { sigma } | Setting::Confident { sigma, .. } => decimal(sigma),
        Setting::Laplace { epsilon } => decimal(epsilon),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planning::{Profile, Wanted};
    use consilium_protocol::privacy::Budget;

    fn service(family: Family) -> Service {
        let budget = Budget { epsilon: "8".parse().unwrap(), delta: Some("1e-6".parse().unwrap()) };
        let (unit, noise) = (PrivacyUnit::Owner, NoiseMaker::Software);
        Service {
            owners: 50,
            shards: 1,
            classes: 10,
            unit,
            noise,
            family,
            budget,
            loss_max: 0.02,
            answers_wanted: 50,
        }
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("one two three", 9), "- one two\n  three");
        assert_eq!(wrapped("immeasurable", 4), "- immeasurable");
    }

    #[test]
    fn every_family_has_its_table_chart_and_json() {
        for (family, heads) in [
            (Family::Gaussian, "sigma"),
            (Family::Confident, "no consensus"),
            (Family::Laplace, "epsilon each"),
            (Family::Exact, "unlimited"),
        ] {
            let service = service(family);
            let plan = Plan::new(service, Profile::family(50, 10).unwrap(), &Wanted::default()).unwrap();
            let advice = Advice::of(&plan).unwrap();
            let shown = Shown {
                plan: &plan,
                advice: &advice,
                tendency: None,
                fallback: Some("x".into()),
                slices: vec!["s".into()],
            };
            let table = shown.table(false).unwrap().to_string();
            assert!(table.contains(heads) && table.contains("right"), "{family:?}:\n{table}");
            let json = shown.json().unwrap();
            assert_eq!(json["rows"].as_array().unwrap().len(), plan.rows.len());
            assert_eq!((&json["votes"], &json["fallback"]), (&json!(50), &json!("x")));
            if family != Family::Exact {
                assert_eq!(
                    json["recommended"]["answers"].as_f64(),
                    plan.recommended.as_ref().unwrap().answers()
                );
                assert!(shown.chart().to_svg().unwrap().contains("recommended"));
            }
            let lines = shown.assumptions().join("\n");
            assert!(
                lines.contains("hard questions")
                    && lines.contains("no patient is in the training data of two"),
                "{lines}"
            );
        }
    }
}

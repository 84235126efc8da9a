//! From the terms of a service to a table of settings and the one to take.

use super::outlook::{Chance, chances, outlook};
use super::setting::{STEP_TENTH, STEPS, nearest_step, step};
use super::{Family, NoiseMaker, Outlook, Profile, Row, Service, ServiceError, Setting};
use consilium_protocol::privacy::{Cost, Law, Ratio, epsilon_of};
use std::collections::HashSet;

/// Noise on a count in all, as shares of the votes, for the rows of the table.
const SHARES: [f64; 11] = [0.02, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5];
/// Thresholds tried, as shares of the votes.
const THRESHOLDS: [f64; 14] = [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95];
/// A service that leaves more than half of its questions open is not recommended, however right the rest.
const ANSWERED_MIN: f64 = 0.5;
/// Noise beyond all the votes is not recommended to anybody.
const SHARE_MAX: f64 = 1.0;

/// A table of settings for one service, and which to take.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The terms it is for.
    pub service: Service,
    /// What is known or assumed about the votes.
    pub profiles: Vec<Profile>,
    /// From little noise to much.
    pub rows: Vec<Row>,
    /// The setting that gives most answers while noise costs no more than allowed, under every profile.
    pub recommended: Option<Row>,
    /// The least noise that pays for the answers wanted, whatever they are worth then.
    pub paying: Option<Row>,
}

/// Settings that the caller wants to see.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// These amounts instead of the usual ones: deviations, or losses of one label for Laplace noise.
    pub amounts: Vec<Ratio>,
    /// This threshold instead of the best one.
    pub threshold: Option<u32>,
    /// A setting to show besides, such as that of a roster.
    pub besides: Option<Setting>,
}

impl Plan {
    /// Works out a plan.
    ///
    /// # Errors
    /// [`ServiceError`]: sizes out of range, profiles of other sizes, a budget that bounds nothing.
    pub fn new(service: Service, profiles: Vec<Profile>, wanted: &Wanted) -> Result<Self, ServiceError> {
        let (votes, classes) = (service.votes()?, service.classes);
        if let Some(odd) = profiles.iter().find(|one| (one.votes, one.classes) != (votes, classes)) {
            let (found, found_classes) = (odd.votes, odd.classes);
            return Err(ServiceError::Profile { votes, classes, found, found_classes });
        }
        let search = Search::new(&service, &profiles)?;
        let recommended = search.recommended(wanted)?;
        let paying = search.paying(recommended.as_ref())?;
        let mut rows = search.table(wanted)?;
        rows.extend(recommended.iter().chain(&paying).cloned());
        if let Some(setting) = wanted.besides {
            rows.push(search.row(setting)?);
        }
        let place = |row: &Row| row.setting.deviation();
        rows.sort_by(|left, right| place(left).total_cmp(&place(right)));
        let mut seen = HashSet::new();
        rows.retain(|row| seen.insert(row.setting));
        Ok(Self { service, profiles, rows, recommended, paying })
    }

    /// A setting of this service while somebody else draws the noise: its price is the same, its noise is not.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn drawn_by(&self, noise: NoiseMaker, setting: Setting) -> Result<Row, ServiceError> {
        Search::new(&Service { noise, ..self.service }, &self.profiles)?.row(setting)
    }
}

struct Search<'a> {
    service: &'a Service,
    profiles: &'a [Profile],
    votes: f64,
    limit: Option<Cost>,
}

impl<'a> Search<'a> {
    fn new(service: &'a Service, profiles: &'a [Profile]) -> Result<Self, ServiceError> {
        Ok(Self { service, profiles, votes: f64::from(service.votes()?), limit: service.limit()? })
    }

    /// One setting, in full.
    fn row(&self, setting: Setting) -> Result<Row, ServiceError> {
        let chances = self.chances(setting)?;
        self.judged(setting, &chances)
    }

    fn law(&self, setting: Setting) -> Result<Law, ServiceError> {
        Ok(Law::of(&setting.mechanism()?, self.service.noise.draws()))
    }

    fn chances(&self, setting: Setting) -> Result<Vec<Vec<Chance>>, ServiceError> {
        let law = self.law(setting)?;
        Ok(self.profiles.iter().map(|profile| chances(profile, &law)).collect())
    }

    /// A row from chances that hold for the noise of its setting, whatever its threshold.
    fn judged(&self, setting: Setting, chances: &[Vec<Chance>]) -> Result<Row, ServiceError> {
        let draws = self.service.noise.draws();
        let test = setting.test()?.map(|(noise, threshold)| (Law::of(&noise, draws), threshold));
        let test = test.as_ref().map(|(law, threshold)| (law, *threshold));
        let outlooks: Vec<Outlook> = self
            .profiles
            .iter()
            .zip(chances)
            .map(|(profile, chances)| outlook(profile, chances, test))
            .collect();
        let price = setting.price()?;
        let attempts = self.limit.zip(price).map(|(limit, price)| limit.amount() / price.amount());
        let epsilon = price.map(|price| epsilon_of(price, self.service.budget.delta)).transpose()?;
        Ok(Row { setting, price, attempts, epsilon, outlooks })
    }

    /// The setting of an amount; for a Confident release with the best threshold.
    fn best(&self, amount: Ratio, threshold: Option<u32>) -> Result<Row, ServiceError> {
        let (sigma, threshold_sigma) = (amount, amount);
        let setting = match self.service.family {
            Family::Exact => Setting::Exact,
            Family::Gaussian => Setting::Gaussian { sigma },
            Family::Laplace => Setting::Laplace { epsilon: amount },
            Family::Confident => return self.best_threshold(sigma, threshold_sigma, threshold),
        };
        self.row(setting)
    }

    /// The lowest threshold whose answers are good enough; if none are, the one whose answers are best.
    fn best_threshold(
        &self,
        sigma: Ratio,
        threshold_sigma: Ratio,
        threshold: Option<u32>,
    ) -> Result<Row, ServiceError> {
        let chances = self.chances(Setting::Gaussian { sigma })?;
        let at = |threshold| self.judged(Setting::Confident { sigma, threshold_sigma, threshold }, &chances);
        let thresholds = match threshold {
            Some(threshold) => vec![threshold],
            None => THRESHOLDS.map(|share| (share * self.votes).round() as u32).to_vec(),
        };
        let mut best = at(thresholds[0])?;
        for threshold in &thresholds[1..] {
            let row = at(*threshold)?;
            if self.better(&row, Some(&best)) {
                best = row;
            }
        }
        Ok(best)
    }

    /// Whether a row is to be preferred: good enough answers first, then more of them, then better ones.
    fn better(&self, row: &Row, than: Option<&Row>) -> bool {
        let Some(than) = than else { return self.good(row) };
        let answers = |row: &Row| row.answers().unwrap_or(0.0);
        match (self.good(row), self.good(than)) {
            (true, true) => answers(row) > answers(than),
            (false, false) => {
                let open = |row: &Row| row.range(|outlook| outlook.answered).0 < ANSWERED_MIN;
                if open(row) == open(than) { row.loss() < than.loss() } else { open(than) }
            }
            (good, _) => good,
        }
    }

    /// Noise costs no more than allowed, and most questions are answered.
    fn good(&self, row: &Row) -> bool {
        let answered = row.range(|outlook| outlook.answered).0;
        row.loss() <= self.service.loss_max && answered >= ANSWERED_MIN
    }

    /// Number of amounts there are, and the amount of a level; noise grows with the level.
    fn levels(&self) -> (usize, fn(usize) -> Ratio) {
        match self.service.family {
            Family::Laplace => (STEPS - STEP_TENTH, |level| step(STEPS - STEP_TENTH - 1 - level)),
            _ => (STEPS - STEP_TENTH, |level| step(STEP_TENTH + level)),
        }
    }

    /// The level at which the noise on a count in all is nearest to a share of the votes.
    fn level(&self, share: f64) -> usize {
        let deviation = share * self.votes / f64::from(self.service.noise.draws()).sqrt();
        match self.service.family {
            Family::Laplace => {
                (STEPS - STEP_TENTH - 1).saturating_sub(nearest_step(8.0_f64.sqrt() / deviation))
            }
            _ => nearest_step(deviation).saturating_sub(STEP_TENTH),
        }
    }

    /// Rows of the table, before those that stand out.
    fn table(&self, wanted: &Wanted) -> Result<Vec<Row>, ServiceError> {
        if self.service.family == Family::Exact {
            return Ok(vec![self.row(Setting::Exact)?]);
        }
        let (_, amount) = self.levels();
        let mut amounts = wanted.amounts.clone();
        if amounts.is_empty() {
            amounts = SHARES.map(|share| amount(self.level(share))).to_vec();
            amounts.dedup();
        }
        amounts.into_iter().map(|amount| self.best(amount, wanted.threshold)).collect()
    }

    fn recommended(&self, wanted: &Wanted) -> Result<Option<Row>, ServiceError> {
        match self.service.family {
            Family::Exact => Ok(None),
            Family::Gaussian | Family::Laplace => self.noisiest(),
            Family::Confident => self.most_answers(wanted.threshold),
        }
    }

    /// The most noise whose loss is allowed. More noise never loses less, so halving finds it.
    fn noisiest(&self) -> Result<Option<Row>, ServiceError> {
        let (_, amount) = self.levels();
        let (mut best, mut low, mut high) = (None, 0, self.level(SHARE_MAX) + 1);
        while low < high {
            let middle = low.midpoint(high);
            let row = self.best(amount(middle), None)?;
            if self.good(&row) {
                (best, low) = (Some(row), middle + 1);
            } else {
                high = middle;
            }
        }
        Ok(best)
    }

    /// The best of many pairs of noise and threshold.
    fn most_answers(&self, threshold: Option<u32>) -> Result<Option<Row>, ServiceError> {
        let (_, amount) = self.levels();
        let mut best: Option<Row> = None;
        // From 4 % of the votes by eighths of a doubling.
        let mut levels: Vec<usize> =
            (0..38).map(|eighth| self.level(0.04 * 2_f64.powf(f64::from(eighth) / 8.0))).collect();
        levels.dedup();
        for level in levels {
            let row = self.best(amount(level), threshold)?;
            if self.good(&row) && self.better(&row, best.as_ref()) {
                best = Some(row);
            }
        }
        Ok(best)
    }

    /// The least noise that pays for the answers wanted, with the threshold of the recommendation.
    fn paying(&self, recommended: Option<&Row>) -> Result<Option<Row>, ServiceError> {
        if self.limit.is_none() {
            return Ok(None);
        }
        let threshold = match recommended.map(|row| row.setting) {
            Some(Setting::Confident { threshold, .. }) => threshold,
            _ => (self.votes / 2.0).round() as u32,
        };
        let (levels, amount) = self.levels();
        let setting = |level: usize| match self.service.family {
            Family::Laplace => Setting::Laplace { epsilon: amount(level) },
            Family::Confident => {
                Setting::Confident { sigma: amount(level), threshold_sigma: amount(level), threshold }
            }
            _ => Setting::Gaussian { sigma: amount(level) },
        };
        let pays = |setting: Setting| -> Result<bool, ServiceError> {
            let price = setting.price()?;
            let attempts = self.limit.zip(price).map(|(limit, price)| limit.amount() / price.amount());
            Ok(attempts.is_some_and(|attempts| attempts >= self.service.answers_wanted))
        };
        for level in 0..levels {
            if pays(setting(level))? {
                return self.row(setting(level)).map(Some);
            }
        }
        Ok(None)
    }
}

/// The share of the votes that the noise on one count has in all, as a deviation.
pub(crate) fn noise_share(row: &Row, service: &Service, votes: u32) -> f64 {
    row.setting.deviation() * f64::from(service.noise.draws()).sqrt() / f64::from(votes)
}

#[cfg(test)]
mod tests {
    use super::super::Tendency;
    use super::super::service::tests::service;
    use super::super::setting::value;
    use super::*;

    fn clear(votes: u32, classes: usize) -> Vec<Profile> {
        vec![
            Profile::modelled(votes, classes, Tendency { accuracy: 0.9, likeness: 0.55, rival: 0.8 })
                .unwrap(),
        ]
    }

    fn plan(service: Service) -> Plan {
        let votes = service.votes().unwrap();
        Plan::new(service, clear(votes, service.classes), &Wanted::default()).unwrap()
    }

    #[test]
    fn the_recommendation_is_the_last_that_is_good() {
        let found = plan(service(50, 10, Family::Gaussian));
        let row = found.recommended.unwrap();
        let Setting::Gaussian { sigma } = row.setting else { panic!("{:?}", row.setting) };
        assert!((8.0..14.0).contains(&value(sigma)) && row.loss() <= 0.02, "{row:?}");
        assert!((70..200).contains(&row.attempts.unwrap()), "{row:?}");
        let next = step(nearest_step(value(sigma)) + 1);
        let wanted = Wanted { amounts: vec![next], ..Wanted::default() };
        let worse = Plan::new(found.service, found.profiles.clone(), &wanted).unwrap();
        assert!(
            worse
                .rows
                .iter()
                .any(|row| row.setting == Setting::Gaussian { sigma: next } && row.loss() > 0.02)
        );
        assert_eq!(worse.recommended.map(|row| row.setting), Some(row.setting));
    }

    #[test]
    fn software_noise_halves_the_answers_for_the_same_loss() {
        let one = plan(service(100, 10, Family::Gaussian)).recommended.unwrap();
        let software = Service { noise: NoiseMaker::Software, ..service(100, 10, Family::Gaussian) };
        let two = plan(software).recommended.unwrap();
        let ratio = one.answers().unwrap() / two.answers().unwrap();
        assert!((1.7..2.4).contains(&ratio), "{ratio}");
    }

    #[test]
    fn software_that_steps_in_costs_right_answers_and_no_budget() {
        let found = plan(service(50, 10, Family::Gaussian));
        let one = found.recommended.clone().unwrap();
        let two = found.drawn_by(NoiseMaker::Software, one.setting).unwrap();
        assert_eq!((two.price, two.attempts, two.epsilon), (one.price, one.attempts, one.epsilon));
        assert!(two.loss() > one.loss() + 0.005, "{} {}", two.loss(), one.loss());
        assert_eq!(found.drawn_by(NoiseMaker::Enclave, one.setting).unwrap(), one);
        // Two draws are one of √2 times the deviation.
        let Setting::Gaussian { sigma } = one.setting else { panic!("{one:?}") };
        let wide = format!("{:.3}", value(sigma) * 2_f64.sqrt()).parse().unwrap();
        let wide = found.drawn_by(NoiseMaker::Enclave, Setting::Gaussian { sigma: wide }).unwrap();
        assert!((wide.loss() - two.loss()).abs() < 1e-3, "{} {}", wide.loss(), two.loss());
    }

    #[test]
    fn four_owners_get_next_to_nothing() {
        let found = plan(service(4, 2, Family::Gaussian));
        let answers = found.recommended.map_or(0.0, |row| row.answers().unwrap());
        assert!(answers < 5.0, "{answers}");
        let paying = found.paying.unwrap();
        assert!(paying.attempts.unwrap() >= 50 && paying.outlooks[0].accuracy.unwrap() < 0.65, "{paying:?}");
    }

    #[test]
    fn rows_rise_in_noise_and_answers_and_fall_in_quality() {
        for family in [Family::Gaussian, Family::Laplace] {
            let rows = plan(service(50, 10, family)).rows;
            assert!(rows.len() >= SHARES.len(), "{family:?}: {} rows", rows.len());
            for pair in rows.windows(2) {
                assert!(pair[0].attempts <= pair[1].attempts, "{pair:?}");
                assert!(pair[0].outlooks[0].agreement >= pair[1].outlooks[0].agreement - 1e-9, "{pair:?}");
            }
        }
    }

    #[test]
    fn a_confident_release_answers_most_and_tells_less_often_wrong() {
        let found = plan(service(50, 10, Family::Confident));
        let row = found.recommended.unwrap();
        let outlook = row.outlooks[0];
        assert!(
            outlook.answered >= ANSWERED_MIN && outlook.answered < 1.0 && outlook.loss <= 0.02,
            "{row:?}"
        );
        assert!(row.answers().unwrap() < row.attempts.unwrap() as f64);
        let fixed = Wanted { threshold: Some(40), ..Wanted::default() };
        let fixed = Plan::new(found.service, found.profiles, &fixed).unwrap();
        let thresholds = fixed.rows.iter().map(|row| row.setting);
        assert!(
            thresholds.filter(|setting| matches!(setting, Setting::Confident { threshold: 40, .. })).count()
                >= 10
        );
    }

    #[test]
    fn nothing_limits_an_exact_release() {
        let found = plan(service(4, 2, Family::Exact));
        assert_eq!(
            (found.rows.len(), found.rows[0].attempts, found.recommended, found.paying),
            (1, None, None, None)
        );
        assert_eq!(found.rows[0].outlooks[0].agreement, 1.0);
    }

    #[test]
    fn a_profile_of_another_size_is_refused() {
        let error =
            Plan::new(service(50, 10, Family::Gaussian), clear(20, 10), &Wanted::default()).unwrap_err();
        assert!(error.to_string().contains("--votes 20"), "{error}");
    }
}

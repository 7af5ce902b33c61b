//! Runs `MetricDataQueries`: stored metrics first, then the expressions over them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{
    Store,
    math::{self, Expression, MathError, Scope, Series, Value},
    store::Statistic,
};
use crate::world::alarm::{MetricQuery, MetricStat, QuerySource};

/// Why a list of queries makes no sense, or one of them has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Two queries of one name.
    #[error("the Id {id} is used twice")]
    DuplicateId {
        /// The Id.
        id: String,
    },
    /// Not `[a-z][a-zA-Z0-9_]*`.
    #[error(
        "the Id {id:?} must start with a lower-case letter and hold only letters, digits and underscores"
    )]
    BadId {
        /// The Id.
        id: String,
    },
    /// Expressions that need each other.
    #[error("the expression of {id} refers to itself, directly or through others")]
    Cycle {
        /// One of them.
        id: String,
    },
    /// A statistic that is not known here.
    #[error(
        "the statistic {stat} is not supported: use SampleCount, Average, Sum, Minimum, Maximum or pNN.NN"
    )]
    Statistic {
        /// Its name.
        stat: String,
    },
    /// An expression cannot be read or computed.
    #[error("error in the expression of {id}")]
    Math {
        /// The query.
        id: String,
        /// What is wrong with it.
        #[source]
        source: MathError,
    },
}

/// The stretch of API time that the queries look at.
#[derive(Clone, Copy, Debug)]
pub enum Window {
    /// From the period that holds `start` to the last one that starts before `end`; periods are
    /// aligned to multiples of their length.
    Aligned {
        /// API second, inclusive.
        start: i64,
        /// API second, exclusive.
        end: i64,
    },
    /// The last `count` whole periods before `end`, aligned to `end`: what an alarm looks at.
    Last {
        /// API second, exclusive.
        end: i64,
        /// Number of periods.
        count: i64,
    },
}

impl Window {
    /// The API seconds that it covers for this period.
    pub fn span(self, period_secs: u32) -> Range<i64> {
        let period = i64::from(period_secs.max(1));
        match self {
            Self::Aligned { start, end } => {
                let back = end.rem_euclid(period);
                let end = if back == 0 { end } else { end - back + period };
                start - start.rem_euclid(period)..end
            }
            Self::Last { end, count } => end - count * period..end,
        }
    }
}

/// The order in which queries can be computed, expressions parsed.
struct Plan<'a> {
    stats: Vec<(&'a str, &'a MetricStat)>,
    expressions: Vec<(&'a str, Expression)>,
}

impl<'a> Plan<'a> {
    fn new(queries: &'a [MetricQuery]) -> Result<Self, QueryError> {
        let mut plan = Self { stats: Vec::new(), expressions: Vec::new() };
        let mut ids = BTreeSet::new();
        let mut waiting = Vec::new();
        for query in queries {
            let id = query.id.as_str();
            let starts_small = id.starts_with(|first: char| first.is_ascii_lowercase());
            if !starts_small || !id.chars().all(|next| next.is_ascii_alphanumeric() || next == '_') {
                return Err(QueryError::BadId { id: query.id.clone() });
            }
            if !ids.insert(id) {
                return Err(QueryError::DuplicateId { id: query.id.clone() });
            }
            match &query.source {
                QuerySource::Stat(stat) => plan.stats.push((id, stat)),
                QuerySource::Expression { text, .. } => {
                    let source = Expression::parse(text);
                    let expression =
                        source.map_err(|source| QueryError::Math { id: id.to_owned(), source })?;
                    let mut needs = BTreeSet::new();
                    expression.refers_to(&mut needs);
                    waiting.push((id, expression, needs));
                }
            }
        }
        for (id, _, needs) in &waiting {
            if let Some(absent) = needs.iter().find(|need| !ids.contains(need.as_str())) {
                let source = MathError::UnknownId { id: absent.clone() };
                return Err(QueryError::Math { id: (*id).to_owned(), source });
            }
        }
        let mut known: BTreeSet<&str> = plan.stats.iter().map(|(id, _)| *id).collect();
        while !waiting.is_empty() {
            let ready = waiting
                .iter()
                .position(|(_, _, needs)| needs.iter().all(|need| known.contains(need.as_str())));
            let Some(ready) = ready else {
                return Err(QueryError::Cycle { id: waiting[0].0.to_owned() });
            };
            let (id, expression, _) = waiting.remove(ready);
            known.insert(id);
            plan.expressions.push((id, expression));
        }
        Ok(plan)
    }
}

/// The value of every query by its Id.
pub fn run(
    store: &Store,
    queries: &[MetricQuery],
    window: Window,
) -> Result<BTreeMap<String, Value>, QueryError> {
    let plan = Plan::new(queries)?;
    let mut values = BTreeMap::new();
    for (id, stat) in &plan.stats {
        values.insert((*id).to_owned(), Value::Series(series(store, stat, window)?));
    }
    let metrics: Vec<String> = plan.stats.iter().map(|(id, _)| (*id).to_owned()).collect();
    for (id, expression) in &plan.expressions {
        let value =
            math::evaluate(expression, &Scope { values: &values, metrics: &metrics, tempo: store.tempo() });
        let value = value.map_err(|source| QueryError::Math { id: (*id).to_owned(), source })?;
        values.insert((*id).to_owned(), value);
    }
    Ok(values)
}

/// One metric's statistic per period.
pub fn series(store: &Store, stat: &MetricStat, window: Window) -> Result<Series, QueryError> {
    let statistic =
        Statistic::parse(&stat.stat).ok_or_else(|| QueryError::Statistic { stat: stat.stat.clone() })?;
    let span = window.span(stat.period_secs);
    let with_distribution = matches!(statistic, Statistic::Percentile(_));
    let points = store
        .periods(stat, span.clone(), with_distribution)
        .iter()
        .filter_map(|(at, slot)| Some((*at, slot.statistic(statistic)?)))
        .collect();
    Ok(Series { period: i64::from(stat.period_secs), span, points })
}

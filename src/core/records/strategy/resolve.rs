//! From a strategy as written to the steps that a release carries out.

use super::{AllAtOnce, Canary, Linear, Pause, Scale, Step, StepSpec, Strategy};
use crate::records::check::{MAX_STEPS, Refusal, RefusalCode};
use crate::records::managed_service::ManagedServiceSpec;
use crate::records::units::{Percent, Span};

/// Names that begin so are CodeDeploy's.
pub const PREDEFINED_PREFIX: &str = "CodeDeployDefault.";

/// CodeDeploy's configurations for ECS (`aws-facts.md` §5): name and, but for all at once, the share and
/// minutes of a canary or of each linear step.
const PREDEFINED: [(&str, Predefined); 5] = [
    ("CodeDeployDefault.ECSAllAtOnce", Predefined::AllAtOnce),
    ("CodeDeployDefault.ECSCanary10Percent15Minutes", Predefined::Canary10(15)),
    ("CodeDeployDefault.ECSCanary10Percent5Minutes", Predefined::Canary10(5)),
    ("CodeDeployDefault.ECSLinear10PercentEvery1Minutes", Predefined::Linear10(1)),
    ("CodeDeployDefault.ECSLinear10PercentEvery3Minutes", Predefined::Linear10(3)),
];

#[derive(Clone, Copy)]
enum Predefined {
    AllAtOnce,
    Canary10(u64),
    Linear10(u64),
}

impl Predefined {
    fn strategy(self) -> Strategy {
        let weight = Percent::TEN;
        match self {
            Self::AllAtOnce => Strategy { all_at_once: Some(AllAtOnce {}), ..Strategy::default() },
            Self::Canary10(minutes) => Strategy {
                canary: Some(Canary { weight, bake: Span::from_mins(minutes) }),
                ..Strategy::default()
            },
            Self::Linear10(minutes) => Strategy {
                linear: Some(Linear { weight, bake: Span::from_mins(minutes) }),
                ..Strategy::default()
            },
        }
    }
}

/// Whether this is one of CodeDeploy's five names for ECS.
pub fn is_predefined(name: &str) -> bool {
    predefined_names().any(|predefined| predefined == name)
}

/// CodeDeploy's five names for ECS.
pub fn predefined_names() -> impl Iterator<Item = &'static str> {
    PREDEFINED.iter().map(|(name, _)| *name)
}

/// The steps of the strategy `name`: one of the service's own, or a predefined one. The last step is always
/// a shift to 100 % that bakes for `spec.bake`.
///
/// `allAtOnce`, `canary`, `linear` and the predefined ones start the candidate at full scale, as CodeDeploy
/// and ECS do; only `steps` can save capacity.
pub fn steps_of(name: &str, spec: &ManagedServiceSpec) -> Result<Vec<Step>, Refusal> {
    let field = format!("spec.strategies.{name}");
    if let Some(own) = spec.strategies.get(name) {
        return resolve(own, &field, spec.bake);
    }
    match PREDEFINED.iter().find(|(predefined, _)| *predefined == name) {
        Some((_, predefined)) => resolve(&predefined.strategy(), &field, spec.bake),
        None => Err(Refusal::new(
            RefusalCode::StrategyNotAllowed,
            "spec.strategy",
            format_args!("\"{name}\""),
            known_names(spec),
            "name a strategy that exists",
        )),
    }
}

/// Every name that a service's strategies can be called by, for people.
pub(crate) fn known_names(spec: &ManagedServiceSpec) -> String {
    let mut names: Vec<&str> = spec.strategies.keys().map(String::as_str).collect();
    names.extend(PREDEFINED.iter().map(|(name, _)| *name));
    names.join(", ")
}

/// The steps of one strategy as written; `field` is where it stands, `last_bake` the bake at 100 %.
pub(crate) fn resolve(written: &Strategy, field: &str, last_bake: Span) -> Result<Vec<Step>, Refusal> {
    let forms = [
        written.all_at_once.is_some(),
        written.canary.is_some(),
        written.linear.is_some(),
        written.steps.is_some(),
    ];
    let count = forms.iter().filter(|given| **given).count();
    if count != 1 {
        return Err(Refusal::new(
            RefusalCode::Inconsistent,
            field,
            format_args!("{count} forms"),
            "exactly one of allAtOnce, canary, linear and steps",
            if count == 0 {
                "add one; allAtOnce: {} is the shortest"
            } else {
                "make several strategies of it"
            },
        ));
    }
    let mut steps = Vec::new();
    if let Some(canary) = &written.canary {
        let at = format!("{field}.canary");
        check_share(&format!("{at}.weight"), canary.weight)?;
        check_bake(&format!("{at}.bake"), canary.bake)?;
        steps.push(Step::Shift { weight: canary.weight, scale: Percent::FULL, bake: canary.bake });
    } else if let Some(linear) = &written.linear {
        steps = linear_steps(linear, &format!("{field}.linear"))?;
    } else if let Some(list) = &written.steps {
        steps = listed_steps(list, &format!("{field}.steps"))?;
    }
    steps.push(Step::Shift { weight: Percent::FULL, scale: Percent::FULL, bake: last_bake });
    Ok(steps)
}

/// ECS's own smallest linear step is 3 % (`aws-facts.md` §6); it makes 34 steps.
fn linear_steps(linear: &Linear, field: &str) -> Result<Vec<Step>, Refusal> {
    check_share(&format!("{field}.weight"), linear.weight)?;
    check_bake(&format!("{field}.bake"), linear.bake)?;
    if linear.weight < Percent::LEAST_LINEAR {
        return Err(Refusal::new(
            RefusalCode::OutOfBounds,
            format!("{field}.weight"),
            linear.weight,
            format!("{} to 99.9", Percent::LEAST_LINEAR),
            "take larger steps, or begin with small ones in a list of steps",
        ));
    }
    let shares = (1..).map_while(|nth: u16| Percent::from_tenths(linear.weight.tenths().checked_mul(nth)?));
    Ok(shares
        .take_while(|share| *share < Percent::FULL)
        .map(|weight| Step::Shift { weight, scale: Percent::FULL, bake: linear.bake })
        .collect())
}

fn listed_steps(list: &[StepSpec], field: &str) -> Result<Vec<Step>, Refusal> {
    if list.is_empty() || list.len() > MAX_STEPS {
        return Err(Refusal::new(
            RefusalCode::OutOfBounds,
            field,
            format_args!("{} steps", list.len()),
            format!("1 to {MAX_STEPS} steps; 100 % follows by itself"),
            if list.is_empty() { "use allAtOnce: {}" } else { "take larger steps" },
        ));
    }
    // How far the steps before have come: neither share nor scale ever goes down.
    let (mut reached, mut scaled) = (Percent::ZERO, Percent::ZERO);
    let mut steps = Vec::with_capacity(list.len() + 1);
    for (index, written) in list.iter().enumerate() {
        let at = format!("{field}[{index}]");
        let step = match &written.pause {
            Some(pause) => pause_step(written, *pause, &at)?,
            None => shift_step(written, &at, reached, scaled)?,
        };
        if let Step::Shift { weight, scale, .. } = step {
            (reached, scaled) = (weight, scale);
        }
        steps.push(step);
    }
    Ok(steps)
}

fn pause_step(written: &StepSpec, pause: Pause, at: &str) -> Result<Step, Refusal> {
    if written.weight.is_some() || written.scale.is_some() || written.bake.is_some() {
        return Err(Refusal::new(
            RefusalCode::Inconsistent,
            at,
            "a pause together with weight, scale or bake",
            "a step that either shifts or pauses",
            "make two steps of it",
        ));
    }
    let longest = Span::from_mins(14 * 24 * 60);
    if pause.timeout == Span::ZERO || pause.timeout > longest {
        return Err(Refusal::new(
            RefusalCode::OutOfBounds,
            format!("{at}.pause.timeout"),
            pause.timeout,
            format!("more than 0s, at most {longest}"),
            "choose a time within these bounds",
        ));
    }
    Ok(Step::Pause(pause))
}

fn shift_step(written: &StepSpec, at: &str, reached: Percent, scaled: Percent) -> Result<Step, Refusal> {
    let missing = |part: &str| {
        let field = format!("{at}.{part}");
        let allowed = "a step with weight and bake, or with pause";
        Refusal::new(RefusalCode::Inconsistent, field, "missing", allowed, "add it")
    };
    let weight = written.weight.ok_or_else(|| missing("weight"))?;
    let bake = written.bake.ok_or_else(|| missing("bake"))?;
    check_share(&format!("{at}.weight"), weight)?;
    check_bake(&format!("{at}.bake"), bake)?;
    if weight < reached {
        return Err(Refusal::new(
            RefusalCode::Inconsistent,
            format!("{at}.weight"),
            weight,
            format!("at least {reached}, the weight of the step before"),
            "order the steps by weight",
        ));
    }
    let scale = match written.scale {
        None | Some(Scale::Follow(_)) => weight.max(scaled),
        Some(Scale::Fixed(scale)) if scale < weight || scale < scaled => {
            return Err(Refusal::new(
                RefusalCode::Inconsistent,
                format!("{at}.scale"),
                scale,
                format!(
                    "at least {}: the step's weight, and the scale of the step before",
                    weight.max(scaled)
                ),
                "raise it, or write follow",
            ));
        }
        Some(Scale::Fixed(scale)) => scale,
    };
    Ok(Step::Shift { weight, scale, bake })
}

fn check_share(field: &str, weight: Percent) -> Result<(), Refusal> {
    if weight > Percent::ZERO && weight < Percent::FULL {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::OutOfBounds,
        field,
        weight,
        "more than 0 and less than 100, with at most one decimal",
        if weight == Percent::ZERO {
            "the candidate is on the test route before its first weight; give the step a share"
        } else {
            "leave the step out: 100 % is always the last step; for nothing else write allAtOnce: {}"
        },
    ))
}

/// ECS bakes a step for up to 24 hours, CodeDeploy shifts for up to 48 (`aws-facts.md` §5, §6).
fn check_bake(field: &str, bake: Span) -> Result<(), Refusal> {
    let longest = Span::from_mins(48 * 60);
    if bake <= longest {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalCode::OutOfBounds,
        field,
        bake,
        format!("0s to {longest}"),
        "shorten it, or add a pause",
    ))
}

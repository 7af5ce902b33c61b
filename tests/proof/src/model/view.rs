//! The world as a turn reads it: the compact world, written out as the adapters would.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use pointsman_core::model::effect::Shares;
use pointsman_core::model::observed::{
    Alarm, AlarmState, Extra, ForwardAction, LoadBalancer, Observed, Preflight, Service, ServiceStatus,
    Targets, TaskDefinition, TaskSet, TaskSetStatus, Weights,
};
use pointsman_core::model::{Need, Plan, Revision, Seen};
use pointsman_core::records::{Group, Percent, Span};

use super::plan::{group_arn, load_balancer_arn, rule_arn};
use super::state::Sight;
use super::world::{DESIRED, SETS, Set, World};

/// What one turn can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    sets: [Option<Set>; SETS],
    production: u16,
    test: Option<u16>,
    flips: u8,
    /// Every task set that does not leave says `STEADY_STATE`, as it did before it changed (`aws-facts.md` §1.7).
    old_status: bool,
    sight: Sight,
}

/// The weights that give group b this share.
pub fn shares(share_of_b: u16) -> Shares {
    Shares::giving(Group::B, Percent::from_tenths(share_of_b).unwrap_or(Percent::FULL))
}

impl View {
    /// What of this world can be seen.
    pub fn of(world: &World, sight: Sight) -> Self {
        let production = if sight == Sight::Stale { world.before } else { world.production };
        // A stale read shows old weights and an old stability, and is otherwise like any other.
        let old_status = sight == Sight::Stale && world.is_settling();
        let sight = if sight == Sight::Stale { Sight::Clear } else { sight };
        let mut sets = world.sets;
        for set in sets.iter_mut().flatten() {
            // Known to the model alone.
            set.sick = false;
        }
        Self { sets, production, test: world.test, flips: world.flips, old_status, sight }
    }

    /// What the adapters would hand to `decide`.
    pub fn observed(&self, plan: Option<&Plan>, needs: &BTreeSet<Need>) -> Observed {
        let unread = || "throttled".to_owned();
        let Some(plan) = plan else {
            return Observed {
                service: Seen::Unknown("no record says where to look".to_owned()),
                routes: BTreeMap::new(),
                alarms: BTreeMap::new(),
                extra: Extra::default(),
            };
        };
        let weights = |route: &str| match self.sight {
            Sight::NoRoutes => Seen::Unknown(unread()),
            _ => Seen::Known(Weights::Pair(self.weights(route))),
        };
        let routes = plan.routes().map(|route| (route.name.clone(), weights(&route.name))).collect();
        let alarm = match self.sight {
            Sight::NoAlarms => Seen::Unknown(unread()),
            _ => Seen::Known(self.alarm()),
        };
        let service = match self.sight {
            Sight::NoService => Seen::Unknown(unread()),
            _ => Seen::Known(self.service()),
        };
        let mut extra = Extra::default();
        for need in needs {
            self.read(need, plan, &mut extra);
        }
        let alarms = plan.spec.alarms.iter().map(|watched| (watched.name.clone(), alarm.clone())).collect();
        Observed { service, routes, alarms, extra }
    }

    /// For a seeded bug: the same, with this set running in this group whether it is there or not.
    pub fn pretend(arn: &str, group: Group, observed: &mut Observed) {
        let serial = super::world::serial_of(arn);
        let running = u8::try_from(DESIRED).unwrap_or(u8::MAX);
        let set = Set {
            serial,
            release: (0, 0),
            revision: 1,
            in_b: group == Group::B,
            scale: 1000,
            running,
            healthy: running,
            sick: false,
            proved: true,
            primary: true,
            draining: false,
        };
        if let Seen::Known(service) = &mut observed.service {
            service.task_sets.retain(|known| known.arn != arn);
            service.task_sets.push(task_set(set, false));
        }
        let healthy = Targets { healthy: DESIRED, ..Targets::default() };
        observed.extra.targets.insert(group, Seen::Known(healthy));
    }

    fn weights(&self, route: &str) -> Shares {
        shares(if route == "public" { self.production } else { self.test.unwrap_or_default() })
    }

    fn alarm(&self) -> Alarm {
        Alarm {
            state: if self.flips % 2 == 1 { AlarmState::Alarm } else { AlarmState::Ok },
            transitioned_at: Some(changed_at(self.flips)),
            range: Span::ZERO,
            needs_missing_data: false,
        }
    }

    fn service(&self) -> Service {
        Service {
            status: ServiceStatus::Active,
            external: true,
            desired_count: DESIRED,
            task_sets: self.sets.iter().flatten().map(|set| task_set(*set, self.old_status)).collect(),
        }
    }

    fn read(&self, need: &Need, plan: &Plan, extra: &mut Extra) {
        match need {
            Need::Preflight(revision) => extra.preflight = Some(Seen::Known(self.preflight(revision, plan))),
            Need::Targets(group) => {
                extra.targets.insert(*group, Seen::Known(self.targets(*group)));
            }
            Need::LoadBalancer => extra.load_balancer = Some(Seen::Known(self.load_balancer(plan))),
            Need::AlarmHistory(name, since) => {
                let changes = (1..=self.flips).filter(|flip| changed_at(*flip) > *since);
                let state = |flip: u8| {
                    let state = if flip % 2 == 1 { AlarmState::Alarm } else { AlarmState::Ok };
                    (changed_at(flip), state)
                };
                extra.alarm_history.insert(name.clone(), Seen::Known(changes.map(state).collect()));
            }
            Need::LastStop(..) => {}
        }
    }

    fn preflight(&self, _revision: &Revision, plan: &Plan) -> Preflight {
        let targets = [Group::A, Group::B].into_iter().map(|group| (group, self.targets(group))).collect();
        Preflight {
            task_definition: Some(TaskDefinition {
                active: true,
                awsvpc: false,
                containers: BTreeMap::from([("web".to_owned(), BTreeSet::from([8080]))]),
            }),
            load_balancer: self.load_balancer(plan),
            targets,
        }
    }

    fn targets(&self, group: Group) -> Targets {
        let mut counted = Targets::default();
        for set in self.sets.iter().flatten().filter(|set| set.in_b == (group == Group::B)) {
            // A task is a target once it runs; what is too much, or all of a set that is deleted, drains.
            let running = u32::from(set.running);
            let kept = running.min(set.computed());
            counted.healthy += u32::from(set.healthy);
            counted.initial += kept.saturating_sub(u32::from(set.healthy));
            counted.draining += running - kept;
        }
        counted
    }

    fn load_balancer(&self, plan: &Plan) -> LoadBalancer {
        let actions = plan.routes().map(|route| {
            let now = self.weights(&route.name);
            ForwardAction {
                owner: rule_arn(&route.name),
                load_balancer: load_balancer_arn(),
                groups: vec![(group_arn(false), now.a), (group_arn(true), now.b)],
                sticky: None,
                unknown_action: None,
                oidc: false,
            }
        });
        let mine = BTreeSet::from([load_balancer_arn()]);
        LoadBalancer {
            of_groups: [Group::A, Group::B].into_iter().map(|group| (group, mine.clone())).collect(),
            actions: actions.collect(),
        }
    }
}

fn task_set(set: Set, old_status: bool) -> TaskSet {
    let (computed, running) = (set.computed(), u32::from(set.running));
    TaskSet {
        arn: format!("ts-{}", set.serial),
        external_id: Some(format!("pm1/proof/U/{}.{}", set.release.0, set.release.1)),
        revision: Revision { family: "web".to_owned(), number: u32::from(set.revision) },
        status: match (set.draining, set.primary) {
            (true, _) => TaskSetStatus::Draining,
            (false, true) => TaskSetStatus::Primary,
            (false, false) => TaskSetStatus::Active,
        },
        group: Some(if set.in_b { Group::B } else { Group::A }),
        scale: Percent::from_tenths(set.scale).unwrap_or(Percent::FULL),
        computed,
        running,
        pending: computed.saturating_sub(running),
        steady: set.is_steady() || (old_status && !set.draining),
    }
}

/// When the alarm changed for the n-th time; 0: before everything.
pub fn changed_at(flip: u8) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(i64::from(flip))
}

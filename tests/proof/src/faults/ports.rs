//! The ports of one process: each call gets a number, and perhaps a fault.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use pointsman_core::model::effect::WayBack;
use pointsman_core::model::observed::{Alarm, Extra, Service, Weights};
use pointsman_core::model::{Action, Answer, Effect, Need, Observed, Plan, RefusalClass, Seen};
use pointsman_core::ports::{
    Cloud, EmergencyPermit, Permit, Remembered, StateWrite, Store, StoreError, Wishes,
};
use pointsman_core::records::{ServiceKey, Span};
use tokio::time::sleep;

use super::fault::{Fault, Op};
use super::log::{Reading, What};
use super::region::SmallRegion;
use super::world::{Signal, World, key, shares};
use super::{OPERATION, script};

/// What a read takes.
const READ: Span = Span::from_millis(5);
/// What a write takes, in each direction.
const WRITE: Span = Span::from_millis(10);
/// After so long a call finds out that the table cannot be reached: the time-out of one attempt.
const IN_VAIN: Span = Span::from_secs(3);

/// One process's view of the outside.
pub struct Ports {
    /// The one outside.
    pub world: Arc<World>,
    /// Which process.
    pub me: u32,
    /// Its epoch.
    pub epoch: u64,
}

/// A call under way.
struct Call {
    number: u32,
    fault: Option<Fault>,
}

impl Call {
    /// Nothing comes of a read or of a state write.
    fn fails(&self) -> bool {
        matches!(
            self.fault,
            Some(
                Fault::Unread
                    | Fault::UnreadFor(_)
                    | Fault::NotApplied
                    | Fault::Throttled
                    | Fault::EveryOtherFor(_)
            )
        )
    }
}

impl Ports {
    /// Begins a call: its number, the people's next step, and what befalls a call of any kind.
    async fn begin(&self, op: Op) -> Call {
        script::advance(&self.world);
        let (number, fault) = self.world.number(op);
        match fault {
            Some(Fault::CrashBefore) => self.die().await,
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Slow(secs)) => pause(secs).await,
            Some(Fault::TakeOver(_)) if !op.is_mutation() => self.frozen(fault).await,
            Some(Fault::SplitBrain) => self.world.signal(Signal::TakeOver { from: self.me, unseen: true }),
            _ => {}
        }
        if !op.is_mutation() {
            sleep(READ.std()).await;
        }
        Call { number, fault }
    }

    /// This process ends here; the runner drops it with everything that it remembers.
    async fn die(&self) -> ! {
        self.world.signal(Signal::Die(self.me));
        std::future::pending::<()>().await;
        unreachable!("a pending future never ends")
    }

    /// This process stands still while another one takes over.
    async fn frozen(&self, fault: Option<Fault>) {
        let Some(Fault::TakeOver(secs)) = fault else { return };
        self.world.signal(Signal::TakeOver { from: self.me, unseen: false });
        pause(secs).await;
        // At least until the other one has its lease.
        sleep(Span::from_millis(1).std()).await;
    }

    fn note(&self, call: &Call, what: What) {
        self.world.note(call.number, self.me, self.epoch, what);
    }

    /// A table read: `Err` when it fails.
    async fn table(&self, op: Op) -> Result<(), StoreError> {
        let call = self.begin(op).await;
        let cut_off = self.world.is_cut_off(self.me);
        if cut_off {
            sleep(IN_VAIN.std()).await;
        }
        let refuses = self.world.item_refuses(op);
        if cut_off || refuses || call.fails() {
            self.note(&call, What::Read(Reading::Failed(op)));
            return Err(unavailable("read"));
        }
        self.note(&call, What::Read(Reading::Other(op)));
        Ok(())
    }

    /// A read of the region; failed ones say why.
    async fn read<T>(
        &self,
        op: Op,
        look: impl FnOnce(&mut SmallRegion, Timestamp) -> T,
        tell: impl FnOnce(&T) -> Reading,
    ) -> Result<T, String> {
        let call = self.begin(op).await;
        if call.fails() {
            self.note(&call, What::Read(Reading::Failed(op)));
            return Err("no answer".to_owned());
        }
        let ago = if let Some(Fault::Stale(passes)) = call.fault { passes } else { 0 };
        let value = self.world.look(ago, look);
        self.note(&call, What::Read(tell(&value)));
        Ok(value)
    }

    async fn service(&self) -> Seen<Service> {
        let look = |region: &mut SmallRegion, now| region.service(now);
        let read = self.read(Op::Service, look, |service| Reading::Service(service.clone()));
        read.await.map_or_else(Seen::Unknown, Seen::Known)
    }

    async fn routes(&self, plan: &Plan) -> BTreeMap<String, Seen<Weights>> {
        let read = self.read(
            Op::Routes,
            |region: &mut SmallRegion, _| region.routes(plan),
            |seen| Reading::Routes(shares(seen)),
        );
        match read.await {
            Ok(routes) => routes,
            Err(why) => plan.routes().map(|it| (it.name.clone(), Seen::Unknown(why.clone()))).collect(),
        }
    }

    async fn alarms(&self, plan: &Plan) -> BTreeMap<String, Seen<Alarm>> {
        let known = |seen: &BTreeMap<String, Seen<Alarm>>| {
            let states = seen.iter().filter_map(|(name, seen)| Some((name.clone(), seen.known()?.state)));
            Reading::Alarms(states.collect())
        };
        let read = self.read(Op::Alarms, |region: &mut SmallRegion, _| region.alarms(plan), known);
        match read.await {
            Ok(alarms) => alarms,
            Err(why) => {
                let names = plan.spec.alarms.iter().map(|alarm| alarm.name.clone());
                names.map(|name| (name, Seen::Unknown(why.clone()))).collect()
            }
        }
    }

    async fn extra(&self, plan: &Plan, needs: &BTreeSet<Need>) -> Extra {
        let mut extra = Extra::default();
        for need in needs {
            let op = match need {
                Need::Preflight(_) => Op::Preflight,
                Need::Targets(_) => Op::Targets,
                Need::LoadBalancer => Op::Balancer,
                Need::AlarmHistory(..) => Op::History,
                Need::LastStop(..) => Op::LastStop,
            };
            let look = |region: &mut SmallRegion, now| {
                let mut one = Extra::default();
                region.read_need(now, need, &mut one);
                one
            };
            match self.read(op, look, |extra| reading_of(plan, need, extra)).await {
                Ok(more) => merge(&mut extra, more),
                Err(why) => unread(&mut extra, need, &why),
            }
        }
        extra
    }
}

fn reading_of(plan: &Plan, need: &Need, extra: &Extra) -> Reading {
    match need {
        Need::Targets(group) => match extra.targets.get(group) {
            Some(Seen::Known(targets)) => Reading::Targets(*group, targets.healthy, targets.total()),
            _ => Reading::Failed(Op::Targets),
        },
        Need::LoadBalancer => match &extra.load_balancer {
            Some(Seen::Known(read)) => {
                let groups = &plan.spec.target_groups;
                let most = super::region::GROUPS.into_iter().map(|group| {
                    let all = read.actions.iter().flat_map(|action| &action.groups);
                    let mine = all.filter(|(arn, _)| arn == groups.of(group).as_str());
                    (group, mine.map(|(_, weight)| *weight).max().unwrap_or(0))
                });
                Reading::Balancer(most.collect())
            }
            _ => Reading::Failed(Op::Balancer),
        },
        Need::AlarmHistory(name, _) => match extra.alarm_history.get(name) {
            Some(Seen::Known(states)) => {
                Reading::History(name.clone(), states.iter().map(|(_, state)| *state).collect())
            }
            _ => Reading::Failed(Op::History),
        },
        Need::Preflight(_) => Reading::Other(Op::Preflight),
        Need::LastStop(..) => Reading::Other(Op::LastStop),
    }
}

fn merge(extra: &mut Extra, more: Extra) {
    extra.preflight = more.preflight.or(extra.preflight.take());
    extra.load_balancer = more.load_balancer.or(extra.load_balancer.take());
    extra.targets.extend(more.targets);
    extra.alarm_history.extend(more.alarm_history);
    extra.last_stop.extend(more.last_stop);
}

fn unread(extra: &mut Extra, need: &Need, why: &str) {
    let why = why.to_owned();
    match need {
        Need::Preflight(_) => extra.preflight = Some(Seen::Unknown(why)),
        Need::LoadBalancer => extra.load_balancer = Some(Seen::Unknown(why)),
        Need::Targets(group) => drop(extra.targets.insert(*group, Seen::Unknown(why))),
        Need::AlarmHistory(name, _) => drop(extra.alarm_history.insert(name.clone(), Seen::Unknown(why))),
        Need::LastStop(arn, _) => drop(extra.last_stop.insert(arn.clone(), Seen::Unknown(why))),
    }
}

async fn pause(secs: u64) {
    sleep(Span::from_secs(secs).std()).await;
}

fn unavailable(action: &'static str) -> StoreError {
    let source = Box::new(std::io::Error::other("no answer"));
    StoreError::Unavailable { action, retry: true, source }
}

#[async_trait]
impl Cloud for Ports {
    async fn observe(&self, plan: &Plan, needs: &BTreeSet<Need>) -> Observed {
        self.world.begin_pass();
        let service = self.service().await;
        let routes = self.routes(plan).await;
        let alarms = self.alarms(plan).await;
        let extra = self.extra(plan, needs).await;
        Observed { service, routes, alarms, extra }
    }

    async fn carry_out(&self, plan: &Plan, action: &Action, permit: &Permit) -> Answer {
        let call = self.begin(Op::Effect).await;
        if !permit.allows(OPERATION.millis()) {
            return refused(RefusalClass::NoLease);
        }
        if let Some(answer) = self.world.objection(plan, &action.effect) {
            return answer;
        }
        self.note(&call, What::Sent(action.clone()));
        self.send(&call, plan, action).await
    }

    async fn take_back(&self, plan: &Plan, back: &WayBack, permit: &EmergencyPermit) -> Answer {
        let (route, shares, expect) = (back.route().to_owned(), back.shares(), Some(back.expect()));
        let action = Action { effect: Effect::SetWeights { route, shares, expect }, rollback: true };
        let call = self.begin(Op::TakeBack).await;
        if !permit.stands() {
            return refused(RefusalClass::NoLease);
        }
        if let Some(answer) = self.world.objection(plan, &action.effect) {
            return answer;
        }
        self.note(&call, What::SentWithoutLease(action.clone()));
        self.send(&call, plan, &action).await
    }
}

fn refused(class: RefusalClass) -> Answer {
    Answer::Refused { class, message: "refused by a fault".to_owned() }
}

fn lost() -> Answer {
    Answer::Unknown { message: "no answer in time".to_owned() }
}

impl Ports {
    /// A mutating call that may be sent, and what befalls it.
    async fn send(&self, call: &Call, plan: &Plan, action: &Action) -> Answer {
        let answer = match call.fault {
            Some(Fault::Throttled | Fault::ThrottledFor(_)) => refused(RefusalClass::Throttled),
            Some(Fault::Conflict) => refused(RefusalClass::Conflict),
            Some(Fault::Denied) => refused(RefusalClass::Denied),
            Some(Fault::NotApplied) => lost(),
            Some(Fault::Late(secs)) => {
                self.later(call, plan, action, secs);
                pause(OPERATION.millis() / 1_000).await;
                lost()
            }
            Some(Fault::CrashLate(secs)) => {
                self.later(call, plan, action, secs);
                self.die().await
            }
            fault => {
                self.frozen(fault).await;
                sleep(WRITE.std()).await;
                let answer = self.world.land(call.number, self.me, self.epoch, plan, action);
                sleep(WRITE.std()).await;
                match fault {
                    Some(Fault::CrashAfter) => self.die().await,
                    Some(Fault::LoseAnswer) => lost(),
                    Some(Fault::Duplicate(secs)) => {
                        self.later(call, plan, action, secs);
                        answer
                    }
                    _ => answer,
                }
            }
        };
        self.note(call, What::Answered(action.effect.clone(), answer.clone()));
        answer
    }

    /// The table cannot be reached, or the item refuses.
    async fn write_in_vain(&self, call: &Call, answer_after: Span) -> StoreError {
        match call.fault {
            Some(Fault::CrashAfter | Fault::CrashLate(_)) => self.die().await,
            fault => self.frozen(fault).await,
        }
        sleep(answer_after.std()).await;
        self.note(call, What::Befell(Op::Write, Fault::NotApplied));
        unavailable("write")
    }

    /// The effect is on its way, whatever becomes of this process.
    fn later(&self, call: &Call, plan: &Plan, action: &Action, secs: u64) {
        let (world, me, epoch, number) = (Arc::clone(&self.world), self.me, self.epoch, call.number);
        let (plan, action) = (plan.clone(), action.clone());
        world.inner().on_their_way += 1;
        tokio::spawn(async move {
            pause(secs).await;
            world.land(number, me, epoch, &plan, &action);
            world.inner().on_their_way -= 1;
        });
    }

    fn write_later(&self, call: &Call, write: StateWrite, secs: u64) {
        let (world, me, epoch, number) = (Arc::clone(&self.world), self.me, self.epoch, call.number);
        world.inner().on_their_way += 1;
        tokio::spawn(async move {
            pause(secs).await;
            // Its condition may fail by now, as it should.
            let _landed = world.land_write(number, me, epoch, &write);
            world.inner().on_their_way -= 1;
        });
    }
}

#[async_trait]
impl Store for Ports {
    async fn list(&self) -> Result<BTreeSet<ServiceKey>, StoreError> {
        self.table(Op::List).await?;
        Ok(BTreeSet::from([key()]))
    }

    async fn wishes(&self, _: &ServiceKey) -> Result<Wishes, StoreError> {
        self.table(Op::Wishes).await?;
        let people = self.world.inner().base.people.clone();
        let commands = people.commands.into_iter().map(|(id, command)| (id, Ok(command))).collect();
        Ok(Wishes { service: people.service, desired: people.desired, commands })
    }

    async fn remembered(&self, _: &ServiceKey) -> Result<Option<Remembered>, StoreError> {
        self.table(Op::Remembered).await?;
        Ok(self.world.inner().base.state.clone().map(|(item, _)| item))
    }

    async fn write(&self, _: &ServiceKey, write: StateWrite, permit: &Permit) -> Result<u64, StoreError> {
        let call = self.begin(Op::Write).await;
        if !permit.allows(OPERATION.millis()) {
            return Err(StoreError::NoLease);
        }
        let written = self.write_state(&call, write).await;
        if let Err(error) = &written {
            let overtaken = matches!(error, StoreError::Conflict { .. });
            self.note(&call, What::Unwritten { overtaken });
        }
        written
    }
}

impl Ports {
    /// A state write that may be sent, and what befalls it.
    async fn write_state(&self, call: &Call, write: StateWrite) -> Result<u64, StoreError> {
        if self.world.is_cut_off(self.me) {
            return Err(self.write_in_vain(call, IN_VAIN).await);
        }
        if self.world.item_refuses(Op::Write) {
            return Err(self.write_in_vain(call, WRITE).await);
        }
        match call.fault {
            _ if call.fails() => Err(unavailable("write")),
            Some(Fault::Denied) => {
                let source = Box::new(std::io::Error::other("no permission"));
                Err(StoreError::Unavailable { action: "write", retry: false, source })
            }
            Some(Fault::Late(secs)) => {
                self.write_later(call, write, secs);
                Err(unavailable("write"))
            }
            Some(Fault::CrashLate(secs)) => {
                self.write_later(call, write, secs);
                self.die().await
            }
            fault => {
                self.frozen(fault).await;
                sleep(WRITE.std()).await;
                let landed = self.world.land_write(call.number, self.me, self.epoch, &write);
                sleep(WRITE.std()).await;
                match fault {
                    Some(Fault::CrashAfter) => self.die().await,
                    Some(Fault::LoseAnswer) => landed.and(Err(unavailable("write"))),
                    _ => landed,
                }
            }
        }
    }
}

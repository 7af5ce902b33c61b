//! What a pass knows before it looks at AWS: what people wrote, and what this process or the table remembers.

use super::memory::{Memory, Slot};
use super::reconcile::Reconciler;
use super::response::Call;
use super::trouble::{ReconcileError, store};
use crate::ports::{Permit, Wishes};
use crate::records::ServiceKey;

impl Reconciler {
    /// What people wrote. While that cannot be read and a release is in flight: what was read last, and the error. Then
    /// nothing is done but to bring traffic back, which needs nobody's wish.
    pub(super) async fn wishes(
        &self,
        key: &ServiceKey,
        slot: &mut Slot,
    ) -> Result<(Wishes, Option<ReconcileError>), ReconcileError> {
        match self.store.wishes(key).await.map_err(store(Call::ReadRecords)) {
            Ok(wishes) => {
                slot.wishes = slot.in_flight().then(|| wishes.clone());
                Ok((wishes, None))
            }
            Err(error) => match slot.wishes.clone().filter(|_| slot.in_flight()) {
                Some(wishes) => Ok((wishes, Some(error))),
                None => Err(error),
            },
        }
    }

    /// What is known of the service; none: nothing, and nothing is asked.
    pub(super) async fn memory(
        &self,
        key: &ServiceKey,
        slot: &mut Slot,
        permit: &Permit,
        nothing_asked: bool,
    ) -> Result<Option<Box<Memory>>, ReconcileError> {
        if let Some(memory) = slot.memory.take_if(|memory| !memory.doubtful) {
            return Ok(Some(memory));
        }
        let recalled = self.recall(key).await?;
        let doubted = slot.memory.take();
        if recalled.is_none() && nothing_asked {
            return Ok(None);
        }
        let recalled = recalled.unwrap_or_else(Memory::of_a_new_service);
        if let Some(mut memory) = doubted.filter(|memory| memory.rev == recalled.rev) {
            memory.doubtful = false;
            return Ok(Some(memory));
        }
        let mut memory = Box::new(recalled);
        Box::pin(self.record_emergency(key, slot, &mut memory, permit)).await?;
        slot.know(&memory.facts);
        Ok(Some(memory))
    }

    async fn recall(&self, key: &ServiceKey) -> Result<Option<Memory>, ReconcileError> {
        let remembered = self.store.remembered(key).await.map_err(store(Call::ReadState))?;
        Ok(remembered.map(|remembered| Memory::recalled(remembered, self.clock.monotonic_ms())))
    }
}

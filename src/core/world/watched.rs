//! A map that knows which of its items were touched and when each has something due, so that a change of
//! a large region costs in proportion to what changed.
//!
//! Reading goes through to the map; whoever takes an item for writing touches it. The owner looks at the
//! touched items and plans each anew: the plans are a function of the items, never a second truth.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Deref};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::wire::pairs;

#[cfg(test)]
thread_local! {
    /// Items that were taken for writing or looked at by this thread's test.
    pub(super) static LOOKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
fn count_look() {
    LOOKS.set(LOOKS.get() + 1);
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(
    serialize = "K: Serialize, V: Serialize",
    deserialize = "K: Deserialize<'de>, V: Deserialize<'de>"
))]
pub(super) struct Watched<K: Ord, V> {
    #[serde(with = "pairs")]
    items: BTreeMap<K, V>,
    touched: BTreeSet<K>,
    due: BTreeSet<(Timestamp, K)>,
    #[serde(with = "pairs")]
    due_of: BTreeMap<K, Timestamp>,
}

impl<K: Ord, V> Default for Watched<K, V> {
    fn default() -> Self {
        Self {
            items: BTreeMap::new(),
            touched: BTreeSet::new(),
            due: BTreeSet::new(),
            due_of: BTreeMap::new(),
        }
    }
}

impl<K: Ord, V> Deref for Watched<K, V> {
    type Target = BTreeMap<K, V>;

    fn deref(&self) -> &Self::Target {
        &self.items
    }
}

impl<K: Ord + Clone, V> Watched<K, V> {
    /// An item for writing.
    pub(super) fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Ord + ToOwned<Owned = K> + ?Sized,
    {
        #[cfg(test)]
        count_look();
        let item = self.items.get_mut(key)?;
        if !self.touched.contains(key) {
            self.touched.insert(key.to_owned());
        }
        Some(item)
    }

    /// An item for a change that alters neither when something is due nor what others see of it.
    pub(super) fn get_untouched<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        #[cfg(test)]
        count_look();
        self.items.get_mut(key)
    }

    pub(super) fn insert(&mut self, key: K, item: V) {
        self.touched.insert(key.clone());
        self.items.insert(key, item);
    }

    /// Takes an item away, and its plan with it. Those who depend on it learn of it by the touch.
    pub(super) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Ord + ToOwned<Owned = K> + ?Sized,
    {
        let item = self.items.remove(key)?;
        self.touched.insert(key.to_owned());
        self.plan(&key.to_owned(), None);
        Some(item)
    }

    /// Marks an item as touched, because something that it depends on changed.
    pub(super) fn touch(&mut self, key: &K) {
        self.touched.insert(key.clone());
    }

    /// The first touched item after `last`, or the first of all; it is touched no longer.
    pub(super) fn take_touched_after(&mut self, last: Option<&K>) -> Option<K> {
        let after = last.map_or(Bound::Unbounded, Bound::Excluded);
        let key = self.touched.range((after, Bound::Unbounded)).next()?.clone();
        self.touched.remove(&key);
        #[cfg(test)]
        count_look();
        Some(key)
    }

    pub(super) fn has_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Says when an item has something due.
    pub(super) fn plan(&mut self, key: &K, due: Option<Timestamp>) {
        let before = match due {
            Some(at) => self.due_of.insert(key.clone(), at),
            None => self.due_of.remove(key),
        };
        if before == due {
            return;
        }
        if let Some(before) = before {
            self.due.remove(&(before, key.clone()));
        }
        if let Some(at) = due {
            self.due.insert((at, key.clone()));
        }
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The items with something due up to `now`, in the order of their keys.
    pub(super) fn due_by(&self, now: Timestamp) -> BTreeSet<K> {
        self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| key.clone()).collect()
    }
}

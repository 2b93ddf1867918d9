//! One Clerk instance: its users, settings, limits, counters and the stream
//! of its effects.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::{Environment, InstanceConfig, Settings};
use crate::counters::Counters;
use crate::error::Error;
use crate::ids::{Ids, seed_of};
use crate::limiter::{Limiter, Peak};
use crate::refusal::Refusal;
use crate::seed::SeedUser;
use crate::store::{Credentials, Store};
use crate::user::User;

/// Something that really happened to a user of an instance through the API.
#[derive(Debug, Clone)]
pub enum Effect {
    /// `POST /users` succeeded.
    Created {
        /// The instance's id.
        instance: String,
        /// The user as it was made.
        user: Arc<User>,
    },
    /// The user or one of its identifiers was changed.
    Updated {
        /// The instance's id.
        instance: String,
        /// The user as it is now.
        user: Arc<User>,
    },
    /// `DELETE /users/{id}` succeeded.
    Deleted {
        /// The instance's id.
        instance: String,
        /// The user as it last was.
        user: Arc<User>,
    },
}

#[derive(Debug)]
struct Gate {
    limiter: Limiter,
    per_route: HashMap<String, Limiter>,
    per_user: HashMap<String, Limiter>,
    seen: Peak,
    accepted: Peak,
    counters: Counters,
}

/// One running instance. All methods may be called from any thread while the
/// server answers; none blocks longer than the copy that it makes.
pub struct Instance {
    id: String,
    label: String,
    environment: Environment,
    publishable_key: String,
    secret_key: String,
    pub(crate) ids: Ids,
    pub(crate) clock: Clock,
    settings: RwLock<Settings>,
    store: Mutex<Store>,
    gate: Mutex<Gate>,
    effects: broadcast::Sender<Effect>,
    pub(crate) last_page: Mutex<Option<Bytes>>,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance")
            .field("id", &self.id)
            .field("label", &self.label)
            .field("environment", &self.environment)
            .finish_non_exhaustive()
    }
}

impl Instance {
    pub(crate) fn new(
        config: InstanceConfig,
        clock: Clock,
        effects: broadcast::Sender<Effect>,
    ) -> Self {
        Self {
            ids: Ids::new(seed_of(&config.id)),
            id: config.id,
            label: config.label,
            environment: config.environment,
            publishable_key: config.publishable_key,
            secret_key: config.secret_key,
            clock,
            settings: RwLock::new(config.settings),
            store: Mutex::default(),
            gate: Mutex::new(Gate {
                limiter: Limiter::new(Instant::now()),
                per_route: HashMap::new(),
                per_user: HashMap::new(),
                seen: Peak::default(),
                accepted: Peak::default(),
                counters: Counters::default(),
            }),
            effects,
            last_page: Mutex::default(),
        }
    }

    /// `ins_…`
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `source`, `target`, or what it was configured as.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Development or production.
    pub fn environment(&self) -> Environment {
        self.environment
    }

    /// `pk_…`
    pub fn publishable_key(&self) -> &str {
        &self.publishable_key
    }

    /// The made-up key that requests carry.
    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }

    /// The settings as they are now.
    pub fn settings(&self) -> Settings {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes settings while the instance runs; the next request sees them.
    pub fn configure(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings.write().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.reveal(Instant::now());
        store
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many users there are, hidden ones included.
    pub fn count(&self) -> usize {
        self.store().len()
    }

    /// Every user by (created_at, id), hidden ones included.
    pub fn users(&self) -> Vec<Arc<User>> {
        let store = self.store();
        store.order().iter().filter_map(|(_, id)| store.get(id).cloned()).collect()
    }

    /// One user by its id.
    pub fn user(&self, id: &str) -> Option<Arc<User>> {
        self.store().get(id).cloned()
    }

    /// One user by its `external_id`.
    pub fn user_by_external_id(&self, external_id: &str) -> Option<Arc<User>> {
        let store = self.store();
        store.by_external(external_id).and_then(|id| store.get(id)).cloned()
    }

    /// The password digest, TOTP secret and so on that a create carried. No
    /// answer ever shows them, so only a test in the same process can ask.
    pub fn credentials(&self, id: &str) -> Option<Credentials> {
        self.store().credentials(id).cloned()
    }

    /// Puts a user in without the API's rules (and without counting it),
    /// as one that signed up long ago. Gives its id.
    ///
    /// # Errors
    /// [`Error::Taken`] when an identifier or the `external_id` has another owner.
    pub fn insert_seed(&self, seed: SeedUser) -> Result<String, Error> {
        let lockout = self.settings().lockout;
        let user = seed.into_user(&self.ids, self.now_ms(), lockout);
        let mut store = self.store();
        if let Some(param) = crate::clerk::claims::first_taken(&store, &user) {
            return Err(Error::Taken { param });
        }
        Ok(store.put(user).id.clone())
    }

    /// The moment as this instance sees it, in Unix milliseconds: the emulator's clock, moved by
    /// the instance's own skew.
    pub fn now_ms(&self) -> i64 {
        let skew = self.settings.read().unwrap_or_else(PoisonError::into_inner).clock_skew_ms;
        self.clock.now_ms().saturating_add(skew)
    }

    /// The owner of an account signs in. Whether it is there. Not counted: it is no request of
    /// the Backend API.
    pub fn sign_in(&self, id: &str) -> bool {
        let now = self.now_ms();
        self.change_user(id, |user| {
            user.last_sign_in_at = Some(now);
            user.last_active_at = Some(now);
            user.updated_at = now;
        })
    }

    /// A session of an account that began earlier goes on. Whether the account is there.
    pub fn be_active(&self, id: &str) -> bool {
        let now = self.now_ms();
        self.change_user(id, |user| user.last_active_at = Some(now))
    }

    /// Takes a user out without the API, as an administrator would elsewhere.
    /// Whether it was there.
    pub fn remove_user(&self, id: &str) -> bool {
        self.store().remove(id).is_some()
    }

    /// Changes a user in place without the API, as its own sign-in or an
    /// administrator would. Whether it was there.
    pub fn change_user(&self, id: &str, change: impl FnOnce(&mut User)) -> bool {
        let mut store = self.store();
        let Some(user) = store.get(id) else { return false };
        let mut user = User::clone(user);
        change(&mut user);
        store.put(user);
        true
    }

    /// The counters as they are now.
    pub fn counters(&self) -> Counters {
        let window_ms = self.window().as_millis();
        let gate = self.gate();
        Counters {
            max_in_window: gate.seen.highest(),
            max_accepted_in_window: gate.accepted.highest(),
            window_ms: u64::try_from(window_ms).unwrap_or(u64::MAX),
            ..gate.counters.clone()
        }
    }

    /// Sets the counters back to nothing; users, limits and settings stay.
    pub fn reset_counters(&self) {
        let mut gate = self.gate();
        gate.counters = Counters::default();
        gate.seen = Peak::default();
        gate.accepted = Peak::default();
    }

    /// Every effect of all instances of this emulator from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Effect> {
        self.effects.subscribe()
    }

    pub(crate) fn tell(&self, effect: Effect) {
        {
            let mut gate = self.gate();
            match &effect {
                Effect::Created { user, .. } => {
                    gate.counters.creates += 1;
                    if let Some(external_id) = &user.external_id {
                        *gate
                            .counters
                            .creates_by_external_id
                            .entry(external_id.clone())
                            .or_default() += 1;
                    }
                }
                Effect::Updated { .. } => gate.counters.updates += 1,
                Effect::Deleted { user, .. } => {
                    gate.counters.deletes += 1;
                    *gate.counters.deletes_by_id.entry(user.id.clone()).or_default() += 1;
                }
            }
        }
        crate::webhook::send(&self.settings(), &effect);
        // An error only says that nobody listens.
        let _nobody = self.effects.send(effect).is_err();
    }

    fn window(&self) -> Duration {
        self.settings
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .rate_limit
            .map_or(Duration::from_secs(10), |limit| Duration::from_millis(limit.window_ms))
    }

    pub(crate) fn note_request(&self, route: String) {
        let window = self.window();
        let second = self.clock.second();
        let mut gate = self.gate();
        gate.seen.see(Instant::now(), window);
        *gate.counters.requests.entry(route).or_default() += 1;
        *gate.counters.per_second.entry(second).or_default() += 1;
    }

    pub(crate) fn note_fault(&self, kind: &str) {
        *self.gate().counters.faults.entry(kind.to_owned()).or_default() += 1;
    }

    /// Lets a request of this route pass the instance's limit, or refuses it
    /// with 429.
    pub(crate) fn admit(&self, route: String) -> Result<(), Refusal> {
        let (limit, apart) = {
            let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
            (settings.rate_limit, settings.rate_limit_per_route)
        };
        let window = self.window();
        let now = Instant::now();
        let mut gate = self.gate();
        let admitted = limit.map_or(Ok(()), |limit| {
            let limiter = if apart {
                gate.per_route.entry(route).or_insert_with(|| Limiter::new(now))
            } else {
                &mut gate.limiter
            };
            limiter.admit(&limit, now)
        });
        match admitted {
            Ok(()) => {
                gate.accepted.see(now, window);
                Ok(())
            }
            Err(wait) => {
                gate.counters.refused_429 += 1;
                Err(Refusal::too_many_requests(whole_seconds(wait)))
            }
        }
    }

    /// The same for changes of one user.
    pub(crate) fn admit_change(&self, user: &str) -> Result<(), Refusal> {
        let limit = self.settings.read().unwrap_or_else(PoisonError::into_inner).user_rate_limit;
        let Some(limit) = limit else { return Ok(()) };
        let now = Instant::now();
        let mut gate = self.gate();
        let limiter = gate.per_user.entry(user.to_owned()).or_insert_with(|| Limiter::new(now));
        let Err(wait) = limiter.admit(&limit, now) else { return Ok(()) };
        gate.counters.refused_429 += 1;
        Err(Refusal::too_many_requests(whole_seconds(wait)))
    }
}

fn whole_seconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1)
}

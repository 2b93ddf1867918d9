//! One life with its deaths, and many of them side by side.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Setting, World};
use crate::Databases;

/// What a process does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// `rehome run`.
    Run,
    /// `rehome rollback`.
    Rollback,
    /// No process of ours: the source moves on.
    Change,
}

impl Act {
    /// Every act.
    pub const ALL: [Self; 3] = [Self::Run, Self::Rollback, Self::Change];

    fn word(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Rollback => "rollback",
            Self::Change => "change",
        }
    }

    fn arguments(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Run => Some(&["run", "--yes", "--json"]),
            Self::Rollback => Some(&["rollback", "--yes", "--json"]),
            Self::Change => None,
        }
    }
}

/// What is done in a fresh world, one process after the other: each dies at the boundary given
/// (counted from 1), or comes to its end. What the last one leaves is then brought to an end and
/// judged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trial {
    /// The world.
    pub setting: Setting,
    /// The processes.
    pub steps: Vec<(Act, Option<u64>)>,
}

/// `files run@17 run@4`, as [`Trial::from_str`] reads it.
impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.setting.databases {
            Databases::None => "none",
            Databases::Sqlite => "files",
            Databases::D1 => "d1",
            Databases::D1Files => "d1-files",
            Databases::InPlace => "in-place",
            Databases::InPlaceD1 => "in-place-d1",
        })?;
        if self.setting.merged {
            f.write_str(MERGED)?;
        }
        for (act, at) in &self.steps {
            write!(f, " {}", act.word())?;
            if let Some(at) = at {
                write!(f, "@{at}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Trial {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let place = words.next().map(|word| match word.strip_suffix(MERGED) {
            Some(place) => (place, true),
            None => (word, false),
        });
        let databases = match place.map(|(place, _)| place) {
            Some("files") => Databases::Sqlite,
            Some("d1") => Databases::D1,
            Some("d1-files") => Databases::D1Files,
            Some("in-place") => Databases::InPlace,
            Some("in-place-d1") => Databases::InPlaceD1,
            other => return Err(format!("{other:?} is not where rows can be")),
        };
        let step = |word: &str| {
            let (name, at) = word.split_once('@').map_or((word, None), |(n, at)| (n, Some(at)));
            let act = Act::ALL.into_iter().find(|act| act.word() == name);
            let at = at.map(str::parse).transpose().map_err(|error| format!("{word}: {error}"))?;
            act.map(|act| (act, at)).ok_or_else(|| format!("{name} is no act"))
        };
        let setting = Setting { databases, merged: place.is_some_and(|(_, merged)| merged) };
        Ok(Self { setting, steps: words.map(step).collect::<Result<_, _>>()? })
    }
}

/// How a trial ended that nothing was wrong with.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// The boundaries at which processes died.
    pub deaths: Vec<String>,
    /// How many processes were done before the boundary that they should have died at.
    pub missed: u64,
    /// The boundaries of each process, of the steps and after them.
    pub reached: Vec<Vec<String>>,
}

impl Trial {
    /// Lives it.
    ///
    /// # Errors
    /// What was wrong, in words.
    pub async fn live(&self) -> Result<Ended, String> {
        let world = World::new(self.setting).await;
        let mut ended = Ended::default();
        let result = self.live_in(&world, &mut ended).await;
        let deaths = ended.deaths.join("`, then at `");
        result.map(|()| ended).map_err(|wrong| {
            format!(
                "{self}: died at `{deaths}`\n{wrong}\n\
                 alone: REHOME_CRASH_TRIAL='{self}' cargo test -p rehome-tests --test crash named"
            )
        })
    }

    async fn live_in(&self, world: &World, ended: &mut Ended) -> Result<(), String> {
        for (act, at) in &self.steps {
            let Some(arguments) = act.arguments() else {
                world.change();
                ended.reached.push(Vec::new());
                continue;
            };
            let (finished, reached) = world.rehome(arguments, *at).await;
            match (finished.code(), at) {
                (None, Some(_)) => {
                    let place = reached.iter().find_map(|line| line.strip_prefix("died: "));
                    ended.deaths.push(place.ok_or("died at no boundary")?.to_owned());
                }
                (Some(0), None) => {}
                (Some(0), Some(_)) => ended.missed += 1,
                // There is nothing to take back, and it says so.
                (Some(_), _) if *act == Act::Rollback && world.is_blank() => {
                    ended.missed += u64::from(at.is_some());
                }
                _ => return Err(format!("{}: {}", act.word(), World::last_word(&finished))),
            }
            ended.reached.push(reached);
            world.replay()?;
        }
        match self.steps.last() {
            Some((Act::Run | Act::Change, _)) | None => {
                let counted = self.steps.iter().all(|(act, _)| *act == Act::Run);
                finish_forth(world, counted, ended).await?;
                finish_back(world, ended).await
            }
            Some((Act::Rollback, _)) => finish_back(world, ended).await,
        }
    }
}

async fn finish_forth(world: &World, counted: bool, ended: &mut Ended) -> Result<(), String> {
    complete(world, Act::Run, ended).await?;
    world.judge_whole(counted).await?;
    let effects = world.stage.effects();
    complete(world, Act::Run, ended).await?;
    if world.stage.effects() != effects {
        return Err("a run after completion changed something".into());
    }
    Ok(())
}

async fn finish_back(world: &World, ended: &mut Ended) -> Result<(), String> {
    if world.is_blank() {
        return world.judge_restored();
    }
    complete(world, Act::Rollback, ended).await?;
    world.judge_restored()?;
    let effects = world.stage.effects();
    complete(world, Act::Rollback, ended).await?;
    if world.stage.effects() != effects {
        return Err("a rollback after the last one changed something".into());
    }
    world.judge_restored()
}

async fn complete(world: &World, act: Act, ended: &mut Ended) -> Result<(), String> {
    let (finished, reached) = world.rehome(act.arguments().unwrap_or_default(), None).await;
    if finished.code() != Some(0) {
        return Err(format!("{} to the end: {}", act.word(), World::last_word(&finished)));
    }
    ended.reached.push(reached);
    world.replay()
}

/// What a trial's first word ends with where tables are merged besides.
const MERGED: &str = "-merged";

/// How many boundaries the last of these acts reaches when nobody disturbs any of them.
///
/// # Panics
/// When that goes wrong.
pub async fn boundaries(setting: impl Into<Setting>, acts: &[Act]) -> u64 {
    let setting = setting.into();
    let index = acts.len() - 1;
    let undisturbed = Trial { setting, steps: acts.iter().map(|act| (*act, None)).collect() };
    let ended = undisturbed.live().await.unwrap_or_else(|wrong| panic!("{wrong}"));
    ended.reached[index].len() as u64
}

/// Prints how often each boundary was the place of a death, and gives how many deaths there were.
#[allow(clippy::print_stdout, reason = "a test shows what it met")]
pub fn tell(lives: &[(Trial, Ended)]) -> u64 {
    let mut deaths: BTreeMap<&str, u64> = BTreeMap::new();
    for name in lives.iter().flat_map(|(_, ended)| &ended.deaths) {
        *deaths.entry(name).or_default() += 1;
    }
    let missed: u64 = lives.iter().map(|(_, ended)| ended.missed).sum();
    let count = deaths.values().sum();
    println!("{} lives, {count} deaths, {missed} done before theirs", lives.len());
    for (name, times) in deaths {
        println!("{times:>5}  {name}");
    }
    count
}

/// Lives all trials, so many at once as keep the machine busy, and gives how each ended, in their
/// order. Every trial is lived, also after one went wrong.
///
/// # Panics
/// When any of them went wrong, with all that did.
pub async fn run_all(trials: Vec<Trial>) -> Vec<(Trial, Ended)> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    // A life is mostly waiting.
    let room = Arc::new(Semaphore::new(cores * 4));
    let mut lives = JoinSet::new();
    let mut names = BTreeMap::new();
    for (number, trial) in trials.iter().cloned().enumerate() {
        let room = Arc::clone(&room);
        let handle = lives.spawn(async move {
            let _place = room.acquire_owned().await.expect("the room stays open");
            (number, trial.live().await)
        });
        names.insert(handle.id(), number);
    }
    let mut ends: Vec<Option<Ended>> = vec![None; trials.len()];
    let mut wrong = Vec::new();
    while let Some(life) = lives.join_next().await {
        match life {
            Ok((number, Ok(ended))) => ends[number] = Some(ended),
            Ok((_, Err(words))) => wrong.push(words),
            Err(error) => {
                let trial = names.get(&error.id()).map(|number| &trials[*number]);
                let trial = trial.map(ToString::to_string).unwrap_or_default();
                wrong.push(format!("{trial}: {error}"));
            }
        }
    }
    let count = wrong.len();
    assert!(wrong.is_empty(), "{count} of {} trials:\n\n{}", trials.len(), wrong.join("\n\n"));
    trials.into_iter().zip(ends.into_iter().flatten()).collect()
}

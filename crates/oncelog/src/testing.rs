//! For tests of programs that use oncelog: what goes wrong, on purpose and from a seed.
//!
//! Your own code, with answers that get lost on the way and power that fails while it runs:
//!
//! ```
//! use std::sync::Arc;
//! use std::thread;
//!
//! use oncelog::testing::{Lossy, SimulatedDisk};
//! use oncelog::{Engine, Env, Error, Record, SystemClock};
//!
//! // The code under test: sends what the log does not have yet.
//! fn import(engine: &Engine, orders: &[String]) -> Result<(), Error> {
//!     let producer = engine.producer().name("import").open()?;
//!     for (position, order) in (0..).zip(orders) {
//!         producer.blocking_send(Record::to("orders").value(order).position(position))?;
//!     }
//!     Ok(producer.blocking_close()?)
//! }
//!
//! fn open(disk: &SimulatedDisk, seed: u64) -> Result<Engine, Error> {
//!     let (disk, clock) = (Arc::new(disk.clone()), Arc::new(SystemClock));
//!     let lossy = Lossy::seed(seed).lose_answers(0.2).repeat(0.1);
//!     let engine = Engine::with_env(Env { disk, clock, seed }).transport(lossy).open()?;
//!     engine.ensure_topic("orders", 3)?;
//!     Ok(engine)
//! }
//!
//! let orders: Vec<String> = (0..500).map(|n| format!("order {n}")).collect();
//! let mut disk = SimulatedDisk::new(42);
//! for seed in 0..5 {
//!     let engine = open(&disk, seed)?;
//!     let running = thread::spawn({
//!         let orders = orders.clone();
//!         move || import(&engine, &orders)
//!     });
//!     // Wherever it is: the next engine finds what the disk kept. This one writes to nobody.
//!     disk = disk.power_cut(seed);
//!     running.join().unwrap()?;
//! }
//! let engine = open(&disk, 5)?;
//! import(&engine, &orders)?;
//! assert_eq!(engine.topic("orders")?.describe().records, 500);
//! # Ok::<(), Error>(())
//! ```

mod disk;
mod lossy;

pub use disk::{
    Crash, Damage, Damaged, DiskCounts, Faults, FileSystem, Kept, SimulatedDisk, SimulatedGate,
    Trace,
};
pub use lossy::{Lossy, LossyCounts};

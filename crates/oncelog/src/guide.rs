//! From opening to errors, with programs that run.
//!
//! The rule for names is that of tokio's channels: **a plain name is `async`, `blocking_` waits on
//! this thread, `try_` never waits.** What waits neither for the disk nor for room has no prefix.
//! No runtime is needed; a `blocking_` call on a worker of one panics and names the other call.
//!
//! # The same run twice
//!
//! ```
//! use std::path::Path;
//!
//! use oncelog::{Engine, Error, Record};
//!
//! fn import(directory: &Path, orders: &[&str]) -> Result<u64, Error> {
//!     let engine = Engine::open(directory)?;
//!     let topic = engine.ensure_topic("orders", 3)?;                  // 3 partitions
//!     let producer = engine.producer().name("import").open()?;        // a name survives restarts
//!     for (line, order) in orders.iter().enumerate() {
//!         producer.blocking_send(Record::to("orders").key(order).value(order).position(line as u64))?;
//!     }
//!     producer.blocking_close()?;                                     // all durable, or an error that says what is not
//!     Ok(topic.describe().records)
//! }
//!
//! # let directory = tempfile::tempdir().unwrap();
//! # let directory = directory.path();
//! let orders = ["A-1", "A-2", "A-3"];
//! import(directory, &orders)?;
//! assert_eq!(import(directory, &orders)?, 3);                         // the same run again: still three
//! # Ok::<(), Error>(())
//! ```
//!
//! # Opening
//!
//! ```
//! use oncelog::{Ack, Create, Engine};
//!
//! # let directory = tempfile::tempdir().unwrap();
//! # let data = directory.path().join("data");
//! let engine = Engine::open(&data)?;                                  // creates or opens
//! engine.close()?;
//!
//! let engine = Engine::builder(&data)
//!     .create(Create::Never)                                          // Missing (default) | Never | New
//!     .ack(Ack::Synced)                                               // level of topics that `ensure_topic` creates
//!     .open()?;
//! println!("{}", engine.opened().summary());                          // what recovery cut, rebuilt, kept
//!
//! let copy = Engine::open_read_only(&data)?;                          // beside the writer: what is durable, and it follows
//! assert!(copy.is_read_only());
//! let fresh = Engine::in_memory();                                    // unit tests: no files, same code
//! # drop((copy, fresh));
//! # Ok::<(), oncelog::Error>(())
//! ```
//!
//! # Producing
//!
//! ```
//! use oncelog::{Compression, Engine, Record, SendError};
//!
//! # struct Order { id: String, json: String }
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! # let engine = Engine::in_memory();
//! # engine.ensure_topic("orders", 1)?;
//! # engine.ensure_topic("audit", 1)?;
//! # let body = String::from("two shirts");
//! # let batch = [1, 2, 3].map(|n| Order { id: format!("A-{n}"), json: format!("{{\"n\":{n}}}") });
//! # let line = "login";
//! let producer = engine.producer().compression(Compression::Lz4).open()?;         // unnamed: a fresh producer id, hidden
//!
//! // One call that is right for most: stored and durable when it returns.
//! let at = producer.append(Record::to("orders").key("A-1").value(&body)).await?;
//! assert_eq!((at.offset, at.duplicate), (Some(0), false));
//!
//! // Many in flight: `send` waits for room only, the ticket for the answer.
//! let mut tickets = Vec::new();
//! for order in &batch {
//!     tickets.push(producer.send(Record::to("orders").key(&order.id).value(&order.json).biz_id(&order.id)).await?);
//! }
//! for ticket in tickets {
//!     ticket.await?;                                                              // or `producer.flush().await?`
//! }
//!
//! match producer.try_send(Record::to("audit").value(line)) {
//!     Ok(ticket) => {
//!         let at = ticket.await?;                                                 // on a plain thread: `blocking_wait`
//!         assert_eq!(at.offset, Some(0));
//!     }
//!     Err(SendError::Full { .. }) => {}                                           // nothing was handed over
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok::<(), oncelog::Error>(())
//! # })?;
//! # Ok::<(), oncelog::Error>(())
//! ```
//!
//! # When the answer is missing
//!
//! After a timeout, a cancelled task or a crash nobody has to guess. A ticket has an
//! [`AppendId`](crate::AppendId), which is a text that can be kept and asked with in another run.
//!
//! ```
//! use oncelog::{AppendError, AppendId, Engine, Error, Resolution, Ticket};
//!
//! async fn settle(engine: &Engine, ticket: Ticket) -> Result<(), Error> {
//!     match ticket.await {
//!         Ok(_at) => {}
//!         Err(AppendError::OutcomeUnknown { id: Some(id), .. }) => match engine.resolve(&id).await? {
//!             Resolution::Written { offset: _ } => {}     // it is there, at this offset
//!             Resolution::NotWritten => {}                // it is not, and never will be: safe to send anew
//!             Resolution::Forgotten(why) => println!("{why}"),    // the log no longer knows
//!             _ => {}
//!         },
//!         Err(error) => return Err(error.into()),         // certainly not written
//!     }
//!     Ok(())
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! # let engine = Engine::in_memory();
//! # engine.ensure_topic("orders", 1)?;
//! # let producer = engine.producer().open()?;
//! # let ticket = producer.send(oncelog::Record::to("orders").value("v")).await?;
//! let text = ticket.id().to_string();
//! settle(&engine, ticket).await?;
//! let id: AppendId = text.parse().unwrap();               // after a restart, say
//! assert_eq!(engine.resolve(&id).await?, Resolution::Written { offset: Some(0) });
//! # Ok::<(), Error>(())
//! # })?;
//! # Ok::<(), Error>(())
//! ```
//!
//! # Named producers
//!
//! ```
//! use oncelog::{Engine, Record, SendError};
//!
//! # let engine = Engine::in_memory();
//! # engine.ensure_topic("events", 3)?;
//! # let source = ["a", "b", "c"];
//! let first = engine.producer().name("feed-7").open()?;
//! let second = engine.producer().name("feed-7").open();
//! assert!(matches!(second, Err(SendError::NameInUse { .. })));        // while another handle lives
//!
//! let feed = engine.producer().name("feed-7").take_over().open()?;    // fences the other one
//! let late = first.try_send(Record::to("events").value("late").position(0));
//! assert!(matches!(late, Err(SendError::Fenced { .. })));
//!
//! let from = feed.resume_from();                          // first position that may be missing: read from here
//! for (position, line) in (0..).zip(source).skip(from as usize) {
//!     feed.blocking_send(Record::to("events").key(line).value(line).position(position))?;
//! }
//! feed.blocking_close()?;
//! # assert_eq!(engine.topic("events")?.describe().records, 3);
//! # Ok::<(), oncelog::Error>(())
//! ```
//!
//! Positions rise strictly. What is stored already is skipped, partition by partition, and its
//! ticket says so; so sending too much is always safe.
//!
//! # Reading
//!
//! ```
//! use std::time::SystemTime;
//!
//! use oncelog::{Engine, Start};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! # let engine = Engine::in_memory();
//! # engine.ensure_topic("orders", 1)?;
//! # let since = SystemTime::UNIX_EPOCH;
//! # engine.producer().open()?.append(oncelog::Record::to("orders").value("two shirts")).await?;
//! # std::thread::scope(|scope| scope.spawn(|| {
//! let mut orders = engine.reader("orders").partition(0).start(Start::Earliest).open()?;
//! for record in orders.blocking_iter() {                              // ends at the end
//!     let record = record?;
//!     println!("{} {:?}", record.offset(), record.value());
//! }
//! # Ok::<(), oncelog::Error>(())
//! # }).join().unwrap())?;
//!
//! let mut live = engine.reader("orders").start(Start::Timestamp(since)).follow().stream()?;
//! while let Some(record) = live.next().await.transpose()? {           // waits for more at the end
//!     println!("{}", record.offset());
//! #   break;
//! }
//! # Ok::<(), oncelog::Error>(())
//! # })?;
//! # Ok::<(), oncelog::Error>(())
//! ```
//!
//! # Consumer groups
//!
//! Members of a group share its partitions. What is not acknowledged before its visibility ends is delivered again, also after a
//! crash; an owner that lost its partition is refused.
//!
//! ```
//! use std::time::Duration;
//!
//! use oncelog::Engine;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! # let engine = Engine::in_memory();
//! # engine.ensure_topic("orders", 1)?;
//! # engine.producer().open()?.append(oncelog::Record::to("orders").value("two shirts")).await?;
//! let member = engine.group("billing").topic("orders").join().await?;
//! for delivery in member.poll(100, Duration::from_secs(30)).await? {
//!     println!("{} for the {}. time", delivery.record().offset(), delivery.deliveries());
//!     delivery.ack().await?;                                          // or `nack`, `extend`, `park`
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A record may come again all the same: the acknowledgement got lost, or the same fact was published twice. With the feature `inbox`, stores of
//! business ids let the effect happen once; with `inbox-runner`, a consumer does all of this around your handler. See the crate's module `inbox`.
//!
//! # Errors
//!
//! One enum for each operation, and [`Error`](crate::Error), their sum. It answers by method what
//! there is to know: may it have been written, and what is the one safe thing to do.
//!
//! ```
//! use oncelog::{Action, Engine, Error, Record};
//!
//! # let engine = Engine::in_memory();
//! # engine.ensure_topic("orders", 1)?;
//! let producer = engine.producer().max_record_bytes(1_000).open()?;
//! let error: Error = producer.blocking_append(Record::to("orders").value(&[0; 2_000])).unwrap_err();
//! assert!(!error.is_outcome_unknown());                               // certainly not written
//! assert!(error.append_id().is_none());                               // nothing to ask `resolve` with
//! assert_eq!(error.action(), Action::FixData);
//! assert!(error.to_string().contains("exceeds max_record_bytes 1000; raise it or split the record"));
//! producer.blocking_append(Record::to("orders").value("small"))?;     // the producer goes on as if nothing had been
//! # Ok::<(), Error>(())
//! ```

// Gate: what the SQLite side asks of the node (implemented by node/, called by vfs/ on SQL threads; never blocks).
// Waiting with a deadline happens here in vfs/ (R1): each call takes a callback that is called exactly once, on any lane.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "pages/tx.h"

namespace vfs {

// The write lease of a database (DESIGN 5.2).
struct Grant {
  base::Term term;
  base::LeaseId lease;
  // SQLite may compare headers once the image has published this transaction of the database
  base::LogId apply_through;
};

enum class OutcomeKind : std::uint8_t {
  kCommitted,   // effective in the log, at `id`
  kNotApplied,  // surely not applied and it never will be: refused, void, absent at the deadline; `error` says why
  kUnknown,     // kUnknownOutcome: the deadline passed, or the node stopped or jumped by snapshot while waiting
};
struct Outcome {
  OutcomeKind kind = OutcomeKind::kUnknown;
  base::LogId id;
  base::Error error;
};

// A captured transaction on its way into the log: header without lease/origin sequence filled by the gate.
struct Submission {
  pages::Tx tx;               // header.lease_term, header.lease from the Grant; header.origin is filled by the gate
  base::Micros deadline = 0;  // Env::now() scale
};

class Gate {
 public:
  virtual ~Gate() = default;
  // Why nothing can be committed through this node again, whoever leads: it has come to its end (kPoisoned, kDiverged, kSuperseded, kStopped).
  // Asked before WRITER, which a lane that broke off may have kept.
  virtual base::Status still_alive() { return base::ok(); }
  // A connection wants WRITER of a database that no local connection holds. kNotLeader / kLearner (names the node that may),
  // kNoQuorum, kWaitingForNodes, kStopped, kPoisoned, kFull, kBusy (queued behind a transaction of another node).
  // The fast path (lease here and free) answers inside the call.
  virtual void acquire_lease(base::DatabaseId db, std::function<void(base::Result<Grant>)> done) = 0;
  // WRITER was unlocked. `committed`: the last transaction that this holder committed ({} = none).
  virtual void release_lease(base::DatabaseId db, base::LeaseId lease, base::LogId committed) = 0;
  // Proposes. The outcome comes from the log only (R7). Called with WRITER held by the submitter.
  virtual void submit(Submission submission, std::function<void(Outcome)> done) = 0;
  // Creates a database cluster-wide; done when this node has it applied and open (its id), or kExists-like errors.
  // An existing database of the name is success (its id).
  virtual void create_database(pages::CreateDatabase create, base::Micros deadline,
                               std::function<void(base::Result<base::DatabaseId>)> done) = 0;
  // A linearizable index (ReadIndex); done(ok) once this node has applied it for every database.
  virtual void barrier(base::Micros deadline, std::function<void(base::Result<base::Index>)> done) = 0;
  // `held` is called when everything that this node has applied is on the disk of its log, and so it stays until release_log(): sync points
  // and checkpoints happen in between (R8; with log_sync = "immediate" it is always so). An error holds nothing: kPoisoned, kStopped, kIo.
  virtual void hold_log(std::function<void(base::Status)> held) = 0;
  virtual void release_log() = 0;
  // Whether what was applied before the call is on the disk of the log. False says nothing.
  [[nodiscard]] virtual bool log_synced() = 0;
  // Monotonic clock of the deadlines.
  virtual base::Micros now() = 0;
  // commit_timeout_ms and the like.
  virtual base::Micros commit_timeout() = 0;
};

}  // namespace vfs

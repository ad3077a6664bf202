// The one table of error codes: name, SQLite primary code, number, meaning. docs/ERRORS.md is made from it.
// The extended SQLite code of an error is `primary | (number << 8)`; numbers start at 64 to stay clear of SQLite's own.
#pragma once

#include <cstdint>
#include <string_view>

// X(name, HQL_NAME, sqlite primary code, number, meaning)
#define HQL_CODES(X)                                                                                               \
  X(kInternal, "INTERNAL", 1, 64, "a bug or an exhausted resource inside the node")                                \
  X(kConfig, "CONFIG", 1, 65, "a configuration key or value is wrong")                                             \
  X(kArgument, "ARGUMENT", 1, 66, "an argument of an SQL function is wrong")                                       \
  X(kNotStarted, "NOT_STARTED", 21, 67, "no node runs in this process; call hql_start()")                          \
  X(kStopped, "STOPPED", 21, 68, "the node was stopped or is stopping")                                            \
  X(kMisuse, "MISUSE", 21, 69, "the call is not possible in this state")                                           \
  X(kForked, "FORKED", 21, 70, "this process was forked from the owner of the node; load and start in the child")  \
  X(kNoQuorum, "NO_QUORUM", 5, 71, "no leader or no majority in time; surely not applied")                         \
  X(kWaitingForNodes, "WAITING_FOR_NODES", 5, 72, "the cluster has not been formed yet")                           \
  X(kTimeout, "TIMEOUT", 5, 73, "a deadline passed; surely not applied")                                           \
  X(kBusy, "BUSY", 5, 74, "another transaction holds the database's write lease")                                  \
  X(kLeaseLost, "LEASE_LOST", 5, 75, "the write lease ended before the commit; surely not applied")                \
  X(kUnknownOutcome, "UNKNOWN_OUTCOME", 10, 76, "the deadline passed while the outcome was not known")             \
  X(kLostWrite, "LOST_WRITE", 10, 77, "a statement of this connection that was reset early was not committed")     \
  X(kCommitted, "COMMITTED", 10, 78, "the transaction is committed although SQLite reported an error")             \
  X(kNotLeader, "NOT_LEADER", 8, 79, "this node may not write; the message names the node that may")               \
  X(kLearner, "LEARNER", 8, 80, "this node is a learner; the message names a node that may write")                 \
  X(kAuth, "AUTH", 23, 81, "a secret is wrong")                                                                    \
  X(kFull, "FULL", 13, 82, "the disk is full; proposals are refused until space returns")                          \
  X(kIo, "IO", 10, 83, "an operation on a file failed")                                                            \
  X(kCorrupt, "CORRUPT", 11, 84, "bytes on disk or from a peer do not match their checksum or format")             \
  X(kDiverged, "DIVERGED", 11, 85, "a database of this node does not have the bytes that the log says")            \
  X(kForeignWrite, "FOREIGN_WRITE", 11, 86, "a program without the extension wrote to a database of the node")     \
  X(kPoisoned, "POISONED", 10, 87, "the log failed, or memory ran out; the node stopped voting and acknowledging") \
  X(kOwned, "OWNED", 14, 88, "the data directory belongs to another live process")                                 \
  X(kAddress, "ADDRESS", 14, 89, "a listen address cannot be used")                                                \
  X(kExists, "EXISTS", 14, 90, "a plain SQLite file of this name exists; hql_import adopts a copy")                \
  X(kNotFound, "NOT_FOUND", 14, 91, "no such database, member or file")                                            \
  X(kRefused, "REFUSED", 1, 92, "the node refuses this use of SQLite; the message says what to do instead")        \
  X(kSuperseded, "SUPERSEDED", 8, 93, "another incarnation has taken this node's place in the cluster")            \
  X(kProtocol, "PROTOCOL", 1, 94, "a peer speaks another protocol version or sent a malformed frame")              \
  X(kTooLarge, "TOO_LARGE", 18, 95, "a value is over its limit")                                                   \
  X(kSql, "SQL", 1, 96, "SQLite's own error; code and message are the original ones")                              \
  X(kPermission, "PERMISSION", 3, 97, "the operating system denied access")                                        \
  X(kInterrupted, "INTERRUPTED", 9, 98, "the statement was interrupted")                                           \
  X(kDropped, "DROPPED", 10, 99, "the database was dropped while this connection was open")                        \
  X(kNewerFormat, "NEWER_FORMAT", 14, 100, "a newer version wrote the data directory; this one leaves it as it is")

namespace base {

enum class Code : std::uint8_t {
#define X(name, text, sqlite, number, meaning) name,
  HQL_CODES(X)
#undef X
};

struct CodeInfo {
  std::string_view name;  // without the "HQL_"
  int sqlite;             // primary SQLite code
  int number;             // ours, see above
  std::string_view meaning;
};

// Never fails: the table is total.
const CodeInfo& code_info(Code code);
// `primary | (number << 8)`.
int extended_code(Code code);
// All codes in table order, for docs and tests.
int code_count();
Code code_at(int position);

}  // namespace base

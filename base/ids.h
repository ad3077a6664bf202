// The numbers of the system as distinct types, so that a term cannot be passed for an index.
// Value types, any thread.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <string>

namespace base {

// A 64-bit number with a meaning. `value` is public: these are names, not guards.
template <class Tag>
struct Number {
  std::uint64_t value = 0;
  constexpr Number() = default;
  constexpr explicit Number(std::uint64_t number) : value(number) {}
  constexpr auto operator<=>(const Number&) const = default;
  constexpr explicit operator bool() const { return value != 0; }
  [[nodiscard]] constexpr Number next() const { return Number(value + 1); }
};

using NodeId = Number<struct NodeIdTag>;            // 1.., configured by the operator; 0 = none
using Incarnation = Number<struct IncarnationTag>;  // random, never 0; one life of a data directory (R10)
using Term = Number<struct TermTag>;                // Raft term; 0 = before the first election
using Index = Number<struct IndexTag>;              // Raft log index of one group; 1 = first entry, 0 = none
using Lsn = Number<struct LsnTag>;                  // position in the node's own segmented log
using DatabaseId = Number<struct DatabaseIdTag>;    // index of the CreateDatabase entry (DESIGN section 4)
using LeaseId = Number<struct LeaseIdTag>;          // unique within one leader term; 0 = none

// Which Raft group of the node a record or a frame belongs to.
enum class Group : std::uint8_t { kData = 1, kCache = 2 };
inline constexpr int kGroupCount = 2;

// A Raft member is one life of a node: the id alone does not say whether its disk was wiped (R10).
struct Member {
  NodeId id;
  Incarnation incarnation;
  auto operator<=>(const Member&) const = default;
  explicit operator bool() const { return id.value != 0; }
};

// A place in a Raft log. Ordered by term first: this is also the "up to date" order of Raft section 5.4.1.
struct LogId {
  Term term;
  Index index;
  auto operator<=>(const LogId&) const = default;
};

// Who made a request or a transaction, unique for ever (R7): `sequence` counts from 1 within one boot.
struct Origin {
  Incarnation incarnation;
  std::uint64_t boot = 0;
  std::uint64_t sequence = 0;
  auto operator<=>(const Origin&) const = default;
};

// Times are microseconds of a monotonic clock of this process; durations too.
using Micros = std::int64_t;
inline constexpr Micros kMillisecond = 1000;
inline constexpr Micros kSecond = 1000 * kMillisecond;

}  // namespace base

template <class Tag>
struct std::hash<base::Number<Tag>> {
  std::size_t operator()(const base::Number<Tag>& number) const noexcept {
    return std::hash<std::uint64_t>()(number.value);
  }
};
template <>
struct std::hash<base::Member> {
  std::size_t operator()(const base::Member& member) const noexcept {
    return std::hash<std::uint64_t>()(member.id.value * 0x9e3779b97f4a7c15ULL ^ member.incarnation.value);
  }
};
template <>
struct std::hash<base::Origin> {
  std::size_t operator()(const base::Origin& origin) const noexcept {
    return std::hash<std::uint64_t>()((origin.incarnation.value ^ origin.boot * 0x9e3779b97f4a7c15ULL) +
                                      origin.sequence * 0xc2b2ae3d27d4eb4fULL);
  }
};

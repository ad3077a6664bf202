// Compares what a node says of itself with what it said and acknowledged before; see node/lives.h.
#include "node/lives.h"

#include <algorithm>

namespace node {
namespace {

constexpr std::size_t kLivesMax = 16;  // incarnations of one id: a copy of any of them may come back

std::string number(std::uint64_t value) { return std::to_string(value); }

}  // namespace

base::Status Lives::check(base::Member member, std::uint64_t boot_nonce, const Hello& hello) {
  const auto known = lives_.find(member);
  if (known == lives_.end()) {
    forget_the_oldest(member.id);
  } else if (boot_nonce != known->second.boot_nonce) {
    if (const std::string what = forgot(known->second, hello); !what.empty())
      // At most what a refusal has room for (docs/FORMATS.md, "Refuse").
      return base::make_error(base::Code::kRefused, "its data_dir is an older copy, or lost what was synced (" + what +
                                                        "); start it with an empty data_dir");
  }
  Life& life = lives_[member];
  life.boot = hello.boot;
  life.boot_nonce = boot_nonce;
  life.unsynced = hello.unsynced;
  life.met = ++connections_;
  if (hello.damaged) {  // what damage has taken is excused for good
    life.term = std::min(life.term, hello.term);
    life.held = std::min(life.held, hello.last.index);
  }
  return base::ok();
}

// Damage (R12) may take anything from the end of a log, and is dealt with by those who count votes. A node that holds no entry of a cluster
// states no term.
std::string Lives::forgot(Life& life, const Hello& hello) {
  if (hello.boot <= life.boot) life.older_start = true;
  if (life.older_start)
    return "start " + number(hello.boot) + " comes after a start " + number(life.boot) + " that it does not know";
  if (hello.damaged) return {};
  if (hello.last.index < life.held)
    return "its log ends at " + number(hello.last.index.value) + ", it has acknowledged " + number(life.held.value);
  if (hello.cluster && hello.term < life.term)
    return "its term is " + number(hello.term.value) + ", it has spoken in " + number(life.term.value);
  return {};
}

void Lives::has_term(base::Member member, base::Term term) {
  if (const auto life = lives_.find(member); life != lives_.end())
    life->second.term = std::max(life->second.term, term);
}

void Lives::held(base::Member member, base::Index index) {
  if (const auto life = lives_.find(member); life != lives_.end() && !life->second.unsynced)
    life->second.held = std::max(life->second.held, index);
}

void Lives::forget_the_oldest(base::NodeId id) {
  std::size_t count = 0;
  auto oldest = lives_.end();
  for (auto it = lives_.begin(); it != lives_.end(); ++it) {
    if (it->first.id != id) continue;
    ++count;
    if (oldest == lives_.end() || it->second.met < oldest->second.met) oldest = it;
  }
  if (count >= kLivesMax) lives_.erase(oldest);
}

}  // namespace node

// Compares what a node says of itself with what it said and acknowledged before; see node/lives.h.
#include "node/lives.h"

#include <algorithm>

namespace node {
namespace {

std::string number(std::uint64_t value) { return std::to_string(value); }

}  // namespace

base::Status Lives::check(base::Member member, std::uint64_t boot_nonce, const Hello& hello) {
  Life& life = lives_[member.id];
  if (life.incarnation != member.incarnation) {
    life = {};
    life.incarnation = member.incarnation;
  } else if (life.forgot.empty() && boot_nonce != life.boot_nonce) {
    // Damage (R12) may take anything from the end of a log, and is dealt with by those who count votes. A node that holds no entry of a
    // cluster states no term.
    if (hello.boot <= life.boot)
      life.forgot = "start " + number(hello.boot) + ", a later start " + number(life.boot) + " is known";
    else if (!hello.damaged && hello.last.index < life.held)
      life.forgot =
          "its log ends at " + number(hello.last.index.value) + ", it has acknowledged " + number(life.held.value);
    else if (!hello.damaged && hello.cluster && hello.term < life.term)
      life.forgot = "its term is " + number(hello.term.value) + ", it has spoken in " + number(life.term.value);
  }
  if (!life.forgot.empty())
    return base::make_error(base::Code::kRefused, "has forgotten what it said before (" + life.forgot +
                                                      "): its data_dir is an older copy, or its disk has lost what was "
                                                      "synced; start it with an empty data_dir");
  life.boot = hello.boot;
  life.boot_nonce = boot_nonce;
  life.unsynced = hello.unsynced;
  return base::ok();
}

void Lives::has_term(base::Member member, base::Term term) {
  if (Life* life = life_of(member)) life->term = std::max(life->term, term);
}

void Lives::held(base::Member member, base::Index index) {
  Life* life = life_of(member);
  if (life && !life->unsynced) life->held = std::max(life->held, index);
}

Lives::Life* Lives::life_of(base::Member member) {
  const auto it = lives_.find(member.id);
  return it == lives_.end() || it->second.incarnation != member.incarnation ? nullptr : &it->second;
}

}  // namespace node
